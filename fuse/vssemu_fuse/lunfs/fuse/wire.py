"""The FUSE protocol's numbers and structures, as far as lunfs speaks it.

Pure. Every request is a struct fuse_in_header and what its opcode asks; every answer a struct
fuse_out_header and what it gives. Layouts and names are the kernel's.

Source: include/uapi/linux/fuse.h (protocol 7.45, Linux 6.18).
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

MAJOR: Final = 7
MINOR: Final = 41
"""The first that knows `resend` is 7.40; nothing after 7.41 is used here."""
ROOT: Final = 1
"""The inode of the directory."""

HEAD: Final = 80
"""Bytes before the data of a WRITE: the header and struct fuse_write_in."""


class Opcode(enum.IntEnum):
    """Requests that lunfs answers; the rest gets ENOSYS."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    LSEEK = 46


class InitFlag(enum.IntFlag):
    """FUSE_*: what kernel and server agree on at INIT; from bit 32 on they go in `flags2`."""

    ASYNC_READ = 1 << 0
    BIG_WRITES = 1 << 5
    DO_READDIRPLUS = 1 << 13
    ASYNC_DIO = 1 << 15
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    INIT_EXT = 1 << 30
    HAS_RESEND = 1 << 39


class OpenFlag(enum.IntFlag):
    """FOPEN_*: what the server says of an open file."""

    DIRECT_IO = 1 << 0
    NOFLUSH = 1 << 5
    PARALLEL_DIRECT_WRITES = 1 << 6


class Notification(enum.IntEnum):
    """What a server tells unasked: an answer to number 0, with this as its error."""

    INVAL_INODE = 2


IN_HEADER: Final = struct.Struct("=IIQQIIIHH")
"""len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding."""
OUT_HEADER: Final = struct.Struct("=IiQ")
"""len, error, unique."""
TRANSFER: Final = struct.Struct("=IIQQ IIIHH QQI")
"""A READ or WRITE: the header, then fh, offset, size of struct fuse_read_in or fuse_write_in."""
WRITTEN: Final = struct.Struct("=IiQ II")
"""The whole answer to a WRITE: the header, then size and padding of struct fuse_write_out."""

INIT_IN: Final = struct.Struct("=IIIII")
"""major, minor, max_readahead, flags, flags2."""
INIT_OUT: Final = struct.Struct("=IIIIHHIIHHI28x")
"""major, minor, max_readahead, flags, max_background, congestion_threshold, max_write,
time_gran, max_pages, map_alignment, flags2."""
ATTRIBUTES: Final = struct.Struct("=QQQQQQIIIIIIIIII")
"""ino, size, blocks, atime, mtime, ctime, their nanoseconds, mode, nlink, uid, gid, rdev,
blksize, flags."""
ATTR_OUT: Final = struct.Struct("=QII")
"""attr_valid, attr_valid_nsec, dummy; ATTRIBUTES follow."""
ENTRY_OUT: Final = struct.Struct("=QQQQII")
"""nodeid, generation, entry_valid, attr_valid, their nanoseconds; ATTRIBUTES follow."""
OPEN_OUT: Final = struct.Struct("=QIi")
"""fh, open_flags, backing_id."""
SETATTR_IN: Final = struct.Struct("=IIQQ")
"""The head of struct fuse_setattr_in: valid, padding, fh, size."""
READ_IN: Final = struct.Struct("=QQI")
"""fh, offset, size; of READ, READDIR and READDIRPLUS."""
FALLOCATE_IN: Final = struct.Struct("=QQQII")
"""fh, offset, length, mode, padding."""
LSEEK_IN: Final = struct.Struct("=QQII")
"""fh, offset, whence, padding."""
LSEEK_OUT: Final = struct.Struct("=Q")
STATFS_OUT: Final = struct.Struct("=QQQQQIII28x")
"""blocks, bfree, bavail, files, ffree, bsize, namelen, frsize."""
DIRENT: Final = struct.Struct("=QQII")
"""ino, off, namelen, type; the name follows, padded to 8 bytes."""
INVAL_INODE: Final = struct.Struct("=Qqq")
"""ino, off, len; a negative offset: the attributes alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Greeting:
    """What INIT says of the kernel. flags: what it offers."""

    major: int
    minor: int
    max_readahead: int
    flags: InitFlag


def parse_init(body: bytes) -> Greeting:
    """Return what the kernel offers. body: struct fuse_init_in, of any length."""
    major, minor, max_readahead, low, high = INIT_IN.unpack_from(body.ljust(INIT_IN.size, b"\0"))
    flags = low | high << 32 if low & InitFlag.INIT_EXT else low
    return Greeting(major=major, minor=minor, max_readahead=max_readahead, flags=InitFlag(flags))


def init_answer(
    greeting: Greeting, wanted: InitFlag, *, max_background: int, max_write: int, page: int
) -> bytes:
    """Return struct fuse_init_out. wanted: flags to be agreed on where the kernel has them.

    max_background: requests that nobody waits for in a system call, such as those of a loop
    device. max_write: bytes. page: bytes.
    """
    flags = greeting.flags & (wanted | InitFlag.INIT_EXT)
    return INIT_OUT.pack(
        MAJOR,
        MINOR,
        greeting.max_readahead,
        flags & 0xFFFFFFFF,
        max_background,
        max_background * 3 // 4,
        max_write,
        1,
        max_write // page,
        0,
        flags >> 32,
    )


def entry(name: bytes, inode: int, offset: int, kind: int) -> bytes:
    """Return one entry of a directory. offset: the one to go on from. kind: DT_*."""
    size = -(-(DIRENT.size + len(name)) // 8) * 8
    return (DIRENT.pack(inode, offset, len(name), kind) + name).ljust(size, b"\0")
