"""Advisory locks on whole files and devices, with a time limit; and on single bytes.

flock(2): the lock belongs to the open file and ends with its last descriptor, also when
the holder is killed. udev takes the same lock on a device before it probes it.

The kernel has no time limit for this call. When the lock is not free at once, the program
flock(1) waits in our place: it inherits the descriptor, and with it what it obtains.

Source: flock(2), flock(1); fcntl(2), "Open file description locks"; systemd, "Locking Block
Device Access".
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vssemu.linux import libc
from vssemu.linux.run import ProgramFailed, run

_NOT_OBTAINED: Final = 75
_GRACE: Final = 5.0


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Lock an open file or device if that is possible at once; tell whether it was.

    An exclusive lock turns into a shared one, or back, not in one step.
    Raises OSError naming the file.
    """
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        error.filename = libc.name_of(fd)
        raise
    return True


def lock(fd: int, *, seconds: float, shared: bool = False) -> None:
    """Lock an open file or device, waiting for others at most so long.

    Blocks the calling thread. Raises TimeoutError naming the file, FileNotFoundError
    without the program flock, OSError.
    """
    if try_lock(fd, shared=shared):
        return
    how = "--shared" if shared else "--exclusive"
    limit = ["--timeout", f"{seconds:.3f}", "--conflict-exit-code", str(_NOT_OBTAINED)]
    try:
        run(["flock", how, *limit, str(fd)], pass_fds=[fd], timeout=seconds + _GRACE)
    except ProgramFailed as error:
        if error.status != _NOT_OBTAINED:
            raise
        text = f"still locked by others after {seconds:g} s"
        raise TimeoutError(errno.ETIMEDOUT, text, libc.name_of(fd)) from None


def unlock(fd: int) -> None:
    """Give the lock of an open file up; without one, do nothing. Raises OSError."""
    fcntl.flock(fd, fcntl.LOCK_UN)


@contextmanager
def locked(
    path: str | Path, *, seconds: float, shared: bool = False, flags: int = os.O_RDONLY
) -> Iterator[int]:
    """Open a file or device and hold its lock during the block; gives the descriptor.

    flags: of open(2); O_CREAT makes a lock file that only its owner reads. Raises what
    `lock` raises, and OSError when it cannot be opened.
    """
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        lock(fd, seconds=seconds, shared=shared)
        yield fd
    finally:
        os.close(fd)


def try_lock_byte(fd: int, number: int) -> bool:
    """Lock the byte `number` of an open file if that is possible at once; tell whether it was.

    The byte need not be there: bytes of a file, or of a device node, serve as names that
    several processes share. The lock belongs to the open file (F_OFD_SETLK, Linux 3.15), so
    it ends with its last descriptor, and a second `open` of this process is another holder.
    Locks of whole files, above, do not see it. fd: open for writing.
    Raises OSError naming the file: EBADF when it is not open for writing.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _byte(fcntl.F_WRLCK, number))
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        error.filename = libc.name_of(fd)
        raise
    return True


def unlock_byte(fd: int, number: int) -> None:
    """Give the lock of a byte up; without one, do nothing. Raises OSError."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _byte(fcntl.F_UNLCK, number))


def _byte(kind: int, number: int) -> bytes:
    """Return a struct flock: type, whence, start, length, pid (0 for these locks)."""
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, number, 1, 0)
