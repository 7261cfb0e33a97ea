"""devicefs: the file system of a host's device objects."""
