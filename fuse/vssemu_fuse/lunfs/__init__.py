"""lunfs: LUNs of an array as files, with snapshots by copy-on-write (dm-snapshot's format)."""
