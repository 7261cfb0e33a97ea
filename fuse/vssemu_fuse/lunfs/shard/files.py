"""The files of nodes in the pool, made and removed durably. Blocks: call in a thread.

    luns/naa.ORIGIN/image       the bytes of an origin
    luns/naa.SNAPSHOT/store     the exception store of a snapshot
    luns/naa.ORIGIN/chain…      which snapshots there are; see `record`

What else is in a directory belongs to others, and goes with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from pathlib import Path
from typing import Final

from vssemu.stores.format import HEADER, Header, unpack_header
from vssemu_fuse.lunfs.shard.record import DURABLE, NEXT, sync_directory

IMAGE: Final = "image"
STORE: Final = "store"


def make(directory: Path, name: str, size: int) -> None:
    """Make a sparse file of zeroes in a node's directory, durably.

    One that is there is of an earlier try, and is emptied first. Raises OSError.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(directory / name, flags, 0o600)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(directory)
    sync_directory(directory.parent)


def header(path: Path) -> Header:
    """Return what the header of a store says. Raises OSError, EINVAL for one that is none."""
    with path.open("rb") as file:
        try:
            return unpack_header(file.read(HEADER.size))
        except (ValueError, struct.error) as error:
            raise OSError(errno.EINVAL, str(error), str(path)) from error


def extend(path: Path, size: int) -> None:
    """Grow a file, durably; one that is as large stays as it is. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(directory: Path) -> None:
    """Remove a node's directory with all that is in it, durably; again is no error.

    The record of a chain goes first: what is left of an origin is none. Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        for name in (DURABLE, NEXT):
            (directory / name).unlink(missing_ok=True)
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
    sync_directory(directory.parent)


def allocated(path: Path) -> int:
    """Return the bytes that a file has on the disk."""
    return path.stat().st_blocks * 512
