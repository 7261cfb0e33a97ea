"""The writer base class, its runner, and the writers that come with vssemu."""
