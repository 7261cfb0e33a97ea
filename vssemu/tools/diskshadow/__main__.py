"""`python -m vssemu.tools.diskshadow`."""

from vssemu.tools.diskshadow.command import main

main()
