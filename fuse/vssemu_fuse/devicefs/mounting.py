"""The FUSE mount of devicefs: made nowhere, then put in the place of a dead one.

Owns the mount options, and the order in which a devicefs replaces the mount of a killed
predecessor whose connection nobody kept. Refuses to replace one that still answers.

A new mount slides in *beneath* the dead one (kernel 6.5), which is then detached. So the
path never lacks a mount: until that instant walks whose names the kernel remembers still
reach the trees mounted on the dead one. On older kernels the dead one is detached first,
and for some microseconds the path shows the empty directory below.

Source: move_mount(2); include/uapi/linux/fuse.h; Linux, fs/fuse/inode.c (fuse_fs_parameters).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vssemu.linux import fuse, mount
from vssemu.linux.mount import MountAttribute, MountFacts, UnmountFlag
from vssemu_fuse.devicefs import names
from vssemu_fuse.devicefs.names import View

FSTYPE: Final = "fuse.vssemu"
_SUBTYPE: Final = "vssemu"
_BDI: Final = Path("/sys/class/bdi")
READ_AHEAD_KIB: Final = 1024
"""One FUSE request carries at most 1 MiB (libfuse 3.14)."""


@dataclass(frozen=True, slots=True)
class DetachedFuse:
    """A FUSE file system mounted nowhere. Both descriptors belong to the holder."""

    connection: int
    mounted: int


def make() -> DetachedFuse:
    """Make a FUSE file system that nothing serves yet.

    Read-only for root too, block devices allowed, permissions checked by the kernel.
    Raises OSError: FileNotFoundError or EPERM for /dev/fuse, EPERM without CAP_SYS_ADMIN.
    """
    connection = fuse.open_connection()
    options = {
        "subtype": _SUBTYPE,
        "fd": str(connection),
        "rootmode": "40000",
        "user_id": "0",
        "group_id": "0",
        "allow_other": None,
        "default_permissions": None,
    }
    try:
        mounted = mount.detached_mount(
            "fuse",
            "vssemu",
            options,
            read_only=True,
            attributes=MountAttribute.NOSUID | MountAttribute.NOEXEC,
        )
    except OSError:
        os.close(connection)
        raise
    return DetachedFuse(connection, mounted)


def install(mounted: int, mountpoint: Path) -> None:
    """Put a served FUSE mount at its place, instead of dead ones.

    mounted: closed here, so that nothing but its users keeps the mount busy.

    May block while somebody else's FUSE mount there neither answers nor is dead.
    Raises OSError: EBUSY when a devicefs that answers is mounted there, ENOENT, EINVAL.
    """
    try:
        _replace(ours(mountpoint), mounted, mountpoint)
    finally:
        os.close(mounted)


def _replace(dead: Sequence[MountFacts], mounted: int, mountpoint: Path) -> None:
    if dead and _answers(mountpoint):
        raise OSError(errno.EBUSY, "another devicefs serves this mount point", str(mountpoint))
    for _ in dead[1:]:
        mount.unmount(mountpoint, UnmountFlag.DETACH)
    if not dead:
        _attach(mounted, mountpoint, beneath=False)
        return
    try:
        _attach(mounted, mountpoint, beneath=True)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mount.unmount(mountpoint, UnmountFlag.DETACH)
        _attach(mounted, mountpoint, beneath=False)
    else:
        mount.unmount(mountpoint, UnmountFlag.DETACH)


def remove(mount_id: int, mountpoint: Path) -> None:
    """Detach an installed mount, and every tree mounted on its names.

    mount_id: as it was when it was installed. What is open goes on reading. Nothing is done when
    that mount is not the uppermost one there any more. Raises OSError: EPERM.
    """
    there = ours(mountpoint)
    if there and there[-1].mount_id == mount_id:
        mount.unmount(mountpoint, UnmountFlag.DETACH)


def ours(mountpoint: Path) -> list[MountFacts]:
    """Return the devicefs mounts at a path, dead or alive, the uppermost last."""
    return [
        each for each in mount.mounts() if each.mount_point == mountpoint and each.fstype == FSTYPE
    ]


def mount_id(mountpoint: Path) -> int:
    """Return the id of the uppermost devicefs mount. Raises OSError: ENOTCONN for none."""
    there = ours(mountpoint)
    if not there:
        raise OSError(errno.ENOTCONN, "unmounted by somebody else", str(mountpoint))
    return there[-1].mount_id


def trees(mountpoint: Path) -> set[int]:
    """Return the numbers of the copies whose trees are mounted on their names."""
    devices = mountpoint / View.DEVICE.value
    found = [
        names.parse_copy_name(os.fsencode(each.mount_point.name))
        for each in mount.mounts()
        if each.mount_point.parent == devices
    ]
    return {number for number in found if number is not None}


def set_read_ahead(mountpoint: Path) -> None:
    """Let the kernel read the Image view in the largest requests that FUSE carries.

    The kernel's own default is 128 KiB. Raises OSError, such as EROFS for a read-only /sys.
    """
    device = ours(mountpoint)[-1].device
    knob = _BDI / f"{device.major}:{device.minor}" / "read_ahead_kb"
    knob.write_text(str(READ_AHEAD_KIB), encoding="ascii")


def _attach(mounted: int, mountpoint: Path, *, beneath: bool) -> None:
    directory = os.open(mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mount.attach(mounted, directory, beneath=beneath)
    finally:
        os.close(directory)


def _answers(mountpoint: Path) -> bool:
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return False
        raise
    return True
