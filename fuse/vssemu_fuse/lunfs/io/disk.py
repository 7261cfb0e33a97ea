"""One file of the pool, an image or an exception store: read and written past every cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from vssemu.linux import fallocate, sparse
from vssemu.linux.aio import Io, Rooms, flushing, reading, writing
from vssemu_fuse.lunfs.io.work import Work


class Disk(Protocol):
    """What chains read and write. Offsets, lengths: bytes, multiples of 4096, inside the size.

    Memory: page-aligned. A write and a zeroing are durable after a flush that was begun when
    they were done. Nothing but `zero`, `data_extents` and `refresh` raises at once.
    """

    @property
    def size(self) -> int:
        """Bytes, as of the opening or the last `refresh`."""

    def read(self, rooms: Rooms, offset: int) -> Work[int]:
        """Fill the rooms, one after the other, with the bytes from `offset` on."""

    def write(self, rooms: Rooms, offset: int) -> Work[int]:
        """Write the rooms' bytes, one after the other, from `offset` on."""

    def flush(self) -> Work[object]:
        """Make durable what was done before."""

    def zero(self, offset: int, length: int) -> None:
        """Make a hole, which reads as zeroes, now. Raises OSError."""

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield offset and length of what is not known to be a hole. Raises OSError."""

    def refresh(self) -> None:
        """Take over the size of a file that has grown. Raises OSError."""

    def close(self) -> None:
        """Let go of the file; nothing may be under way. Again is no error."""


class FileDisk:
    """A file with O_DIRECT; owns the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size

    @classmethod
    def open(cls, path: Path, *, directory: int | None = None) -> FileDisk:
        """Open a file that is there. Raises OSError: EINVAL without direct I/O."""
        return cls(os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC, dir_fd=directory))

    def read(self, rooms: Rooms, offset: int) -> Io:
        """As `Disk.read`."""
        return reading(self._fd, rooms, offset)

    def write(self, rooms: Rooms, offset: int) -> Io:
        """As `Disk.write`."""
        return writing(self._fd, rooms, offset)

    def flush(self) -> Io:
        """As `Disk.flush`."""
        return flushing(self._fd)

    def zero(self, offset: int, length: int) -> None:
        """As `Disk.zero`."""
        fallocate.punch(self._fd, offset, length)

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """As `Disk.data_extents`; read on from wherever it is taken up again."""
        return sparse.data_extents(self._fd, offset, offset + length)

    def fileno(self) -> int:
        """Return the descriptor, which stays the disk's."""
        return self._fd

    def refresh(self) -> None:
        """As `Disk.refresh`."""
        self.size = os.fstat(self._fd).st_size

    def close(self) -> None:
        """As `Disk.close`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
