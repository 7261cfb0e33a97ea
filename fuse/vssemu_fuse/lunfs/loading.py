"""What a snapshot's store says, taken over when a chain is opened, and written when it is made.

A table that a crash tore is as long as its first part that is whole. What lies behind it was
seen by nobody and is wiped before anything is added: otherwise an old entry would come to life
once the table has grown up to it.
"""

from __future__ import annotations

import logging
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vssemu.stores.format import (
    EXCEPTION,
    area_chunk,
    exceptions_per_area,
    next_data_chunk,
    pack_header,
    unpack_header,
)
from vssemu_fuse.lunfs.buffers import aligned
from vssemu_fuse.lunfs.disk import Disk
from vssemu_fuse.lunfs.nodes import Node
from vssemu_fuse.lunfs.view import BLOCK
from vssemu_fuse.lunfs.work import Operation

_log = logging.getLogger(__name__)

_READ_AHEAD: Final = 256
"""Areas that are read at once at most; as many bytes at most as a MiB has."""

_ENTRY: Final = np.dtype([("old", "<u8"), ("new", "<u8")])


def write_header(disk: Disk, chunk_size: int, *, valid: bool = True) -> Operation[None]:
    """Write a store's header, durably. Raises OSError."""
    room = aligned(BLOCK)
    header = pack_header(chunk_size, valid=valid)
    room[: len(header)] = header
    yield disk.write(room, 0)
    yield disk.flush()


def load(node: Node, chunk_size: int) -> Operation[bool]:
    """Take over what a snapshot's store has; tell whether that is known.

    node: measured. Of a store that makes no sense or cannot be read nothing is known.
    """
    room = aligned(BLOCK)
    node.measure(chunk_size)
    node.table, node.count, node.valid = {}, 0, False
    node.is_settled = True
    try:
        yield node.disk.read(room, 0)
        header = unpack_header(room)
        if header.chunk_size != chunk_size:
            raise ValueError(f"its chunks have {header.chunk_size} bytes, not {chunk_size}")
        table = yield from _table(node.disk, chunk_size)
        _check(table, node, chunk_size)
    except (OSError, ValueError) as error:
        _log.error("%s is invalid, and its elders with it: %s", node.lun, error)
        return False
    node.valid = header.valid
    node.count = len(table)
    node.table = dict(zip(table["old"].tolist(), table["new"].tolist(), strict=True))
    if len(table):
        last = int(table["new"].max())
        node.next_chunk = next_data_chunk(last, exceptions_per_area(chunk_size))
    if node.valid:
        try:
            yield from _wipe(node, chunk_size)
        except OSError as error:
            _log.error("%s is invalid, and its elders with it: %s", node.lun, error)
            return False
    return True


def _table(disk: Disk, chunk_size: int) -> Operation[NDArray[np.void]]:
    """Read all entries, some areas at a time, up to the one that ends the table."""
    per = exceptions_per_area(chunk_size)
    end = disk.size // chunk_size
    found = [np.empty(0, dtype=_ENTRY)]
    area, ahead = 0, 1
    rooms = aligned(max(chunk_size, 1 << 20))
    while True:
        chunks = [area_chunk(area + index, per) for index in range(ahead)]
        chunks = [chunk for chunk in chunks if chunk < end]
        if not chunks:
            raise ValueError("its table has no end")
        yield [
            disk.read(rooms[index * chunk_size : (index + 1) * chunk_size], chunk * chunk_size)
            for index, chunk in enumerate(chunks)
        ]
        entries = np.frombuffer(rooms[: len(chunks) * chunk_size], dtype=_ENTRY)
        ends = np.flatnonzero(entries["new"] == 0)
        count = int(ends[0]) if len(ends) else len(entries)
        found.append(entries[:count].copy())
        if len(ends):
            return np.concatenate(found)
        area += len(chunks)
        ahead = min(ahead * 4, _READ_AHEAD, max(1, len(rooms) // chunk_size))


def _check(table: NDArray[np.void], node: Node, chunk_size: int) -> None:
    """Raise ValueError for entries that cannot be."""
    per = np.uint64(exceptions_per_area(chunk_size))
    new = table["new"]
    if (table["old"] >= np.uint64(node.chunks)).any():
        raise ValueError("its table has chunks that the snapshot lacks")
    if (new >= np.uint64(node.disk.size // chunk_size)).any():
        raise ValueError("its table has chunks beyond the end")
    if ((new - np.uint64(1)) % (per + np.uint64(1)) == 0).any():
        raise ValueError("its table has data in a chunk of the table")
    for column, what in (("new", "data"), ("old", "a chunk")):
        # Sorted, not np.unique: that one takes seconds for a million.
        ordered = np.sort(table[column])
        if (ordered[1:] == ordered[:-1]).any():
            raise ValueError(f"its table has {what} twice")


def _wipe(node: Node, chunk_size: int) -> Operation[None]:
    """Have nothing behind the table's end, and holes where chunks are to come.

    Durable with the first flush of the next commit, before the table grows.
    """
    per = exceptions_per_area(chunk_size)
    area = area_chunk(node.count // per, per) * chunk_size
    within = node.count % per * EXCEPTION.size
    begin = node.next_chunk * chunk_size
    if begin < node.disk.size:
        node.disk.zero(begin, node.disk.size - begin)
    block, rest = area + within - within % BLOCK, within % BLOCK
    room = aligned(BLOCK)
    if rest:
        yield node.disk.read(room, block)
        if any(room[rest:]):
            room[rest:] = bytes(BLOCK - rest)
            yield node.disk.write(room, block)
    node.block = bytes(room)
    begin = block + BLOCK if rest else block
    if begin < area + chunk_size:
        node.disk.zero(begin, area + chunk_size - begin)
