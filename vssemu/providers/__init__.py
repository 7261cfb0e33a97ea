"""The provider runner and the providers that come with vssemu."""
