"""The storage array: pool, LUNs, masking, journal, engines."""
