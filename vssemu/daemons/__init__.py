"""Composition roots: the only place that joins rooms."""
