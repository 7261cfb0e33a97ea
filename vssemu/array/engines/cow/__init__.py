"""Copies by copy on write: LUNs are nodes of chains, which lunfs serves."""
