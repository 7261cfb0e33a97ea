"""What a file is, by what the kernel knows already: its file system is never asked.

A file system in user space may be asked by any look at a file, and may never answer (statx
with AT_STATX_DONT_SYNC does not ask).

Source: statx(2).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from vssemu.linux import libc, mount

_EMPTY_PATH: Final = 0x1000
_DONT_SYNC: Final = 0x4000
_INODE: Final = 0x100
_ROOM: Final = 256
# In struct statx; the numbers of the device are always filled in.
_INODE_AT: Final = slice(32, 40)
_DEVICE_AT: Final = slice(136, 144)


def identity(descriptor: int) -> tuple[int, int]:
    """Return device and inode of an open file, as `st_dev` and `st_ino`. Raises OSError."""
    room = _statx(descriptor, b"", _EMPTY_PATH | _DONT_SYNC, _INODE)
    return os.makedev(*_device(room)), int.from_bytes(room[_INODE_AT], "little")


def device(path: Path) -> tuple[int, int]:
    """Return major and minor number of the device that a file is on. Raises OSError."""
    return _device(_statx(mount.AT_FDCWD, os.fsencode(path), _DONT_SYNC, 0))


def _device(room: bytes) -> tuple[int, int]:
    major, minor = memoryview(room[_DEVICE_AT]).cast("I")
    return major, minor


def _statx(directory: int, path: bytes, flags: int, mask: int) -> bytes:
    name = ctypes.create_string_buffer(path)
    room = ctypes.create_string_buffer(_ROOM)
    pointers = ctypes.addressof(name), ctypes.addressof(room)
    libc.syscall("statx", directory, pointers[0], flags, mask, pointers[1])
    return room.raw
