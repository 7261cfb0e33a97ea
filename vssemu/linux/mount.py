"""Mounts: the table, the classic calls, and the descriptor-based ones.

Owns mount(2) and its successors (fsopen, fsconfig, fsmount, move_mount, open_tree,
mount_setattr; kernel 5.2, the last one 5.12) and the parser of mountinfo.
Refuses to choose options: what is asked is what the kernel gets.

A mount made with the new calls is *detached*: it hangs on a descriptor alone until it is
attached, and ends with that descriptor if it never is. It is attached through another
descriptor, so that no path is walked and no name is trusted.

Source: mount(2), proc(5); include/uapi/linux/mount.h, Documentation/filesystems/mount_api.rst.
"""

from __future__ import annotations

import ctypes
import enum
import os
import re
from collections.abc import Mapping
from ctypes import c_uint64
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vssemu.linux import libc
from vssemu.linux.blockdev import DeviceNumber

AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_OPEN_TREE_CLONE: Final = 1
_OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_MOVE_FROM_EMPTY_PATH: Final = 0x04
_MOVE_TO_EMPTY_PATH: Final = 0x40
_MOVE_BENEATH: Final = 0x200
_SET_FLAG: Final = 0
_SET_STRING: Final = 1
_CMD_CREATE: Final = 6
_CMD_RECONFIGURE: Final = 7


class MountFlag(enum.IntFlag):
    """MS_*: flags of mount(2)."""

    READ_ONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    REMOUNT = 32
    NOATIME = 1024
    BIND = 4096
    MOVE = 8192
    RECURSIVE = 16384
    SILENT = 32768


class UnmountFlag(enum.IntFlag):
    """Flags of umount2(2)."""

    FORCE = 1
    DETACH = 2
    EXPIRE = 4
    NOFOLLOW = 8


class MountAttribute(enum.IntFlag):
    """MOUNT_ATTR_*: properties of one mount, not of the file system under it."""

    READ_ONLY = 0x01
    NOSUID = 0x02
    NODEV = 0x04
    NOEXEC = 0x08
    NOATIME = 0x10
    NODIRATIME = 0x80
    NOSYMFOLLOW = 0x200000


class Propagation(enum.IntEnum):
    """What a mount passes on to its peers, as MS_* of mount(2)."""

    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class MountFacts:
    """One line of mountinfo.

    root: the directory of the file system that is at mount_point. options: of the mount;
    super_options: of the file system. propagation: such as "shared:5", "master:2".
    """

    mount_id: int
    parent_id: int
    device: DeviceNumber
    root: str
    mount_point: Path
    options: tuple[str, ...]
    propagation: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...]


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", c_uint64),
        ("clear", c_uint64),
        ("propagation", c_uint64),
        ("userns", c_uint64),
    )


def mounts(pid: int | None = None) -> list[MountFacts]:
    """Return the mounts that a process sees, in the order of mountinfo.

    pid: the process; None for this one. Raises OSError: FileNotFoundError when it is gone.
    """
    path = Path(f"/proc/{'self' if pid is None else pid}/mountinfo")
    return parse_mountinfo(os.fsdecode(path.read_bytes()))


def parse_mountinfo(text: str) -> list[MountFacts]:
    r"""Return the mounts that the text of a mountinfo file lists.

    Octal escapes (\040 for a blank) are resolved. Raises ValueError for a bad line.
    """
    return [_parse_line(line) for line in text.split("\n") if line]


def mount(
    source: str | Path | None,
    target: str | Path,
    fstype: str | None = None,
    flags: MountFlag = MountFlag(0),  # noqa: B008  # an immutable constant
    options: str | None = None,
) -> None:
    """Mount something the classic way (mount(2)). Needs CAP_SYS_ADMIN.

    Raises OSError naming the target: EBUSY, EINVAL (also: no such file system there),
    ENODEV (unknown type), EROFS, ENOENT.
    """
    libc.mount(None if source is None else str(source), str(target), fstype, flags, options)


