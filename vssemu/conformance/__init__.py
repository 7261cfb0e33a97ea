"""What those who build on vssemu test with: the fixtures of the pytest plugin."""
