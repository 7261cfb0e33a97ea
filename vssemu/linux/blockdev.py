"""Block devices, whatever is behind them: size, cache, read-only switch, discard, numbers.

Thin calls on open descriptors. Knows nothing of loop devices (see loop).

Source: include/uapi/linux/fs.h (BLK*), block/ioctl.c.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from dataclasses import dataclass
from typing import Final

from vssemu.linux import libc

_BLKROSET: Final = libc.io_none(0x12, 93)
_BLKROGET: Final = libc.io_none(0x12, 94)
_BLKFLSBUF: Final = libc.io_none(0x12, 97)
_BLKSSZGET: Final = libc.io_none(0x12, 104)
_BLKGETSIZE64: Final = libc.io_read(0x12, 114, 8)
_BLKDISCARD: Final = libc.io_none(0x12, 119)
_BLKZEROOUT: Final = libc.io_none(0x12, 127)


class _Range(ctypes.Structure):
    _fields_ = (("start", ctypes.c_uint64), ("length", ctypes.c_uint64))


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceNumber:
    """The two numbers that name a device to the kernel."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}:{self.minor}"


def size(fd: int) -> int:
    """Return the size in bytes of a block device or a regular file.

    Raises OSError: EBADF; EINVAL for anything else.
    """
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    if not stat.S_ISBLK(status.st_mode):
        raise OSError(errno.EINVAL, "neither a block device nor a file", libc.name_of(fd))
    number = libc.LongNumber()
    libc.ioctl(fd, _BLKGETSIZE64, number)
    return int(number.value)


def logical_block_size(fd: int) -> int:
    """Return the logical block size in bytes. Raises OSError: ENOTTY for no block device."""
    number = libc.Number()
    libc.ioctl(fd, _BLKSSZGET, number)
    return int(number.value)


def flush_buffers(fd: int) -> None:
    """Write out and drop the device's own page cache (BLKFLSBUF).

    After it, a buffered read of this device sees what another device over the same
    bytes (a partition bound by itself) has written. Needs CAP_SYS_ADMIN.
    Raises OSError: EACCES, ENOTTY.
    """
    libc.ioctl(fd, _BLKFLSBUF)


def is_read_only(fd: int) -> bool:
    """Tell whether writes to the device are refused. Raises OSError."""
    number = libc.Number()
    libc.ioctl(fd, _BLKROGET, number)
    return bool(number.value)


def set_read_only(fd: int, read_only: bool) -> None:
    """Set or clear the device's read-only switch (BLKROSET). Needs CAP_SYS_ADMIN.

    Clearing it does not make a loop device writable whose backing descriptor is not.
    Raises OSError: EACCES, ENOTTY.
    """
    libc.ioctl(fd, _BLKROSET, libc.Number(value=read_only))


def discard(fd: int, start: int, length: int) -> None:
    """Tell the device that a range holds nothing of worth (BLKDISCARD).

    start, length: bytes, multiples of the logical block size. What is read there
    afterwards is up to the device; a loop device over a file punches a hole (zeroes).
    Raises OSError: EOPNOTSUPP, EINVAL, EBADF for a descriptor opened read-only.
    """
    libc.ioctl(fd, _BLKDISCARD, _Range(start=start, length=length))


def zero_out(fd: int, start: int, length: int) -> None:
    """Make a range read as zeroes (BLKZEROOUT).

    start, length: bytes, multiples of the logical block size.
    Raises OSError: EINVAL, EBADF for a descriptor opened read-only.
    """
    libc.ioctl(fd, _BLKZEROOUT, _Range(start=start, length=length))


def device_number(fd: int) -> DeviceNumber:
    """Return the numbers of the device that a descriptor of its node stands for.

    Raises OSError: EBADF; ENODEV when it is not a device.
    """
    status = os.fstat(fd)
    if not (stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode)):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), libc.name_of(fd))
    return DeviceNumber(major=os.major(status.st_rdev), minor=os.minor(status.st_rdev))