def unmount(target: str | Path, flags: UnmountFlag = UnmountFlag(0)) -> None:  # noqa: B008
    """Unmount what is uppermost at a path (umount2(2)). Needs CAP_SYS_ADMIN.

    Raises OSError naming the target: EBUSY while in use, EINVAL for no mount point.
    """
    libc.umount2(str(target), flags)


def bind(source: str | Path, target: str | Path, *, recursive: bool = False) -> None:
    """Make a directory or file visible at a second path as well.

    recursive: with the mounts below it. Raises OSError naming the target.
    """
    flags = MountFlag.BIND | (MountFlag.RECURSIVE if recursive else MountFlag(0))
    libc.mount(str(source), str(target), None, flags, None)


def set_propagation(
    target: str | Path, propagation: Propagation, *, recursive: bool = False
) -> None:
    """Change what a mount passes on to its peers and receives from them.

    recursive: also for all mounts below it. Raises OSError: EINVAL for no mount point.
    """
    flags = propagation | (MountFlag.RECURSIVE if recursive else 0)
    libc.mount(None, str(target), None, flags, None)


def fsopen(fstype: str) -> int:
    """Return a descriptor in which a new file system is configured (kernel 5.2).

    Raises OSError: ENODEV for an unknown type, EPERM.
    """
    name = ctypes.create_string_buffer(os.fsencode(fstype))
    return libc.syscall("fsopen", ctypes.addressof(name), _FSOPEN_CLOEXEC, filename=fstype)


def fsconfig_set(context: int, key: str, value: str | None = None) -> None:
    """Set an option of the file system being configured.

    value: its text; None sets a flag such as "ro". The key "source" is the device.
    Raises OSError naming the option, with the kernel's own words where it gives some.
    """
    word = ctypes.create_string_buffer(os.fsencode(key))
    text = None if value is None else ctypes.create_string_buffer(os.fsencode(value))
    command = _SET_FLAG if text is None else _SET_STRING
    pointer = 0 if text is None else ctypes.addressof(text)
    name = key if value is None else f"{key}={value}"
    _configure(context, command, ctypes.addressof(word), pointer, filename=name)


def fsconfig_create(context: int, *, filename: str | None = None) -> None:
    """Make the configured file system: read its super block, replay its log.

    filename: what an error names. Raises OSError, with the kernel's own words where it
    gives some: EINVAL for no such file system there, EBUSY, EROFS, EUCLEAN.
    """
    _configure(context, _CMD_CREATE, 0, 0, filename=filename)


def fsmount(context: int, attributes: MountAttribute) -> int:
    """Return a descriptor of a detached mount of the file system that was made.

    Raises OSError: EPERM, EBUSY.
    """
    return libc.syscall("fsmount", context, _FSMOUNT_CLOEXEC, attributes)


def detached_mount(
    fstype: str,
    source: str | Path | None,
    options: Mapping[str, str | None] | None = None,
    *,
    read_only: bool,
    attributes: MountAttribute = MountAttribute(0),  # noqa: B008
) -> int:
    """Mount a file system nowhere and return the descriptor that holds it.

    source: the device, None for a type without one. options: of the file system; None as
    value makes a flag. read_only: of both the file system and the mount. attributes:
    further ones of the mount. Closing the descriptor unmounts it, unless it was attached;
    it is an O_PATH descriptor, so look inside through `dir_fd`.
    Raises OSError naming the option or the source, with the kernel's own words where it
    gives some. Kernel 5.2; needs CAP_SYS_ADMIN.
    """
    context = fsopen(fstype)
    try:
        if source is not None:
            fsconfig_set(context, "source", str(source))
        if read_only:
            fsconfig_set(context, "ro")
            attributes |= MountAttribute.READ_ONLY
        for key, value in (options or {}).items():
            fsconfig_set(context, key, value)
        fsconfig_create(context, filename=fstype if source is None else str(source))
        return fsmount(context, attributes)
    finally:
        os.close(context)


