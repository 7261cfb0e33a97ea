"""The host agent: volumes, arrival, the hold, device objects."""
