"""Whether this machine can carry a lab, found by trying."""

import os
from functools import cache

from vssemu.linux import cgroup, loop


@cache
def lacks() -> str | None:
    """Return what this machine lacks for a lab, in words; None: nothing."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        number = loop.free_number()
        os.close(loop.open_device(number))
    except OSError as error:
        return f"no loop device can be had: {error}"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"no FUSE: {error}"
    base = cgroup.find_cgroup2()
    if base is None:
        return "no control groups of version 2 are mounted"
    probe = base / f"vssemu-probe-{os.getpid()}"
    try:
        cgroup.create(probe)
    except OSError as error:
        return f"no control group can be made: {error}"
    cgroup.remove(probe)
    return None
