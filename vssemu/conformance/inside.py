"""`python -m vssemu.conformance.inside LAB HOST COMMAND...`: run a program on a host.

Its streams and its exit status are this process's; 1 and one line when it cannot be run.
"""

import sys

from vssemu.lab.lab import Lab
from vssemu.vss.errors import VssError


def main() -> None:
    """Run the program."""
    name, host, *argv = sys.argv[1:]
    try:
        status = Lab(name).execute(host, argv)
    except (VssError, OSError) as error:
        sys.exit(str(error))
    sys.exit(status)


if __name__ == "__main__":
    main()
