"""Space set aside for a file before anything is written to it, and given back (fallocate).

Owns the call that allocates and the one that punches. Refuses to make do with writing zeroes
where a file system cannot: glibc's posix_fallocate would.

Source: fallocate(2).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from vssemu.linux import libc

_KEEP_SIZE: Final = 1
_PUNCH_HOLE: Final = 2


def allocated(path: Path) -> int:
    """Return the bytes that a file has on its disk, 0 for one that is not there."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def allocate(fd: int, length: int, *, offset: int = 0, keep_size: bool = False) -> None:
    """Give a file space for a range of bytes; what is there stays.

    offset, length: bytes, length > 0; the file is as long afterwards, if it was not, unless
    its size is kept. XFS wants free blocks for the whole range, what has some included.
    Takes a moment whatever the length: nothing is written.
    Raises OSError: ENOSPC, with an unknown part allocated; EOPNOTSUPP, EBADF.
    """
    libc.fallocate(fd, _KEEP_SIZE if keep_size else 0, offset, length)


def punch(fd: int, offset: int, length: int) -> None:
    """Make a hole of a range, which reads as zeroes then; the file's size stays.

    offset, length: bytes. Raises OSError: EOPNOTSUPP, EBADF, EPERM.
    """
    libc.fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, offset, length)
