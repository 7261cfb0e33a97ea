"""Asynchronous reads, writes and flushes of files (Linux native AIO).

Owns the system calls, the memory in which requests and answers are laid out, and the eventfd
that says when there are answers. Many requests go in one system call, and are answered in one.
Refuses to wait, to retry and to know what the files are.

What callers must know:

- Only files opened with O_DIRECT are asynchronous; for others submission does the work.
- The memory of a request belongs to the kernel until it is answered. When the process dies,
  the kernel completes what was submitted before the process counts as gone.
- A file may be closed while requests for it are under way, not before they are submitted.

Source: include/uapi/linux/aio_abi.h, fs/aio.c; io_submit(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import struct
from collections.abc import Callable, Sequence
from ctypes import c_char, c_long, c_uint32, c_ulong
from typing import Any, Final, Protocol, Self

from vssemu.linux import libc

_NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": {"setup": 206, "destroy": 207, "getevents": 208, "submit": 209},
    "aarch64": {"setup": 0, "destroy": 1, "submit": 2, "getevents": 4},
}
_PREAD: Final = 0
_PWRITE: Final = 1
_FDSYNC: Final = 3
_PREADV: Final = 7
_PWRITEV: Final = 8

_REQUEST: Final = struct.Struct("=QIIHhIQQqQII")
_ANSWER: Final = struct.Struct("=QQqq")
_PIECE: Final = struct.Struct("=QQ")
_RESFD: Final = 1
_RING_WORDS: Final = 8
"""Of struct aio_ring: id, nr, head, tail, magic, compat_features, incompat_features."""
_RING_MAGIC: Final = 0xA10A10A1

MOST_ROOMS: Final = 512
"""Pieces of memory in one request at most (the kernel's limit is 1024)."""

Rooms = memoryview | Sequence[memoryview]
"""Memory that is read into or written from; page-aligned, with O_DIRECT."""

_library: Final = ctypes.CDLL(None, use_errno=True)


class Tally(Protocol):
    """What wants to know how many requests of a kind are under way."""

    def left(self) -> None:
        """One is done."""


class Io:
    """One request. length: bytes that are wanted; 0 for a flush.

    done, tally: for whoever runs requests; nothing here looks at them.
    """

    __slots__ = ("code", "done", "fd", "length", "offset", "rooms", "tally")

    done: Callable[[Any], object]

    def __init__(self, code: int, fd: int, rooms: Rooms, length: int, offset: int) -> None:
        self.code = code
        self.fd = fd
        self.rooms = rooms
        self.length = length
        self.offset = offset
        self.tally: Tally | None = None


def reading(fd: int, rooms: Rooms, offset: int) -> Io:
    """Return a read of as many bytes as the rooms have."""
    if type(rooms) is memoryview:
        return Io(_PREAD, fd, rooms, len(rooms), offset)
    return Io(_PREADV, fd, rooms, sum(map(len, rooms)), offset)


def writing(fd: int, rooms: Rooms, offset: int) -> Io:
    """Return a write of all bytes of the rooms."""
    if type(rooms) is memoryview:
        return Io(_PWRITE, fd, rooms, len(rooms), offset)
    return Io(_PWRITEV, fd, rooms, sum(map(len, rooms)), offset)


_NOTHING: Final = memoryview(mmap.mmap(-1, mmap.PAGESIZE))


def flushing(fd: int) -> Io:
    """Return a flush of all that was written before, as fdatasync(2) does it."""
    return Io(_FDSYNC, fd, _NOTHING, 0, 0)


class Context:
    """Room for so many requests under way; to be used as a context manager.

    Raises OSError: ENOSYS on an unknown machine, EAGAIN beyond /proc/sys/fs/aio-max-nr.
    """

    def __init__(self, depth: int) -> None:
        numbers = _NUMBERS.get(platform.machine())
        if numbers is None:
            raise OSError(errno.ENOSYS, f"{os.strerror(errno.ENOSYS)} (io_setup)")
        self._numbers = numbers
        self._submit = _library["syscall"]
        self._submit.argtypes = (c_long, c_ulong, c_long, c_ulong)
        self._submit.restype = c_long
        self._getevents = _library["syscall"]
        self._getevents.argtypes = (c_long, c_ulong, c_long, c_long, c_ulong, c_ulong)
        self._getevents.restype = c_long
        self._handle = self._set_up(depth)
        self._ring = (c_uint32 * _RING_WORDS).from_address(self._handle)
        # Nobody promises the ring's layout for ever: without its mark the kernel is asked.
        self._is_known = self._ring[4] == _RING_MAGIC and self._ring[6] == 0
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._depth = depth
        self._free = list(range(depth))
        self._under_way: list[Io | None] = [None] * depth
        self._refused: list[tuple[Io, int]] = []
        self._requests = mmap.mmap(-1, depth * _REQUEST.size)
        self._pieces = mmap.mmap(-1, 4 * MOST_ROOMS * _PIECE.size)
        self._answers = mmap.mmap(-1, depth * _ANSWER.size)
        self._pieces_at = _address(self._pieces)
        self._answers_at = _address(self._answers)
        first = _address(self._requests)
        pointers = [first + index * _REQUEST.size for index in range(depth)]
        self._pointers = mmap.mmap(-1, depth * 8)
        struct.pack_into(f"={depth}Q", self._pointers, 0, *pointers)
        self._pointers_at = _address(self._pointers)

    def _set_up(self, depth: int) -> int:
        handle = ctypes.c_ulong(0)
        # The call wants a pointer in its second place, like io_submit in its third.
        if self._submit(self._numbers["setup"], depth, ctypes.addressof(handle), 0) < 0:
            detail = f"no room for {depth} requests: raise /proc/sys/fs/aio-max-nr"
            is_full = ctypes.get_errno() == errno.EAGAIN
            raise libc.failure("io_setup", detail=detail if is_full else "")
        return handle.value

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is under way, without an answer to anybody, and let go of it all."""
        if self._eventfd >= 0:
            self._submit(self._numbers["destroy"], self._handle, 0, 0)
            os.close(self._eventfd)
            self._eventfd = -1

    def fileno(self) -> int:
        """Return the eventfd: readable when there are answers."""
        return self._eventfd

    @property
    def under_way(self) -> int:
        """How many requests have been submitted and not been answered."""
        return self._depth - len(self._free) + len(self._refused)

    @property
    def has_answers(self) -> bool:
        """Whether there may be answers; costs no system call."""
        ring = self._ring
        return ring[2] != ring[3] or not self._is_known or bool(self._refused)

    def submit(self, requests: Sequence[Io]) -> int:
        """Submit requests, in one system call; return how many were taken, from the first.

        Fewer are taken when there is no room; the rest is for later. One that the kernel
        refuses counts as taken, and is answered like any other.
        """
        pack, free, under_way, piece = _REQUEST.pack_into, self._free, self._under_way, 0
        count = position = 0
        for request in requests[: len(free)]:
            rooms = request.rooms
            if type(rooms) is memoryview:
                address = _address_of(_pinned(rooms))
                length = request.length
            else:
                length = len(rooms)
                if piece + length > 4 * MOST_ROOMS:
                    break
                address = self._pieces_at + piece * _PIECE.size
                for room in rooms:
                    at = _address_of(_pinned(room))
                    _PIECE.pack_into(self._pieces, piece * _PIECE.size, at, len(room))
                    piece += 1
            slot = free[-1 - count]
            under_way[slot] = request
            pack(
                self._requests, position, slot, 0, 0, request.code, 0, request.fd,
                address if request.code != _FDSYNC else 0, length, request.offset, 0,
                _RESFD, self._eventfd,
            )  # fmt: skip
            position += _REQUEST.size
            count += 1
        return self._take(requests, count)

    def _take(self, requests: Sequence[Io], count: int) -> int:
        """Have the first `count` requests taken, which are laid out and have the last slots."""
        free, number, taken = self._free, self._numbers["submit"], 0
        slots = free[: -count - 1 : -1]
        del free[len(free) - count :]
        while taken < count:
            at = self._pointers_at + 8 * taken
            result = self._submit(number, self._handle, count - taken, at)
            if result > 0:
                taken += result
                continue
            error = ctypes.get_errno()
            if error in {errno.EAGAIN, errno.EINTR}:
                break
            slot = slots[taken]
            self._under_way[slot] = None
            free.append(slot)
            taken += 1
            self._refused.append((requests[taken - 1], -error))
            os.eventfd_write(self._eventfd, 1)
        for slot in reversed(slots[taken:]):
            self._under_way[slot] = None
            free.append(slot)
        return taken

    def reap(self) -> list[tuple[Io, int]]:
        """Return requests that were answered, with the bytes done or -errno, without waiting."""
        if not self.has_answers:
            return []
        count = self._getevents(
            self._numbers["getevents"], self._handle, 0, self._depth, self._answers_at, _NO_TIME_AT
        )
        found, self._refused = self._refused, []
        if count <= 0:
            return found
        under_way, free = self._under_way, self._free
        for slot, _, result, _ in _ANSWER.iter_unpack(self._answers[: count * _ANSWER.size]):
            request = under_way[slot]
            assert request is not None, "an answer to no request"
            under_way[slot] = None
            free.append(slot)
            found.append((request, result))
        return found

    def calm(self) -> None:
        """Make the eventfd unreadable until there is another answer; `reap` after that."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)


_pinned: Final = c_char.from_buffer
_address_of: Final = ctypes.addressof


def _address(memory: mmap.mmap) -> int:
    return _address_of(_pinned(memory))


_no_time: Final = mmap.mmap(-1, 16)
_NO_TIME_AT: Final = _address(_no_time)
