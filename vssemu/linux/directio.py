"""Direct I/O: reads and writes that no page cache stands between.

Two devices over the same bytes (a whole LUN and one of its partitions) do not see each
other's cache, so whoever must know or change what is really there comes through here.

The descriptor given may have O_DIRECT or not. If not, the same open file is opened a
second time with it, through /proc: setting the flag in place would change it for
everybody who shares the open file, in the middle of their own reads and writes.

Source: open(2) O_DIRECT; proc(5) /proc/pid/fd.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from vssemu.linux import libc

ALIGNMENT: Final = 4096
_CHUNK: Final = 1 << 20


@contextmanager
def direct(fd: int) -> Iterator[int]:
    """Give a descriptor of the same open file, of the same access mode, with O_DIRECT.

    Raises OSError: EINVAL for a file system without direct I/O, EPERM or EACCES when the
    file may no longer be opened so.
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_DIRECT:
        yield fd
        return
    mode = flags & os.O_ACCMODE | os.O_DIRECT | os.O_CLOEXEC
    try:
        again = os.open(f"/proc/self/fd/{fd}", mode)
    except OSError as error:
        error.filename = libc.name_of(fd)
        raise
    try:
        yield again
    finally:
        os.close(again)


def pread(fd: int, length: int, offset: int, *, alignment: int = ALIGNMENT) -> bytes:
    """Return bytes as they are on the device or in the file; fewer at its end.

    length, offset: bytes, of any alignment: what lies around is read and dropped.
    alignment: what the device asks, bytes, a power of two up to the page size.
    Raises OSError: EIO, EBADF when not open for reading, EINVAL without direct I/O.
    """
    start = offset - offset % alignment
    skipped = offset - start
    wanted = -(-(skipped + length) // alignment) * alignment
    pieces = []
    room_size = max(min(wanted, _CHUNK), mmap.PAGESIZE)
    with _naming(fd), direct(fd) as source, mmap.mmap(-1, room_size) as room:
        while wanted > 0:
            with memoryview(room)[: min(wanted, _CHUNK)] as view:
                count = os.preadv(source, [view], start)
                pieces.append(bytes(view[:count]))
            start += count
            wanted -= count
            if count % alignment or count == 0:
                break
    return b"".join(pieces)[skipped : skipped + length]


def pwrite(fd: int, data: bytes, offset: int, *, alignment: int = ALIGNMENT) -> None:
    """Write bytes past every cache, all of them.

    data, offset: multiples of `alignment` in length and value; nothing is read to fill up.
    It is not durable before `os.fsync`: the device may have a cache of its own.
    Raises OSError: EINVAL when not aligned or without direct I/O, EBADF when not open for
    writing, ENOSPC, EIO.
    """
    if len(data) % alignment or offset % alignment:
        raise OSError(errno.EINVAL, f"not aligned to {alignment} bytes", libc.name_of(fd))
    done = 0
    room_size = max(min(len(data), _CHUNK), mmap.PAGESIZE)
    with _naming(fd), direct(fd) as target, mmap.mmap(-1, room_size) as room:
        while done < len(data):
            piece = data[done : done + _CHUNK]
            room[: len(piece)] = piece
            with memoryview(room)[: len(piece)] as view:
                count = os.pwritev(target, [view], offset + done)
            if count == 0 or count % alignment:
                raise OSError(errno.EIO, f"short write of {count} bytes", libc.name_of(fd))
            done += count


@contextmanager
def _naming(fd: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = libc.name_of(fd)
        raise
