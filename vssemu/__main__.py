"""`python -m vssemu` is the command `vssemu`."""

from vssemu.tools.main import main

main()
