"""The VSS service: sessions, the creation sequence, registries, catalog."""
