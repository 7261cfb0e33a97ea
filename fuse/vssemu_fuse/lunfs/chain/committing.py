"""The reads and writes of one commit of a store: which bytes go from where to where.

batch: the entries, in the order in which they were asked for; places: the chunks of the store
that they get; room: borrowed memory, a chunk for each, and TABLE_BLOCKS blocks at its end.
size: bytes of a chunk. Decides nothing about when, and what is seen after it: `copying` does.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from vssemu.stores.format import EXCEPTION, exception_offset, next_data_chunk
from vssemu_fuse.lunfs.chain.nodes import Node, Run, Wanted, enter, leave, owner_of
from vssemu_fuse.lunfs.io.view import BLOCK
from vssemu_fuse.lunfs.io.work import Operation, Work

MOST_ENTRIES: Final = 512
"""Entries in a commit; they stand in at most TABLE_BLOCKS blocks of the table."""

TABLE_BLOCKS: Final = 4

AHEAD: Final = 1 << 20
"""Bytes of a store that are zeroed before they are used, at most."""

LARGEST_AHEAD: Final = 16 << 10
"""Bytes of the largest chunk for which that pays."""


def places_for(node: Node, count: int, size: int) -> list[int]:
    """Return the next chunks of the store for data, as many as there are."""
    per, place = size // EXCEPTION.size, node.next_chunk
    end = node.disk.size // size
    places = []
    for _ in range(min(count, node.capacity - node.count)):
        if place >= end:
            break
        places.append(place)
        place = next_data_chunk(place, per)
    return places


def read_old(node: Node, batch: list[Wanted], room: memoryview, size: int) -> Operation[None]:
    """Read the old view of all chunks that are not written as a whole; patch them."""
    assert node.younger is not None, "an origin wants no entries"
    runs: list[Run] = []
    rooms: list[int] = []
    run, end = None, 0
    for index, wanted in enumerate(batch):
        if wanted.is_hole or (wanted.data is not None and len(wanted.data) == size):
            continue
        owner, at = owner_of(node.younger, wanted.chunk)
        place, start = at * size, index * size
        if (
            run is not None
            and run.owner is owner
            and run.place + run.length == place
            and end == start
            and run.last + 1 == wanted.chunk
        ):
            run.length += size
            run.last = wanted.chunk
        else:
            run = Run(owner, place, size, wanted.chunk)
            runs.append(run)
            rooms.append(start)
        end = start + size
    if not runs:
        return
    enter(runs)
    try:
        yield [
            run.owner.disk.read(room[start : start + run.length], run.place)
            for run, start in zip(runs, rooms, strict=True)
        ]
    finally:
        leave(runs)
    for index, wanted in enumerate(batch):
        if wanted.data is not None and len(wanted.data) < size:
            start = index * size + wanted.within
            room[start : start + len(wanted.data)] = wanted.data


def chunk_writes(
    node: Node, batch: list[Wanted], places: list[int], room: memoryview, size: int
) -> list[Work[Any]]:
    """Return the writes of the chunks; neighbours go together.

    What is zero is not written: chunks that were not handed out yet are holes.
    """
    writes: list[Work[Any]] = []
    zeroes = bytes(_LOOK)
    rooms: list[memoryview] = []
    first = after = -1
    start = stop = -1
    for index, wanted in enumerate(batch):
        if wanted.is_hole:
            continue
        at = index * size
        if wanted.data is not None and len(wanted.data) == size:
            chunk, at = wanted.data, -1
        else:
            chunk = room[at : at + size]
            if chunk[:_LOOK] == zeroes and _is_zero(chunk):
                continue
        place = places[index]
        if place == after and len(rooms) < MOST_ENTRIES:
            if at >= 0 and at == stop:
                stop += size
                rooms[-1] = room[start:stop]
            else:
                rooms.append(chunk)
                start, stop = at, at + size if at >= 0 else -1
        else:
            if rooms:
                writes.append(_write(node, rooms, first * size))
            rooms, first = [chunk], place
            start, stop = at, at + size if at >= 0 else -1
        after = place + 1
    if rooms:
        writes.append(_write(node, rooms, first * size))
    return writes


def _write(node: Node, rooms: list[memoryview], offset: int) -> Work[int]:
    return node.disk.write(rooms[0] if len(rooms) == 1 else rooms, offset)


def zeroes_ahead(
    node: Node, places: list[int], zeroes: memoryview, size: int
) -> list[Work[object]]:
    """Return a write of zeroes where small chunks are to come, once in a while.

    A flush after writes to new places of a file takes three times as long as one after
    writes to old ones, and everything waits while such writes are submitted, for they
    have places found for them. As much is written ahead as there is already, up to AHEAD.
    """
    after = (places[-1] + 1) * size
    if size > LARGEST_AHEAD or len(places) * size > AHEAD // 4:
        return []
    begin = max(node.ahead, after)
    length = min(AHEAD, after, node.disk.size - begin) // BLOCK * BLOCK
    if begin - after > length // 2 or not length:
        return []
    node.ahead = begin + length
    return [_as_well(node.disk.write(zeroes[:length], begin))]


def table_writes(
    node: Node, batch: list[Wanted], places: list[int], room: memoryview, size: int
) -> tuple[list[Work[int]], bytes]:
    """Return the writes of the blocks of the table, and what the last block is then."""
    writes: list[Work[int]] = []
    page, at = room[:BLOCK], -1
    for number, (wanted, place) in enumerate(zip(batch, places, strict=True), node.count):
        offset = exception_offset(number, size)
        within = offset % BLOCK
        if offset - within != at:
            at = offset - within
            start = len(writes) * BLOCK
            page = room[start : start + BLOCK]
            page[:] = node.block if within else bytes(BLOCK)
            writes.append(node.disk.write(page, at))
        EXCEPTION.pack_into(page, within, wanted.chunk, place)
    return writes, bytes(page)


_LOOK: Final = 16


def _is_zero(chunk: memoryview) -> bool:
    return not any(chunk[::BLOCK]) and chunk.tobytes().count(0) == len(chunk)


def _as_well(work: Work[int]) -> Operation[None]:
    """Do what may fail."""
    with contextlib.suppress(OSError):
        yield work
