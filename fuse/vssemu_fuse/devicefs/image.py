"""Reading a copy's raw device for the Image view.

Owns one descriptor a copy, open from its first use until the copy goes, and the count of
reads under way. Refuses to write, and to read a device that is not the copy's.

Reads are direct. The device's cache is shared with the mounted tree, whose file system keeps
blocks there that it changed in memory and never writes (ext4: the journal's super block);
the Image view shows what is on the device. FUSE's own cache is enough: nothing is kept twice.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

ALIGNMENT: Final = 4096
"""Bytes; no smaller than the logical block of any device here."""

_SYS_DEVICES: Final = Path("/sys/dev/block")


def open_block_device(major: int, minor: int) -> int:
    """Open a block device by its number for direct reads and return the descriptor.

    The node is the one in /dev that sysfs names; nothing is made. Raises OSError:
    FileNotFoundError without node or device, ENODEV when the node is of another device.
    """
    uevent = (_SYS_DEVICES / f"{major}:{minor}" / "uevent").read_text(encoding="ascii")
    facts = dict(line.partition("=")[::2] for line in uevent.splitlines())
    node = Path("/dev") / facts["DEVNAME"]
    fd = os.open(node, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    seen = os.fstat(fd)
    if not stat.S_ISBLK(seen.st_mode) or seen.st_rdev != os.makedev(major, minor):
        os.close(fd)
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), str(node))
    return fd


class RawImage:
    """The bytes of one copy, for any number of readers.

    opener: returns a descriptor of the raw device, which then belongs to this object.
    """

    def __init__(self, opener: Callable[[], int]) -> None:
        self._opener = opener
        self._fd = -1
        self._reading = 0
        self._closed = trio.Event()
        self._retired = False

    def open(self) -> None:
        """Open the device unless it is open. Raises OSError; ESTALE after `retire`."""
        if self._retired:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        if self._fd < 0:
            self._fd = self._opener()

    async def read(self, offset: int, length: int) -> memoryview:
        """Return `length` bytes from `offset`, fewer at the end of the device.

        Raises OSError; ESTALE after `retire`.
        """
        self.open()
        self._reading += 1
        try:
            return await trio.to_thread.run_sync(_read_direct, self._fd, offset, length)
        finally:
            self._reading -= 1
            self._close_when_idle()

    async def retire(self) -> None:
        """Refuse everything from now on; return when the descriptor is closed."""
        self._retired = True
        self._close_when_idle()
        if self._fd >= 0:
            await self._closed.wait()

    def _close_when_idle(self) -> None:
        if self._fd < 0 or self._reading or not self._retired:
            return
        fd, self._fd = self._fd, -1
        os.close(fd)
        self._closed.set()


def _read_direct(fd: int, offset: int, length: int) -> memoryview:
    start = offset - offset % ALIGNMENT
    end = -(-(offset + length) // ALIGNMENT) * ALIGNMENT
    # Memory for direct reads must be aligned, and that of mmap is.
    buffer = mmap.mmap(-1, end - start, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    filled = os.preadv(fd, [buffer], start)
    return memoryview(buffer)[offset - start : min(offset - start + length, filled)]