def attach(mounted: int, directory: int, *, beneath: bool = False) -> None:
    """Put a detached mount, or a clone of a tree, onto the directory of a descriptor.

    mounted: from `detached_mount` or `clone_tree`; it stays open and usable.
    directory: any descriptor of the directory, O_PATH too. No path is walked: the mount
    lands there even while a look-up of that directory's name is under way.
    beneath: slide the mount in below the one whose root the directory is (kernel 6.5;
    EINVAL before); nothing is seen of it until that one is unmounted.
    Raises OSError naming the directory: ENOTDIR, EINVAL when it was attached before or the
    directory is of another mount namespace.
    """
    empty = ctypes.create_string_buffer(b"")
    pointer = ctypes.addressof(empty)
    flags = _MOVE_FROM_EMPTY_PATH | _MOVE_TO_EMPTY_PATH | (_MOVE_BENEATH if beneath else 0)
    name = libc.name_of(directory)
    libc.syscall("move_mount", mounted, pointer, directory, pointer, flags, filename=name)


def clone_tree(path: str | Path, *, at: int = AT_FDCWD, recursive: bool = False) -> int:
    """Return a descriptor of a detached bind mount of a directory or file.

    path: below the directory descriptor `at` unless absolute; "" stands for `at` itself.
    recursive: with the mounts below it. Kernel 5.2; needs CAP_SYS_ADMIN.
    Raises OSError naming the path.
    """
    text = str(path)
    name = ctypes.create_string_buffer(os.fsencode(text))
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    flags |= (_AT_RECURSIVE if recursive else 0) | (0 if text else _AT_EMPTY_PATH)
    filename = text or libc.name_of(at)
    return libc.syscall("open_tree", at, ctypes.addressof(name), flags, filename=filename)


def change_attributes(
    mounted: int | str | Path,
    *,
    add: MountAttribute = MountAttribute(0),  # noqa: B008
    remove: MountAttribute = MountAttribute(0),  # noqa: B008
    propagation: Propagation | None = None,
    recursive: bool = False,
) -> None:
    """Change properties of a mount given by descriptor or mount point (mount_setattr).

    recursive: of all mounts below as well, all or none. Kernel 5.12.
    Raises OSError naming the mount: EBUSY when made read-only while written to, EINVAL.
    """
    change = _Attributes(
        set=add, clear=remove, propagation=0 if propagation is None else int(propagation)
    )
    flags = _AT_RECURSIVE if recursive else 0
    if isinstance(mounted, int):
        at, path, name = mounted, "", libc.name_of(mounted)
        flags |= _AT_EMPTY_PATH
    else:
        at, path, name = AT_FDCWD, str(mounted), str(mounted)
    text = ctypes.create_string_buffer(os.fsencode(path))
    pointers = ctypes.addressof(text), ctypes.addressof(change)
    size = ctypes.sizeof(change)
    libc.syscall("mount_setattr", at, pointers[0], flags, pointers[1], size, filename=name)


def _configure(context: int, command: int, key: int, value: int, *, filename: str | None) -> None:
    try:
        libc.syscall("fsconfig", context, command, key, value, 0, filename=filename)
    except OSError as error:
        words = _complaints(context)
        if not words or error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror} ({words})", filename) from None


def _complaints(context: int) -> str:
    """Return the errors and warnings that the kernel left in a configuration descriptor."""
    lines: list[str] = []
    while True:
        try:
            line = os.read(context, 4096)
        except OSError:  # ENODATA: no more of them
            return "; ".join(lines)
        level, _, words = os.fsdecode(line).partition(" ")
        if level in {"e", "w"}:
            lines.append(words.strip())


def _parse_line(line: str) -> MountFacts:
    before, separator, after = line.partition(" - ")
    fields = before.split(" ")
    rest = after.split(" ")
    if not separator or len(fields) < 6 or len(rest) < 3:
        raise ValueError(f"not a line of mountinfo: {line!r}")
    major, _, minor = fields[2].partition(":")
    return MountFacts(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        device=DeviceNumber(major=int(major), minor=int(minor)),
        root=_unescape(fields[3]),
        mount_point=Path(_unescape(fields[4])),
        options=tuple(fields[5].split(",")),
        propagation=tuple(fields[6:]),
        fstype=_unescape(rest[0]),
        source=_unescape(rest[1]),
        super_options=tuple(_unescape(option) for option in rest[2].split(",")),
    )


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
