"""What a snapshot's store says, taken over when a chain is opened, and written when it is made.

A table that a crash tore is as long as its first part that is whole. What lies behind it was
seen by nobody and is wiped before anything is added: otherwise an old entry would come to life
once the table has grown up to it.
"""

from __future__ import annotations

import operator
import sys
from array import array
from itertools import islice
from typing import Final, NamedTuple

from vssemu import logs
from vssemu.stores.format import (
    EXCEPTION,
    area_chunk,
    exceptions_per_area,
    next_data_chunk,
    pack_header,
    unpack_header,
)
from vssemu_fuse.lunfs.chain.nodes import Node
from vssemu_fuse.lunfs.io.buffers import aligned
from vssemu_fuse.lunfs.io.disk import Disk
from vssemu_fuse.lunfs.io.view import BLOCK
from vssemu_fuse.lunfs.io.work import Operation

_log = logs.get_logger(__name__)

_READ_AHEAD: Final = 256
"""Areas that are read at once at most; as many bytes at most as a MiB has."""


class _Table(NamedTuple):
    """All exceptions of a store: numbers of chunks, by position."""

    old: array[int]
    new: array[int]


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
        found = _checked(table, node, chunk_size)
    except (OSError, ValueError) as error:
        _log.error("invalid_with_its_elders", lun=node.lun, error=str(error))
        return False
    node.valid = header.valid
    node.count = len(table.old)
    node.table = found
    if node.count:
        node.next_chunk = next_data_chunk(max(table.new), exceptions_per_area(chunk_size))
    if node.valid:
        try:
            yield from _wipe(node, chunk_size)
        except OSError as error:
            _log.error("invalid_with_its_elders", lun=node.lun, error=str(error))
            return False
    return True


def _table(disk: Disk, chunk_size: int) -> Operation[_Table]:
    """Read all entries, some areas at a time, up to the one that ends the table."""
    per = exceptions_per_area(chunk_size)
    end = disk.size // chunk_size
    table = _Table(array("Q"), array("Q"))
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
        numbers = array("Q", bytes(rooms[: len(chunks) * chunk_size]))
        if sys.byteorder == "big":
            numbers.byteswap()
        old, new = numbers[::2], numbers[1::2]
        count = _index_of_zero(new)
        table.old.extend(old[:count])
        table.new.extend(new[:count])
        if count < len(new):
            return table
        area += len(chunks)
        ahead = min(ahead * 4, _READ_AHEAD, max(1, len(rooms) // chunk_size))


def _index_of_zero(numbers: array[int]) -> int:
    """Return where the first zero is; the length when there is none."""
    try:
        return numbers.index(0)
    except ValueError:
        return len(numbers)


def _checked(table: _Table, node: Node, chunk_size: int) -> dict[int, int]:
    """Return a table as nodes have it. Raises ValueError for entries that cannot be."""
    if not table.old:
        return {}
    last = max(table.new)
    if max(table.old) >= node.chunks:
        raise ValueError("its table has chunks that the snapshot lacks")
    if last >= node.disk.size // chunk_size:
        raise ValueError("its table has chunks beyond the end")
    per = exceptions_per_area(chunk_size)
    if not set(range(area_chunk(0, per), last + 1, per + 1)).isdisjoint(table.new):
        raise ValueError("its table has data in a chunk of the table")
    # As they are handed out, they ascend: seen faster than that all are different.
    ascend = all(map(operator.lt, table.new, islice(table.new, 1, None)))
    if not ascend and len(set(table.new)) < len(table.new):
        raise ValueError("its table has data twice")
    found = dict(zip(table.old, table.new, strict=True))
    if len(found) < len(table.old):
        raise ValueError("its table has a chunk twice")
    return found


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
