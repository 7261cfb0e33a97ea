"""Mounting what lies on a device of this host, and taking mounts away.

Owns the options of each file system, the rules for letter directories and folders, and the
questions to the mount table. Synchronous: callers run it in threads.

xfs needs `nouuid` always: a copy has its origin's UUID, and on a machine of several hosts the
kernel knows both. `norecovery` and `noload` are never used: on a copy that was made without a
freeze they show an empty tree.
"""

import errno
import os
from pathlib import Path
from typing import Final

from vssemu.host.names import AccessPath
from vssemu.linux import filesystems, freeze, mount
from vssemu.linux.blockdev import DeviceNumber
from vssemu.linux.mount import MountAttribute, MountFacts, MountFlag, UnmountFlag
from vssemu.vss.errors import InvalidArgument, VolumeNotSupported
from vssemu.vss.fabric import BoundDevice

_OF_ORIGINS: Final = {"ext4": "discard", "xfs": "nouuid,discard"}
_OF_COPIES: Final[dict[str, dict[str, str | None]]] = {"xfs": {"nouuid": None}}
_QUIET: Final = MountAttribute.NOSUID | MountAttribute.NODEV


def number_of(device: BoundDevice) -> DeviceNumber:
    """Return the numbers of a bound device."""
    return DeviceNumber(major=device.major, minor=device.minor)


def filesystem_on(device: BoundDevice) -> str:
    """Return the file system's type. Raises VolumeNotSupported when none is known there."""
    descriptor = os.open(device.node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = filesystems.probe(descriptor)
    finally:
        os.close(descriptor)
    if found is None:
        raise VolumeNotSupported(
            f"{device.node}: no file system that this host knows",
            hint="format it; ext4 and xfs are supported",
            item=device.node,
        )
    return found.kind.value


def mount_volume(device: BoundDevice, place: AccessPath) -> None:
    """Mount a volume at a place, unless it is mounted there already.

    Read-only when the device is. Raises OSError, InvalidArgument, VolumeNotSupported.
    """
    if is_mounted_at(number_of(device), place.directory):
        return
    kind = filesystem_on(device)
    flags = MountFlag.READ_ONLY if device.read_only else MountFlag(0)
    options = "nouuid" if kind == "xfs" else None
    if not device.read_only:
        options = _OF_ORIGINS.get(kind)
    prepare(place)
    try:
        mount.mount(device.node, place.directory, kind, flags, options)
    except OSError:
        tidy(place)
        raise


def detached_copy(device: BoundDevice, kind: str) -> int:
    """Mount a copy read-only, nowhere, and return the descriptor that holds the mount.

    On a writable device its log is replayed by this. Raises OSError.
    """
    options = _OF_COPIES.get(kind)
    return mount.detached_mount(kind, device.node, options, read_only=True, attributes=_QUIET)


def replay_log(device: BoundDevice) -> str:
    """Mount a device read-only where nobody sees it, unmount it; return its file system.

    A writable device has its log replayed by this. Raises OSError: EROFS for a log on one that
    is not; VolumeNotSupported.
    """
    kind = filesystem_on(device)
    os.close(detached_copy(device, kind))
    return kind


def mount_copy(device: BoundDevice, kind: str, place: AccessPath) -> None:
    """Mount a copy read-only at a place, unless it is mounted there already.

    Raises OSError, InvalidArgument.
    """
    if is_mounted_at(number_of(device), place.directory):
        return
    prepare(place)
    try:
        mounted = detached_copy(device, kind)
        try:
            directory = os.open(place.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                mount.attach(mounted, directory)
            finally:
                os.close(directory)
        finally:
            os.close(mounted)
    except OSError:
        tidy(place)
        raise


def prepare(place: AccessPath) -> None:
    """Make a letter's directory, or see that a folder is there and empty.

    Raises InvalidArgument for a folder that will not do, OSError EBUSY for a place that
    something is mounted at.
    """
    if place.is_letter:
        place.directory.mkdir(parents=True, exist_ok=True)
    elif not place.directory.is_dir():
        raise InvalidArgument(f"{place.name}: there is no such folder", item=place.name)
    if any(each.mount_point == place.directory for each in mount.mounts()):
        text = "something is mounted there"
        raise OSError(errno.EBUSY, text, str(place.directory))
    if any(place.directory.iterdir()):
        fact = f"{place.name}: the folder is not empty"
        raise InvalidArgument(fact, hint="mount at an empty folder", item=place.name)


def tidy(place: AccessPath) -> None:
    """Remove a letter's directory when nothing is in it or on it."""
    if place.is_letter:
        try:
            place.directory.rmdir()
        except OSError:
            return


def unmount(device: DeviceNumber, place: AccessPath, *, lazily: bool) -> None:
    """Unmount a device from a place, if it is there.

    lazily: its users keep what they have open. Raises OSError: EBUSY while in use.
    """
    if is_mounted_at(device, place.directory):
        flags = UnmountFlag.NOFOLLOW | (UnmountFlag.DETACH if lazily else UnmountFlag(0))
        mount.unmount(place.directory, flags)
    tidy(place)


def is_mounted_at(device: DeviceNumber, directory: Path) -> bool:
    """Return whether the uppermost mount at a directory is of the device."""
    there = [each for each in mount.mounts() if each.mount_point == directory]
    return bool(there) and there[-1].device == device


def mounts_of(device: DeviceNumber) -> list[MountFacts]:
    """Return the mounts of a device that this host sees."""
    return [each for each in mount.mounts() if each.device == device]


def unmount_everywhere(device: DeviceNumber) -> None:
    """Unmount a device lazily from every place that this host can name."""
    for each in reversed(mounts_of(device)):
        try:
            mount.unmount(each.mount_point, UnmountFlag.DETACH | UnmountFlag.NOFOLLOW)
        except OSError as error:
            # Under a dead FUSE mount the path cannot be walked; that mount takes it along.
            if error.errno not in {errno.ENOTCONN, errno.EINVAL, errno.ENOENT, errno.ESTALE}:
                raise


def shut_down(device: BoundDevice, kind: str) -> None:
    """Make everything of a copy's file system answer EIO, also what is open. Raises OSError."""
    mounted = detached_copy(device, kind)
    try:
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mounted)
        try:
            freeze.shut_down(descriptor, freeze.Shutdown.DROP_LOG)
        finally:
            os.close(descriptor)
    finally:
        os.close(mounted)
