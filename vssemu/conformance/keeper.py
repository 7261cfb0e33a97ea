"""A process that takes a lab down when another process has died.

`python -m vssemu.conformance.keeper LAB PID START`: process and moment of its start, as
`vssemu.linux.processes` has them. It waits in a session of its own, which a terminal's
interrupt does not reach.
"""

import sys
import time

from vssemu.linux import processes

_LOOK_SECONDS = 3600.0


def main() -> None:
    """Wait for the end of the process; then take the lab down."""
    name, pid, start = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    watched = processes.ProcessIdentity(pid=pid, start_ticks=start)
    while processes.wait_gone([watched], time.monotonic() + _LOOK_SECONDS):
        pass
    # Only now: a keeper that is not needed costs little.
    from vssemu.lab.lab import Lab

    Lab(name).down(force=True)


if __name__ == "__main__":
    main()
