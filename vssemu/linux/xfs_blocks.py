"""Blocks that an xfs holds for writes to come (XFS_IOC_FREE_EOFBLOCKS).

Past the end of files that grow, and for writes to shared blocks. The kernel gives them back
by itself after minutes, or when it has nothing left.

Source: fs/xfs/libxfs/xfs_fs.h; kernel 3.8.
"""

from __future__ import annotations

import ctypes
from ctypes import c_uint32, c_uint64
from typing import Final

from vssemu.linux import libc


class _Request(ctypes.Structure):
    _fields_ = (
        ("version", c_uint32),
        ("flags", c_uint32),
        ("user", c_uint32),
        ("group", c_uint32),
        ("project", c_uint32),
        ("padding", c_uint32),
        ("smallest_file", c_uint64),
        ("padding_64", c_uint64 * 12),
    )


_FREE: Final = libc.io_read("X", 58, ctypes.sizeof(_Request))
_VERSION: Final = 1
_SYNC: Final = 1


def free_preallocated(fd: int) -> None:
    """Have an xfs give back what it holds for writes to come; returns when it has.

    fd: any directory or file of it. Raises OSError: ENOTTY for another file system, EPERM
    without CAP_SYS_ADMIN, EROFS.
    """
    libc.ioctl(fd, _FREE, _Request(version=_VERSION, flags=_SYNC))
