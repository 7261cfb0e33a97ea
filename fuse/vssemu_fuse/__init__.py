"""FUSE programs: `devicefs`, device objects of a host; `lunfs`, LUNs of an array."""
