"""File systems that live on without a mount: a freeze, or a descriptor, keeps them.

Such a file system has its block device for as long as it lives. Mounting the device once more
gives the very same file system, frozen as it is; where nobody sees the mount, nobody is in its
way. Refuses to judge whether it should go.

Source: fs/super.c, get_tree_bdev and freeze_super.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

from vssemu.linux import filesystems, freeze, loop, mount

_FREEZABLE: Final = ("ext4", "xfs", "btrfs")


def thaw_device(number: int) -> bool:
    """Thaw the file system on a loop device; return whether it was frozen.

    It is mounted for a moment, by a mount without a place. One that nothing else keeps ends
    with that mount, and its device with it.
    Raises OSError when the device holds no file system known here, or cannot be mounted.
    """
    tree = _mounted_as_any(number, _kinds(number))
    try:
        return _thaw(tree)
    finally:
        os.close(tree)


def _kinds(number: int) -> tuple[str, ...]:
    """Return what the file system on a device may be."""
    device = loop.open_device(number)
    try:
        facts = filesystems.probe(device)
    except OSError:
        # What is below has failed for good; to find a file system that lives nothing is read.
        return _FREEZABLE
    finally:
        os.close(device)
    if facts is None:
        text = "holds no file system known here"
        raise OSError(errno.EINVAL, text, str(loop.node(number)))
    return (facts.kind.value,)


def _mounted_as_any(number: int, kinds: tuple[str, ...]) -> int:
    for kind in kinds[:-1]:
        with contextlib.suppress(OSError):
            return _mounted(number, kind)
    return _mounted(number, kinds[-1])


def _mounted(number: int, kind: str) -> int:
    # A live file system accepts only the mode it is in, read/write or read-only.
    try:
        return mount.detached_mount(kind, loop.node(number), read_only=False)
    except OSError:
        return mount.detached_mount(kind, loop.node(number), read_only=True)


def _thaw(tree: int) -> bool:
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
    try:
        freeze.thaw(root)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    finally:
        os.close(root)
    return True
