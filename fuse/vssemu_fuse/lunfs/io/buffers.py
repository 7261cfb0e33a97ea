"""Page-aligned memory for transfers: one piece for each request, and rooms that are lent.

What is made here is never given back: with mlockall it stays resident, so that serving a
request never waits for memory that the request itself would have to free.
"""

from __future__ import annotations

import mmap
from typing import Final

from vssemu_fuse.lunfs.io.work import Gate

SCRATCH: Final = (2 << 20) + (16 << 10)
"""Bytes of a room for copying: for chunks, the largest of which has 1 MiB, and some blocks."""

ROOMS: Final = 8

_ZEROES: Final = 1 << 20


def aligned(size: int) -> memoryview:
    """Return `size` bytes of zeroed memory of their own, from the start of a page on."""
    return memoryview(mmap.mmap(-1, size))


class Scratch:
    """Rooms that copying borrows, for all chains of a shard. zeroes: not to be written to."""

    def __init__(self, rooms: int = ROOMS, size: int = SCRATCH) -> None:
        self.size = size
        self._free = [aligned(size) for _ in range(rooms)]
        self.returned = Gate()
        self.zeroes = aligned(_ZEROES)

    def take(self) -> memoryview | None:
        """Borrow a room; None when there is none: wait for `returned` and try again.

        Nobody waits while he has one.
        """
        return self._free.pop() if self._free else None

    def give(self, room: memoryview) -> None:
        """Give a room back; nothing may be under way in it."""
        self._free.append(room)
        self.returned.open()
