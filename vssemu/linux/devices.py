"""Device nodes: making them, and opening a device that has none.

Refuses to name or place nodes by itself; the *fence* that says which devices a group of
processes may open is in `device_fence`.

Source: mknod(2), include/uapi/linux/kdev_t.h.
"""

from __future__ import annotations

import enum
import os
import stat
from typing import Final

from vssemu.linux import mount

_NODE: Final = "node"


class DeviceKind(enum.Enum):
    """The two kinds of devices, as the file type of their nodes."""

    BLOCK = stat.S_IFBLK
    CHARACTER = stat.S_IFCHR


def make_node(
    directory: int, name: str, kind: DeviceKind, major: int, minor: int, *, mode: int = 0o600
) -> None:
    """Make a device node in the directory of a descriptor.

    mode: permission bits, exactly, whatever the umask. Needs CAP_MKNOD and, where a device
    fence is set, leave to make that node.
    Raises OSError naming the node: FileExistsError, PermissionError, ENOENT.
    """
    try:
        os.mknod(name, kind.value | mode, os.makedev(major, minor), dir_fd=directory)
        os.chmod(name, mode, dir_fd=directory)
    except OSError as error:
        error.filename = name
        raise


def open_by_number(kind: DeviceKind, major: int, minor: int, flags: int = os.O_RDONLY) -> int:
    """Open a device by its numbers, whether or not /dev has a node; return the descriptor.

    The node stands for a moment on a file system that nobody else can see. Needs CAP_MKNOD
    and CAP_SYS_ADMIN; kernel 5.2.
    Raises OSError: PermissionError, ENXIO when there is no such device.
    """
    nowhere = mount.detached_mount("tmpfs", None, {"size": "4k"}, read_only=False)
    try:
        make_node(nowhere, _NODE, kind, major, minor)
        return os.open(_NODE, flags | os.O_CLOEXEC, dir_fd=nowhere)
    except OSError as error:
        error.filename = f"{kind.name.lower()} device {major}:{minor}"
        raise
    finally:
        os.close(nowhere)
