"""Space set aside for a file before anything is written to it (fallocate).

Owns the call that allocates. Refuses to make do with writing zeroes where a file system
cannot: glibc's posix_fallocate would.

Source: fallocate(2).
"""

from __future__ import annotations

from typing import Final

from vssemu.linux import libc

_KEEP_SIZE: Final = 1


def allocate(fd: int, length: int, *, keep_size: bool = False) -> None:
    """Give a file space for its first bytes; what is there stays.

    length: bytes, > 0; the file is as long afterwards, if it was not, unless its size is kept.
    Takes a moment whatever the length: nothing is written.
    Raises OSError: ENOSPC, with an unknown part allocated; EOPNOTSUPP, EBADF.
    """
    libc.fallocate(fd, _KEEP_SIZE if keep_size else 0, 0, length)
