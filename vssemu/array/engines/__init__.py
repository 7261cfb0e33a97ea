"""Snapshot engines behind the engine protocol."""
