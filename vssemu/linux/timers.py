"""A descriptor that becomes readable at a time (timerfd), for loops that wait for descriptors.

Source: timerfd_create(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from ctypes import c_int, c_void_p
from typing import Final

from vssemu.linux import libc

_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1
_SPEC: Final = struct.Struct("=qqqq")

_library: Final = ctypes.CDLL(None, use_errno=True)
_create: Final = _library.timerfd_create
_create.argtypes = (c_int, c_int)
_settime: Final = _library.timerfd_settime
_settime.argtypes = (c_int, c_int, c_void_p, c_void_p)


def create() -> int:
    """Return a timer's descriptor, which does not block; it is not set. Raises OSError."""
    fd: int = _create(_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise libc.failure("timerfd")
    return fd


def set_at(fd: int, when: float) -> None:
    """Make the descriptor readable once `time.monotonic()` is `when`. Raises OSError."""
    nanoseconds = max(int(when * 1e9), 1)
    spec = _SPEC.pack(0, 0, nanoseconds // 10**9, nanoseconds % 10**9)
    if _settime(fd, _ABSOLUTE, spec, None) < 0:
        raise libc.failure("timerfd")


def calm(fd: int) -> None:
    """Make the descriptor unreadable until its next time."""
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 8)
