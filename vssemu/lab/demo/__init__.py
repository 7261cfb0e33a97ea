"""The demo: both seed flows of VSS transport on real data, a line and a figure a step."""
