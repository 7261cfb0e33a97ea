"""Reflinks: files that share their blocks until one of them is written.

Owns FICLONE and FICLONERANGE. Refuses to copy when cloning is not possible.

A clone of N extents holds the source's lock all the while (about 10 us an extent), so
writers to the source wait.

Source: ioctl_ficlonerange(2), include/uapi/linux/fs.h; kernel 4.5.
"""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from ctypes import c_int64, c_uint64
from pathlib import Path
from typing import Final

from vssemu.linux import libc

_FICLONE: Final = libc.io_write(0x94, 9, 4)
_BLOCK: Final = 4096
_CANNOT: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS})


class _Range(ctypes.Structure):
    _fields_ = (
        ("source", c_int64),
        ("source_offset", c_uint64),
        ("length", c_uint64),
        ("offset", c_uint64),
    )


_FICLONERANGE: Final = libc.io_write(0x94, 13, ctypes.sizeof(_Range))


def clone(source: int, target: int) -> None:
    """Make a file share all blocks of another, which it then equals in bytes and length.

    source: open for reading. target: open for writing, of the same file system.
    Raises OSError naming the target: EXDEV, EOPNOTSUPP, EINVAL, ENOSPC, EPERM.
    """
    libc.ioctl(target, _FICLONE, source)


def clone_range(source: int, target: int, *, source_offset: int, length: int, offset: int) -> None:
    """Make a range of a file share blocks with a range of another, or punch it if a hole.

    source_offset, length, offset: bytes, multiples of the file system's block; length 0
    stands for all up to the end of the source.
    Raises OSError naming the target: EXDEV, EOPNOTSUPP, EINVAL, ENOSPC, EPERM.
    """
    argument = _Range(source=source, source_offset=source_offset, length=length, offset=offset)
    libc.ioctl(target, _FICLONERANGE, argument)


def can_clone(directory: str | Path) -> bool:
    """Tell whether files in a directory can be cloned, by cloning one.

    The two small files have no lasting names. Raises OSError when they cannot be made:
    EACCES, ENOENT, EROFS, ENOSPC.
    """
    content = os.urandom(_BLOCK)
    with (
        tempfile.TemporaryFile(dir=directory) as source,
        tempfile.TemporaryFile(dir=directory) as target,
    ):
        source.write(content)
        source.flush()
        try:
            clone(source.fileno(), target.fileno())
        except OSError as error:
            if error.errno in _CANNOT:
                return False
            raise
        return os.pread(target.fileno(), _BLOCK + 1, 0) == content
