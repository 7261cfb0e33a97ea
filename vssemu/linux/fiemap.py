"""Extent maps of files (FS_IOC_FIEMAP): how many extents a file has.

The count walks the whole map: about 1 us an extent, more while others share the blocks.
Refuses to interpret what is shared with whom.

Source: Documentation/filesystems/fiemap.rst, include/uapi/linux/fiemap.h.
"""

from __future__ import annotations

import ctypes
from ctypes import c_uint32, c_uint64
from typing import Final

from vssemu.linux import libc


class _Map(ctypes.Structure):
    _fields_ = (
        ("start", c_uint64),
        ("length", c_uint64),
        ("flags", c_uint32),
        ("mapped_extents", c_uint32),
        ("extent_count", c_uint32),
        ("reserved", c_uint32),
    )


_FIEMAP: Final = libc.io_both("f", 11, ctypes.sizeof(_Map))
_SYNC: Final = 0x1
_WHOLE: Final = 2**64 - 1


def count_extents(fd: int) -> int:
    """Return how many extents a file has; holes are none.

    Dirty pages are written first (FIEMAP_FLAG_SYNC): without that the map lacks what was
    written through the page cache. Raises OSError: EOPNOTSUPP, EBADF.
    """
    # extent_count 0 asks for the number alone.
    request = _Map(start=0, length=_WHOLE, flags=_SYNC, extent_count=0)
    libc.ioctl(fd, _FIEMAP, request)
    return int(request.mapped_extents)
