"""The memory of a process: how much it has, and that it keeps and gets it.

Owns the account of the kernel, mlockall, and the flag of those who serve block devices: they
never wait for memory that is to be had by writing to these devices.

Source: proc(5), /proc/pid/smaps_rollup (kernel 4.14); mlockall(2), MCL_ONFAULT (kernel 4.4);
PR_SET_IO_FLUSHER(2const) (kernel 5.6).
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vssemu.linux import libc

_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
_PR_SET_IO_FLUSHER: Final = 57


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


def lock_all() -> None:
    """Keep in memory what this process has there, and all that it gets from now on.

    Stacks and files are not read in as a whole: what was never touched takes no memory.
    Raises OSError: EPERM or ENOMEM without CAP_IPC_LOCK.
    """
    libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)


def set_io_flusher() -> None:
    """Have no allocation of this thread, and of those it starts, wait for file systems or I/O.

    Raises OSError: EPERM without CAP_SYS_RESOURCE, EINVAL before kernel 5.6.
    """
    libc.prctl(_PR_SET_IO_FLUSHER, 1)
