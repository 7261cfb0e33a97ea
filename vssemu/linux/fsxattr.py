"""Extended flags and allocation hints of a file (FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR).

Owns the two calls and the structure. Refuses to know which file system honours what:
ext4 has the flags, the extent sizes are xfs's.

Source: ioctl_xfs_fsgetxattr(2), include/uapi/linux/fs.h; kernel 4.5.
"""

from __future__ import annotations

import ctypes
import enum
import errno
from ctypes import c_uint8, c_uint32
from dataclasses import dataclass
from typing import Final

from vssemu.linux import libc


class FileFlag(enum.IntFlag):
    """FS_XFLAG_*: those that say something here; others are kept as they are."""

    IMMUTABLE = 0x8
    APPEND = 0x10
    NODUMP = 0x80
    PROJECT_INHERIT = 0x200
    EXTENT_SIZE = 0x800
    EXTENT_SIZE_INHERIT = 0x1000
    COW_EXTENT_SIZE = 0x10000


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("flags", c_uint32),
        ("extent_size", c_uint32),
        ("extents", c_uint32),
        ("project", c_uint32),
        ("cow_extent_size", c_uint32),
        ("padding", c_uint8 * 8),
    )


_GET: Final = libc.io_read("X", 31, ctypes.sizeof(_Attributes))
_SET: Final = libc.io_write("X", 32, ctypes.sizeof(_Attributes))


@dataclass(frozen=True, kw_only=True, slots=True)
class FileAttributes:
    """extent_size, cow_extent_size: bytes, 0 for the default. extents: how many there are."""

    flags: FileFlag
    extent_size: int
    cow_extent_size: int
    extents: int
    project: int


def attributes(fd: int) -> FileAttributes:
    """Return the flags and hints of an open file or directory. Raises OSError: ENOTTY."""
    raw = _get(fd)
    return FileAttributes(
        flags=FileFlag(raw.flags),
        extent_size=raw.extent_size,
        cow_extent_size=raw.cow_extent_size,
        extents=raw.extents,
        project=raw.project,
    )


def set_cow_extent_size(fd: int, size: int) -> None:
    """Set how much an xfs allocates at once for a write to shared blocks.

    size: bytes, a multiple of the file system's block; 0 restores the default of 128 KiB,
    with which scattered small writes use up far more space than they have data. On a
    directory it holds for files made there later.
    Raises OSError: EINVAL for a size that does not fit the blocks, EOPNOTSUPP or ENOTTY for
    a file system that cannot. (ext4 takes the call and forgets it, so it is read back.)
    """
    raw = _get(fd)
    raw.cow_extent_size = size
    if size:
        raw.flags |= FileFlag.COW_EXTENT_SIZE
    else:
        raw.flags &= ~FileFlag.COW_EXTENT_SIZE
    libc.ioctl(fd, _SET, raw)
    if _get(fd).cow_extent_size != size:
        raise OSError(errno.EOPNOTSUPP, "the file system does not keep it", libc.name_of(fd))


def _get(fd: int) -> _Attributes:
    raw = _Attributes()
    libc.ioctl(fd, _GET, raw)
    return raw
