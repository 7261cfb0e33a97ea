"""Loop devices: bind, look, resize, free.

Owns the loop driver's ioctls and its part of /sys. A backing file is known by device and
inode, never by name: the name in /sys may belong to another mount namespace, be reused or
be gone. Refuses to decide who may bind what, or to wait for anybody.

Two habits of the driver that callers must know:

- An autoclear device is freed when its last opener leaves. Whoever binds keeps the
  descriptor open until the device is mounted or no longer wanted.
- Direct I/O that the backing file cannot do at the asked block size is switched off
  without an error. Read `sysfs_facts` after binding and compare.

Source: include/uapi/linux/loop.h, drivers/block/loop.c; loop(4).
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
from collections.abc import Callable, Collection
from ctypes import c_uint8, c_uint32, c_uint64
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vssemu.linux import libc

MAJOR: Final = 7
CONTROL: Final = Path("/dev/loop-control")
_SYS_BLOCK: Final = Path("/sys/block")

_CLR_FD: Final = 0x4C01
_SET_STATUS64: Final = 0x4C04
_GET_STATUS64: Final = 0x4C05
_SET_CAPACITY: Final = 0x4C07
_CONFIGURE: Final = 0x4C0A
_CTL_ADD: Final = 0x4C80
_CTL_REMOVE: Final = 0x4C81
_CTL_GET_FREE: Final = 0x4C82
_SERVER_ENDED: Final = frozenset({errno.ECONNABORTED, errno.ENOTCONN})
"""What the file system of a backing file answers when nobody serves it any more (FUSE)."""
_GONE: Final = frozenset({errno.ENODEV, errno.ENXIO})
"""What an attribute in /sys answers that was open when its directory went."""


class LoopFlag(enum.IntFlag):
    """LO_FLAGS_*."""

    READ_ONLY = 1
    AUTOCLEAR = 4
    PARTSCAN = 8
    DIRECT_IO = 16


class _Info64(ctypes.Structure):
    _fields_ = (
        ("device", c_uint64),
        ("inode", c_uint64),
        ("rdevice", c_uint64),
        ("offset", c_uint64),
        ("size_limit", c_uint64),
        ("number", c_uint32),
        ("encrypt_type", c_uint32),
        ("encrypt_key_size", c_uint32),
        ("flags", c_uint32),
        ("file_name", c_uint8 * 64),
        ("crypt_name", c_uint8 * 64),
        ("encrypt_key", c_uint8 * 32),
        ("init", c_uint64 * 2),
    )


class _Config(ctypes.Structure):
    _fields_ = (
        ("fd", c_uint32),
        ("block_size", c_uint32),
        ("info", _Info64),
        ("reserved", c_uint64 * 8),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopStatus:
    """What LOOP_GET_STATUS64 tells of a bound device.

    device, inode: of the backing file, as in its `st_dev` and `st_ino`.
    offset, size_limit: bytes; a limit of 0 means the rest of the file.
    """

    number: int
    device: int
    inode: int
    offset: int
    size_limit: int
    flags: LoopFlag


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundLoop:
    """What /sys tells of a bound device.

    backing_file: the kernel's text, for people only. offset, size_limit, size: bytes.
    """

    number: int
    backing_file: str
    offset: int
    size_limit: int
    direct_io: bool
    autoclear: bool
    read_only: bool
    size: int
    logical_block_size: int


def node(number: int) -> Path:
    """Return the usual path of a loop device's node; nothing says that it exists."""
    return Path(f"/dev/loop{number}")


def open_device(number: int, flags: int = os.O_RDONLY) -> int:
    """Open a loop device by the node in /dev and return the descriptor.

    Raises OSError: FileNotFoundError without a node, EPERM or EACCES, and ENXIO while the
    driver has no such device.
    """
    return os.open(node(number), flags | os.O_CLOEXEC)


def free_number() -> int:
    """Return the number of an unbound loop device, made if need be (LOOP_CTL_GET_FREE).

    It may be bound by somebody else before the caller gets there.
    Raises OSError: FileNotFoundError, EACCES or EPERM for /dev/loop-control.
    """
    return _control(_CTL_GET_FREE, 0)


def add(number: int) -> None:
    """Make the loop device with this number (LOOP_CTL_ADD).

    Raises OSError: EEXIST when there is one, EACCES or EPERM for /dev/loop-control.
    """
    _control(_CTL_ADD, number)


def remove(number: int) -> None:
    """Take an unbound, unopened loop device away (LOOP_CTL_REMOVE).

    Raises OSError: EBUSY while bound or open, ENODEV when there is none.
    """
    _control(_CTL_REMOVE, number)


def configure(
    fd: int,
    backing: int,
    *,
    block_size: int,
    flags: LoopFlag,
    offset: int = 0,
    size_limit: int = 0,
) -> None:
    """Bind an open file to an unbound loop device (LOOP_CONFIGURE, kernel 5.8).

    fd: the loop device. backing: the file; when it is open read-only the device is
    read-only and nothing changes that. block_size: bytes, a power of two from 512 to the
    page size. offset, size_limit: bytes; a limit of 0 means the rest of the file.
    Raises OSError: EBUSY when the device is bound or claimed, EINVAL, EBADF.
    """
    config = _Config(fd=backing, block_size=block_size)
    config.info.offset = offset
    config.info.size_limit = size_limit
    config.info.flags = flags
    libc.ioctl(fd, _CONFIGURE, config)


