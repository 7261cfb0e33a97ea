"""The C library: the one door to system calls that Python does not wrap.

Owns the `ctypes` handle, the numbers of system calls that glibc or Python lack, the
encoding of ioctl numbers, and the translation of errno to OSError with `filename` set.
Refuses to know what any call means: each facility has a module of its own.

Every call goes through `ctypes`, never `fcntl.ioctl`: the latter keeps the interpreter
lock when its buffer exceeds 1,024 bytes, and one slow call then stops every thread.

Source: asm/unistd_64.h (x86_64), asm-generic/unistd.h (aarch64), asm-generic/ioctl.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from ctypes import c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p
from pathlib import Path
from typing import Final

_SHARED: Final = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "mount_setattr": 442,
}
_NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": _SHARED
    | {"capget": 125, "capset": 126, "pivot_root": 155, "bpf": 321, "statx": 332},
    "aarch64": _SHARED | {"capget": 90, "capset": 91, "pivot_root": 41, "bpf": 280, "statx": 291},
}

_handle: Final = ctypes.CDLL(None, use_errno=True)

_mount: Final = _handle.mount
_mount.argtypes = (c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2: Final = _handle.umount2
_umount2.argtypes = (c_char_p, c_int)
_unshare: Final = _handle.unshare
_unshare.argtypes = (c_int,)
_setns: Final = _handle.setns
_setns.argtypes = (c_int, c_int)
_syncfs: Final = _handle.syncfs
_syncfs.argtypes = (c_int,)
_fallocate: Final = _handle.fallocate64
_fallocate.argtypes = (c_int, c_int, ctypes.c_int64, ctypes.c_int64)
_prctl: Final = _handle.prctl
_prctl.argtypes = (c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_mlockall: Final = _handle.mlockall
_mlockall.argtypes = (c_int,)
_ioctl: Final = _handle.ioctl
_ioctl.argtypes = (c_int, c_ulong, c_void_p)
_getsockopt: Final = _handle.getsockopt
_getsockopt.argtypes = (c_int, c_int, c_int, c_void_p, ctypes.POINTER(c_uint))
_syscall: Final = _handle.syscall
_syscall.argtypes = (c_long, c_long, c_long, c_long, c_long, c_long, c_long)
_syscall.restype = c_long


class Number(ctypes.Structure):
    """An `int` that the kernel reads or writes."""

    _fields_ = (("value", c_int),)


class LongNumber(ctypes.Structure):
    """A `__u64` that the kernel reads or writes."""

    _fields_ = (("value", ctypes.c_uint64),)


Buffer = ctypes.Structure | ctypes.Array[ctypes.c_char]


def name_of(fd: int) -> str:
    """Return the name the kernel has for an open descriptor, for the text of an error.

    The name may be one that other mount namespaces do not have, or end in " (deleted)".
    Without /proc, or for a closed descriptor, the answer is "descriptor N". Never raises.
    """
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return f"descriptor {fd}"


def failure(filename: str | None = None, *, detail: str = "") -> OSError:
    """Return the OSError (or its subclass) for the errno of the last call.

    filename: what the call was about. detail: what the kernel said beyond errno.
    """
    number = ctypes.get_errno()
    text = os.strerror(number)
    return OSError(number, f"{text} ({detail})" if detail else text, filename)


def _checked(result: int, filename: str | None) -> int:
    if result < 0:
        raise failure(filename)
    return result


def _named(result: int, fd: int) -> int:
    # The name is looked up only after a failure: it costs a readlink, which resets nothing
    # of the errno that ctypes keeps apart.
    if result < 0:
        raise failure(name_of(fd))
    return result


def _io(direction: int, kind: str | int, number: int, size: int) -> int:
    letter = ord(kind) if isinstance(kind, str) else kind
    return direction << 30 | size << 16 | letter << 8 | number


def io_none(kind: str | int, number: int) -> int:
    """Return the ioctl number `_IO(kind, number)`."""
    return _io(0, kind, number, 0)


def io_write(kind: str | int, number: int, size: int) -> int:
    """Return the ioctl number `_IOW(kind, number, size)`; size in bytes."""
    return _io(1, kind, number, size)


def io_read(kind: str | int, number: int, size: int) -> int:
    """Return the ioctl number `_IOR(kind, number, size)`; size in bytes."""
    return _io(2, kind, number, size)


def io_both(kind: str | int, number: int, size: int) -> int:
    """Return the ioctl number `_IOWR(kind, number, size)`; size in bytes."""
    return _io(3, kind, number, size)


def ioctl(
    fd: int, request: int, argument: int | Buffer = 0, *, filename: str | None = None
) -> int:
    """Return the result of an ioctl, made without holding the interpreter lock.

    argument: a number, or a buffer that the kernel reads and may change.
    filename: the name for an error; by default that of the descriptor.
    Raises OSError with errno as the request documents it.
    """
    pointer = argument if isinstance(argument, int) else ctypes.addressof(argument)
    result: int = _ioctl(fd, request, pointer)
    if result < 0 and filename is not None:
        raise failure(filename)
    return _named(result, fd)


def syscall(name: str, *arguments: int, filename: str | None = None) -> int:
    """Make a system call by name and return its result.

    arguments: at most six numbers; pointers as addresses (`ctypes.addressof`).
    Raises OSError; ENOSYS also on an architecture whose numbers are not known here.
    """
    number = _NUMBERS.get(platform.machine(), {}).get(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"{os.strerror(errno.ENOSYS)} ({name})", filename)
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    return _checked(_syscall(number, *padded), filename)


def mount(
    source: str | None, target: str, fstype: str | None, flags: int, data: str | None
) -> None:
    """The system call `mount`. Raises OSError naming the target."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, fstype, data)]
    result = _mount(encoded[0], os.fsencode(target), encoded[1], flags, encoded[2])
    _checked(result, target)


def umount2(target: str, flags: int) -> None:
    """The system call `umount2`. Raises OSError naming the target."""
    _checked(_umount2(os.fsencode(target), flags), target)


def unshare(flags: int) -> None:
    """The system call `unshare`. Raises OSError."""
    _checked(_unshare(flags), None)


def setns(fd: int, flags: int) -> None:
    """The system call `setns`. Raises OSError naming the descriptor."""
    _named(_setns(fd, flags), fd)


def syncfs(fd: int) -> None:
    """The system call `syncfs`. Raises OSError naming the descriptor."""
    _named(_syncfs(fd), fd)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """The system call `fallocate`; offset, length: bytes. Raises OSError naming the file."""
    _named(_fallocate(fd, mode, offset, length), fd)


def prctl(option: int, *arguments: int) -> int:
    """Return the result of `prctl` with at most four numbers. Raises OSError."""
    return _checked(_prctl(option, *arguments, *(0,) * (4 - len(arguments))), None)


def mlockall(flags: int) -> None:
    """The system call `mlockall`. Raises OSError."""
    _checked(_mlockall(flags), None)


def getsockopt(fd: int, level: int, option: int, size: int) -> tuple[bytes, int]:
    """Return the value of a socket option of any size.

    size: room in bytes. Returns the value and the length that the kernel reported, which
    with ERANGE is the length that it would need; the value is then empty.
    Raises OSError for every other error. Python's own call stops at 1,024 bytes.
    """
    room = ctypes.create_string_buffer(max(size, 1))
    length = c_uint(size)
    if _getsockopt(fd, level, option, ctypes.addressof(room), ctypes.byref(length)) < 0:
        if ctypes.get_errno() != errno.ERANGE:
            raise failure(name_of(fd))
        return b"", length.value
    return room.raw[: length.value], length.value
