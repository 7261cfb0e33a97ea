"""The record of a chain: which snapshots an origin has, and in which order.

    luns/naa.ORIGIN/chain        JSON, durable
    luns/naa.ORIGIN/chain.next   a later one that may not be on the disk yet
    luns/naa.ORIGIN/*.new        one that is being written

`write` replaces a record as a whole, as a killed process leaves it; what a loss of power makes
of a file that was not flushed is anybody's guess, so the flushed one stays beside it until
`sync`. The later of the two that can be read counts.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from vssemu.vss.identity import LunId

DURABLE: Final = "chain"
NEXT: Final = "chain.next"
UNFINISHED: Final = "chain.new"
VERSION: Final = 1


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot in a chain. size: bytes of its view."""

    name: LunId
    size: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A chain. nodes: eldest first, without the origin. chunk_size: bytes, 0 for not fixed yet.

    generation: counts the records that were written.
    """

    origin: LunId
    shard: int
    chunk_size: int = 0
    nodes: tuple[Node, ...] = ()
    generation: int = 0
    version: int = VERSION


def read(directory: Path) -> Record | None:
    """Return the record in an origin's directory, None for none. Raises OSError, ValueError."""
    durable, later = _read(directory / DURABLE), _read_later(directory / NEXT)
    if durable is None or (later is not None and later.generation > durable.generation):
        return later
    return durable


def stage(directory: Path, record: Record) -> Record:
    """Write a record beside the one that counts; return it as `publish` will have it count.

    Raises OSError: ENOSPC.
    """
    written = msgspec.structs.replace(record, generation=record.generation + 1)
    with (directory / UNFINISHED).open("wb") as file:
        file.write(msgspec.json.encode(written))
    return written


def publish(directory: Path) -> None:
    """Have the staged record count, safe from a crash. Takes no room."""
    (directory / UNFINISHED).rename(directory / NEXT)


def write(directory: Path, record: Record) -> Record:
    """Put a record into an origin's directory, safe from a crash; return it as it is there."""
    written = stage(directory, record)
    publish(directory)
    return written


def sync(directory: Path) -> None:
    """Make the record that was written last safe from a loss of power; again does nothing."""
    while (inode := flush(directory)) is not None and not promote(directory, inode):
        pass
    sync_directory(directory)


def flush(directory: Path) -> int | None:
    """Bring what the latest record says to the disk; return its inode, None for none.

    May be done in a thread while other records are written.
    """
    descriptor = open_latest(directory)
    if descriptor is None:
        return None
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def open_latest(directory: Path) -> int | None:
    """Return a descriptor of the latest record, None if it is the durable one."""
    try:
        return os.open(directory / NEXT, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def promote(directory: Path, inode: int) -> bool:
    """Have a flushed record be the durable one; False when it is not the latest any more."""
    try:
        if (directory / NEXT).stat().st_ino != inode:
            return False
        (directory / NEXT).rename(directory / DURABLE)
    except FileNotFoundError:
        # Somebody else was first.
        return True
    return True


def sync_directory(directory: Path) -> None:
    """Bring the names in a directory to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> Record | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    record = msgspec.json.decode(text, type=Record)
    if record.version != VERSION:
        raise ValueError(f"{path} is of version {record.version}, not {VERSION}")
    return record


def _read_later(path: Path) -> Record | None:
    try:
        return _read(path)
    except ValueError:
        # Power was lost before it was on the disk; nothing that was to last followed from it.
        return None
