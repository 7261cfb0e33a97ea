"""The demo: both flows of VSS transport on real data, on either snapshot engine.

A line and a figure for each step; of the second engine, what differs.
"""
