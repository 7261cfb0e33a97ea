"""The control socket of a lunfs."""
