"""Hosts as namespaces, clean-up, the demo."""
