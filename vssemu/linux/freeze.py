"""Freezing file systems: stop all writes, let them go on, make them reach the disk.

Owns FIFREEZE, FITHAW, syncfs and the shutdown request. Refuses to keep time or to
remember what is frozen: a frozen file system outlives its mounts and the process that
froze it, so whoever freezes has somebody else watch.

All calls take an O_RDONLY descriptor of any directory of the file system; O_PATH gives
EBADF. Such a descriptor keeps mount and device alive until it is closed.

Source: ioctl_fs(2), include/uapi/linux/fs.h, fs/ext4/ext4.h, fs/xfs/libxfs/xfs_fs.h.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Final

from vssemu.linux import libc
from vssemu.linux.libc import syncfs as syncfs

_FREEZE: Final = libc.io_both("X", 119, 4)
_THAW: Final = libc.io_both("X", 120, 4)
# EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are the same number.
_SHUTDOWN: Final = libc.io_read("X", 125, 4)


class Shutdown(enum.IntEnum):
    """How a file system goes down at once."""

    FLUSH_DATA = 0
    FLUSH_LOG = 1
    DROP_LOG = 2


def open_directory(path: str | Path) -> int:
    """Return a descriptor fit for the calls here. Raises OSError: ENOTDIR, ENOENT, EACCES."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def freeze(fd: int) -> None:
    """Flush a file system and block all writes to it until it is thawed (FIFREEZE).

    Returns when dirty data and the log are on the device and the state is consistent.
    Writers then wait uninterruptibly: not even SIGKILL ends them before the thaw.
    Needs CAP_SYS_ADMIN. Raises OSError: EBUSY when frozen already, EOPNOTSUPP when the file
    system cannot, EBADF for O_PATH.
    """
    libc.ioctl(fd, _FREEZE)


def thaw(fd: int) -> None:
    """Let the writes to a frozen file system go on (FITHAW).

    Needs CAP_SYS_ADMIN. Raises OSError: EINVAL when it is not frozen, EBADF for O_PATH.
    """
    libc.ioctl(fd, _THAW)


def shut_down(fd: int, how: Shutdown) -> None:
    """End a file system at once, as a loss of power would; it answers EIO from then on.

    For ext4, xfs and f2fs. It stays mounted until it is unmounted. Needs CAP_SYS_ADMIN.
    Raises OSError: ENOTTY for other file systems.
    """
    number = libc.Number(value=how)
    libc.ioctl(fd, _SHUTDOWN, number)