def try_bind(
    backing: int,
    *,
    block_size: int,
    flags: LoopFlag,
    offset: int = 0,
    size_limit: int = 0,
) -> tuple[int, int] | None:
    """Bind an open file to some free loop device; return its number and a descriptor.

    The descriptor is open for writing unless the flags say READ_ONLY; the caller owns it.
    Returns None when somebody else took the free device first: try again, under a deadline.
    Arguments and errors as `configure` and `open_device`.
    """
    number = free_number()
    mode = os.O_RDONLY if LoopFlag.READ_ONLY in flags else os.O_RDWR
    fd = open_device(number, mode)
    try:
        configure(
            fd, backing, block_size=block_size, flags=flags, offset=offset, size_limit=size_limit
        )
    except OSError as error:
        os.close(fd)
        if error.errno == errno.EBUSY:
            return None
        raise
    return number, fd


def status(fd: int) -> LoopStatus:
    """Return what a bound device is bound to (LOOP_GET_STATUS64).

    The kernel asks the file system of the backing file for its inode when that was told to be
    out of date, as a FUSE server does by a notice: this waits for its answer.

    Raises OSError: ENXIO when it is not bound, ENOTTY when it is no loop device.
    """
    info = _get_status(fd)
    return LoopStatus(
        number=info.number,
        device=info.device,
        inode=info.inode,
        offset=info.offset,
        size_limit=info.size_limit,
        flags=LoopFlag(info.flags),
    )


def set_size_limit(fd: int, size_limit: int) -> None:
    """Change how many bytes of its file a bound device shows; all else stays.

    size_limit: bytes; 0 means the rest of the file. Works under a mounted file system,
    which then gets EIO beyond the limit, and its old size back with the old limit.
    Raises OSError: ENXIO when not bound, EPERM without CAP_SYS_ADMIN on a device that was
    opened read-only, EAGAIN while the device's own cache cannot be dropped.
    """
    info = _get_status(fd)
    info.size_limit = size_limit
    libc.ioctl(fd, _SET_STATUS64, info)


def set_capacity(fd: int) -> None:
    """Make a bound device take over the present size of its grown file.

    Raises OSError: ENXIO when not bound.
    """
    libc.ioctl(fd, _SET_CAPACITY)


def clear(fd: int) -> None:
    """Unbind a device (LOOP_CLR_FD): at once, or when the last other opener leaves.

    Raises OSError: ENXIO when not bound.
    """
    libc.ioctl(fd, _CLR_FD)


def sysfs_facts(number: int) -> BoundLoop | None:
    """Return what /sys tells of a loop device; None when it is not bound or not there.

    Raises OSError when /sys cannot be read.
    """
    device = _SYS_BLOCK / f"loop{number}"
    try:
        return BoundLoop(
            number=number,
            backing_file=os.fsdecode((device / "loop/backing_file").read_bytes()[:-1]),
            offset=_number(device / "loop/offset"),
            size_limit=_number(device / "loop/sizelimit"),
            direct_io=_number(device / "loop/dio") == 1,
            autoclear=_number(device / "loop/autoclear") == 1,
            read_only=_number(device / "ro") == 1,
            size=_number(device / "size") * 512,
            logical_block_size=_number(device / "queue/logical_block_size"),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def backing_file(number: int) -> str | None:
    """Return the kernel's name of a bound device's file; None when it is not bound.

    Nobody is asked, whatever the file system. Raises OSError when /sys cannot be read.
    """
    try:
        name = (_SYS_BLOCK / f"loop{number}/loop/backing_file").read_bytes()[:-1]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    return os.fsdecode(name)


def bound_loops() -> list[BoundLoop]:
    """Return all bound loop devices of the machine, in the order of their numbers.

    /sys shows those of every namespace. Raises OSError when /sys cannot be read.
    """
    facts = (sysfs_facts(number) for number in bound_numbers())
    return [fact for fact in facts if fact is not None]


def bound_numbers() -> list[int]:
    """Return the numbers of all bound loop devices of the machine; costs 3 us a device.

    Raises OSError when /sys cannot be read.
    """
    with os.scandir(_SYS_BLOCK) as entries:
        names = [entry.name.removeprefix("loop") for entry in entries]
    numbers = sorted(int(name) for name in names if name.isdecimal())
    return [number for number in numbers if (_SYS_BLOCK / f"loop{number}/loop").exists()]


def _any_name(_path: str) -> bool:
    return True


def bindings_of(
    files: Collection[tuple[int, int]],
    *,
    may_be: Callable[[str], bool] = _any_name,
    open_device: Callable[[int], int] = open_device,
) -> list[LoopStatus]:
    """Return every binding of some files, whatever their names are now.

    files: device and inode of each, as in `st_dev` and `st_ino`. may_be: tells of the kernel's
    name of a device's file whether it may be one of them; only such are looked at, for the look
    waits until the file system answers (FUSE). open_device: opens a loop device by number,
    read-only; pass another one where /dev lacks nodes (`devices.open_by_number` needs none).
    Every such device is opened for a moment. Devices that go meanwhile are left out, and
    those over files whose server was ended: they are good for nothing any more.
    Raises OSError when a bound device cannot be opened: an unseen binding might be this
    file's, and a second one would put two live file systems on it.
    """
    found = []
    for number in bound_numbers():
        name = backing_file(number)
        if name is None or not may_be(name):
            continue
        try:
            fd = open_device(number)
        except OSError as error:
            if error.errno == errno.ENXIO or sysfs_facts(number) is None:
                continue
            raise
        try:
            seen = status(fd)
        except OSError as error:
            if error.errno not in {errno.ENXIO, *_SERVER_ENDED}:
                raise
            continue
        finally:
            os.close(fd)
        if (seen.device, seen.inode) in files:
            found.append(seen)
    return found


def _control(request: int, argument: int) -> int:
    fd = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        return libc.ioctl(fd, request, argument)
    finally:
        os.close(fd)


def _get_status(fd: int) -> _Info64:
    info = _Info64()
    libc.ioctl(fd, _GET_STATUS64, info)
    return info


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
