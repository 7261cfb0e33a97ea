"""Extent maps of files (FS_IOC_FIEMAP), as arrays.

A map of N extents takes 1 to 3 us an extent, more while others share the blocks. It is read
in batches, each by one call without the interpreter lock. Refuses to interpret what is shared
with whom: `SHARED` is true of a block, whoever else has it.

Source: Documentation/filesystems/fiemap.rst, include/uapi/linux/fiemap.h.
"""

from __future__ import annotations

import ctypes
import enum
from ctypes import c_uint32, c_uint64
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vssemu.linux import libc

BATCH: Final = 16_384
"""Extents a call: 900 KiB of answer, some 30 ms."""


class ExtentFlag(enum.IntFlag):
    """FIEMAP_EXTENT_*: those of which something follows."""

    LAST = 0x1
    UNKNOWN = 0x2
    DELAYED = 0x4
    ENCODED = 0x8
    NOT_ALIGNED = 0x100
    INLINE = 0x200
    UNWRITTEN = 0x800
    SHARED = 0x2000


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
_WHOLE: Final = 2**63 - 1
_EXTENT: Final = np.dtype(
    [
        ("logical", "=i8"),
        ("physical", "=i8"),
        ("length", "=i8"),
        ("reserved64", "=u8", 2),
        ("flags", "=u4"),
        ("reserved", "=u4", 3),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Extents:
    """Extents of a file in the order of their offsets; four arrays of one length.

    logical, physical, length: bytes. physical: a place of the file system's own, to be
    compared alone. flags: of `ExtentFlag`.
    """

    logical: NDArray[np.int64]
    physical: NDArray[np.int64]
    length: NDArray[np.int64]
    flags: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.logical)


def extents(fd: int) -> Extents:
    """Return the whole map of an open file; holes have no extents.

    Dirty pages are written first (FIEMAP_FLAG_SYNC): without that the map lacks what was
    written through the page cache. A file that is written meanwhile gives each extent as it
    was at some moment of the call. Raises OSError: EOPNOTSUPP, EBADF.
    """
    room = ctypes.create_string_buffer(ctypes.sizeof(_Map) + BATCH * _EXTENT.itemsize)
    request = _Map.from_buffer(room)
    answer = np.frombuffer(memoryview(room), dtype=_EXTENT, offset=ctypes.sizeof(_Map))
    batches: list[NDArray[np.void]] = []
    start, flags = 0, _SYNC
    while True:
        request.start, request.length = start, _WHOLE - start
        request.flags, request.extent_count, request.mapped_extents = flags, BATCH, 0
        libc.ioctl(fd, _FIEMAP, room)
        count = request.mapped_extents
        if not count:
            break
        batches.append(answer[:count].copy())
        last = answer[count - 1]
        start, flags = int(last["logical"] + last["length"]), 0
        if int(last["flags"]) & ExtentFlag.LAST:
            break
    found = np.concatenate(batches) if batches else np.empty(0, dtype=_EXTENT)
    return Extents(
        logical=np.ascontiguousarray(found["logical"]),
        physical=np.ascontiguousarray(found["physical"]),
        length=np.ascontiguousarray(found["length"]),
        flags=np.ascontiguousarray(found["flags"]),
    )
