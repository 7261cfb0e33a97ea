"""How much memory a process has, as the kernel accounts it.

Source: proc(5), /proc/pid/smaps_rollup (kernel 4.14).
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Resident memory in bytes.

    rss: all pages of the process. pss: each page by the number of processes that share it, so
    that the sum over processes counts every page once.
    """

    rss: int
    pss: int


def memory_of(pid: int) -> Memory:
    """Return the memory of a process; costs about a millisecond.

    Raises ProcessLookupError when it is gone or ending, PermissionError.
    """
    path = Path(f"/proc/{pid}/smaps_rollup")
    try:
        text = path.read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(path)) from None
    sizes = {}
    for line in text.splitlines()[1:]:
        name, _, value = line.partition(":")
        sizes[name] = int(value.split()[0]) * 1024
    return Memory(rss=sizes["Rss"], pss=sizes["Pss"])
