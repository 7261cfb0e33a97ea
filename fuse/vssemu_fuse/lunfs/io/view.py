"""What is served as a file: an origin, a snapshot, or one of them behind a fault or a log.

Offsets and lengths are bytes, multiples of BLOCK, inside the size. Nothing raises at once:
what is wrong comes out of the request or operation that is returned (EINVAL, EIO, ENOSPC).

Whoever asks for a request or operation runs it, at once and in the order of asking: the
view counts it as under way from then on. Memory stays untouched by others until it is done.
"""

from __future__ import annotations

from typing import Final, Protocol

from vssemu_fuse.lunfs.io.work import Work

BLOCK: Final = 4096


class View(Protocol):
    """The bytes of a LUN."""

    @property
    def size(self) -> int:
        """Bytes; may grow."""

    def read(self, room: memoryview, offset: int) -> Work[int]:
        """Fill the room; gives the bytes read, all of them."""

    def write(self, data: memoryview, offset: int) -> Work[int]:
        """Write the bytes; gives their number. Durable after a flush."""

    def flush(self) -> Work[object]:
        """Make durable what was written before; what it gives means nothing."""

    def zero(self, offset: int, length: int) -> Work[object]:
        """Have a range read as zeroes, without room on the disk; durable after a flush."""
