"""Copies by the file system: LUNs are files, a copy is a clone."""
