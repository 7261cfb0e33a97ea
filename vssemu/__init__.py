"""vssemu: the Volume Shadow Copy Service on real Linux block devices."""
