"""Copy before write: entries are made for a node's store, many in one commit.

Before the view of a node changes in a chunk, its elder must have an entry of its own there:

    for the nodes from the next elder on:  it has an entry: done;  it is invalid: go on;
    else the old view is copied into its store, and that is all: yet elder ones see it there

One commit of a node's store:

    read what is to be kept   into a borrowed room
    write the chunks          to the next free chunks of the store, in the order of asking,
                              and zeroes, now and then, to where small ones are to come
    flush                     ┐ with safety "power" alone
    write the table           │ the 4 KiB blocks of it that changed
    flush                     ┘
    the entries are seen      and those who waited for them go on

What is asked for meanwhile gathers and goes in the next one, which may wait a little for those
who went on with the last (`_expect`). An entry is on the disk only after
its chunk; an entry that is torn off by a crash was seen by nobody, and nothing was overwritten
on its account. A store that has no room, or fails, ends: its header says so, durably, before any
write goes on without the copy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from vssemu import logs
from vssemu.stores.format import (
    EXCEPTION,
    exception_offset,
    next_data_chunk,
)
from vssemu_fuse.lunfs.chain.loading import write_header
from vssemu_fuse.lunfs.chain.nodes import Node, Run, Ticket, Wanted, enter, leave, owner_of
from vssemu_fuse.lunfs.io.buffers import Scratch
from vssemu_fuse.lunfs.io.view import BLOCK
from vssemu_fuse.lunfs.io.work import Gate, Operation, Work, Worker

_log = logs.get_logger(__name__)

MOST_ENTRIES: Final = 512
"""Entries in a commit; they stand in at most TABLE_BLOCKS blocks of the table."""

TABLE_BLOCKS: Final = 4

MOST_PATIENCE: Final = 0.01
"""Seconds that a commit waits for more at most."""

AHEAD: Final = 1 << 20
"""Bytes of a store that are zeroed before they are used, at most."""

LARGEST_AHEAD: Final = 16 << 10
"""Bytes of the largest chunk for which that pays."""


class Copier:
    """Makes the entries of all nodes of a chain.

    gathers: a commit waits a little for what the one before let go on.
    settle: called before the first commit of a node; has the chain's record durable, or
    returns what does that.
    Raises OSError, which ends the node.
    """

    def __init__(
        self,
        worker: Worker,
        scratch: Scratch,
        *,
        power: bool,
        gathers: bool,
        settle: Callable[[], Operation[None] | None],
    ) -> None:
        self._worker = worker
        self._scratch = scratch
        self._power = power
        self._gathers = gathers
        self._settle = settle
        self.chunk_size = 0
        self.is_unsure = False
        """Whether a store may still look valid on the disk that is not: nothing may go then."""

    def keep(self, node: Node, first: int, last: int) -> Gate | None:
        """Have the old view of a node's chunks kept by its elders.

        Returns None when they have it all. Else what is missing is under way: wait at the
        gate and ask again.
        """
        nearest = node.elder
        if nearest is None:
            return None
        table, ticket, gate = nearest.table, Ticket(), None
        for chunk in range(first, last + 1):
            if chunk not in table:
                gate = self._keep(nearest, chunk, ticket) or gate
        return gate

    def _keep(self, nearest: Node, chunk: int, ticket: Ticket) -> Gate | None:
        elder: Node | None = nearest
        while elder is not None and chunk < elder.chunks and chunk not in elder.table:
            pending = elder.pending.get(chunk)
            if pending is not None:
                return pending
            if elder.ending is not None:
                return elder.ending
            if elder.valid:
                self.want(elder, Wanted(chunk, ticket))
                return ticket
            elder = elder.elder
        return None

    def want(self, node: Node, wanted: Wanted) -> None:
        """Have an entry made in the node's next commit; it must be valid and lack the entry."""
        wanted.ticket.left += 1
        node.pending[wanted.chunk] = wanted.ticket
        node.gathered.append(wanted)
        if len(node.gathered) == node.expected:
            node.enough.open()
        if not node.is_committing:
            node.is_committing = True
            self._worker.soon(lambda: self._worker.start(self._commits(node), _raise))

    # --- commits

    def _commits(self, node: Node) -> Operation[None]:
        """Commit until nothing is wanted."""
        while node.gathered:
            if len(node.gathered) < node.expected and time.monotonic() < node.patience:
                self._worker.at(node.patience, partial(_end_patience, node))
                yield node.enough
            node.expected = 0
            room = self._scratch.take()
            if room is None:
                yield self._scratch.returned
                continue
            batch, begin = self._batch(node), time.monotonic()
            try:
                done = yield from self._commit(node, batch, room)
            except OSError as error:
                self._scratch.give(room)
                node.gathered.extendleft(reversed(batch))
                yield from self._fail(node, error)
            else:
                self._scratch.give(room)
                node.gathered.extendleft(reversed(batch[done:]))
                if self._gathers:
                    self._expect(node, done, time.monotonic() - begin)
        node.is_committing = False
        node.committed.open()

    def _expect(self, node: Node, done: int, seconds: float) -> None:
        """Have the next commit wait for as many more as this one let go on, for a while.

        Else those who wait fall apart into two halves, which commit in turns, each half the
        time idle. It pays to wait while that takes less than a commit.
        """
        node.expected = min(done + len(node.gathered), self._most())
        node.patience = time.monotonic() + min(seconds / 2, MOST_PATIENCE)

    def _batch(self, node: Node) -> list[Wanted]:
        return [node.gathered.popleft() for _ in range(min(len(node.gathered), self._most()))]

    def _most(self) -> int:
        """Return how many entries a commit can make."""
        rooms = (self._scratch.size - TABLE_BLOCKS * BLOCK) // self.chunk_size
        return min(rooms, MOST_ENTRIES)

    def _commit(self, node: Node, batch: list[Wanted], room: memoryview) -> Operation[int]:
        """Make as many entries as there is room for; return their number, not 0."""
        if not node.is_settled:
            settling = self._settle()
            if settling is not None:
                yield from settling
            node.is_settled = True
        places = self._places(node, len(batch))
        if not places:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        batch = batch[: len(places)]
        yield from self._read(node, batch, room)
        writes = self._chunk_writes(node, batch, places, room)
        writes += self._ahead(node, places)
        if writes:
            yield writes
        if self._power:
            yield node.disk.flush()
        blocks, block = self._table_writes(node, batch, places, room[-TABLE_BLOCKS * BLOCK :])
        yield blocks
        if self._power:
            yield node.disk.flush()
        node.block = block
        node.count += len(batch)
        node.next_chunk = next_data_chunk(places[-1], self.chunk_size // EXCEPTION.size)
        for wanted, place in zip(batch, places, strict=True):
            node.table[wanted.chunk] = place
            del node.pending[wanted.chunk]
            wanted.ticket.settle_one()
        return len(batch)

    def _places(self, node: Node, count: int) -> list[int]:
        """Return the next chunks of the store for data, as many as there are."""
        per, place = self.chunk_size // EXCEPTION.size, node.next_chunk
        end = node.disk.size // self.chunk_size
        places = []
        for _ in range(min(count, node.capacity - node.count)):
            if place >= end:
                break
            places.append(place)
            place = next_data_chunk(place, per)
        return places

    def _read(self, node: Node, batch: list[Wanted], room: memoryview) -> Operation[None]:
        """Read the old view of all chunks that are not written as a whole; patch them."""
        size = self.chunk_size
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

    def _chunk_writes(
        self, node: Node, batch: list[Wanted], places: list[int], room: memoryview
    ) -> list[Work[Any]]:
        """Return the writes of the chunks; neighbours go together.

        What is zero is not written: chunks that were not handed out yet are holes.
        """
        size = self.chunk_size
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
                    writes.append(self._write(node, rooms, first))
                rooms, first = [chunk], place
                start, stop = at, at + size if at >= 0 else -1
            after = place + 1
        if rooms:
            writes.append(self._write(node, rooms, first))
        return writes

    def _write(self, node: Node, rooms: list[memoryview], place: int) -> Work[int]:
        return node.disk.write(rooms[0] if len(rooms) == 1 else rooms, place * self.chunk_size)

    def _ahead(self, node: Node, places: list[int]) -> list[Work[object]]:
        """Return a write of zeroes where small chunks are to come, once in a while.

        A flush after writes to new places of a file takes three times as long as one after
        writes to old ones, and everything waits while such writes are submitted, for they
        have places found for them. As much is written ahead as there is already, up to AHEAD.
        """
        size = self.chunk_size
        after = (places[-1] + 1) * size
        if size > LARGEST_AHEAD or len(places) * size > AHEAD // 4:
            return []
        begin = max(node.ahead, after)
        length = min(AHEAD, after, node.disk.size - begin) // BLOCK * BLOCK
        if begin - after > length // 2 or not length:
            return []
        node.ahead = begin + length
        return [_as_well(node.disk.write(self._scratch.zeroes[:length], begin))]

    def _table_writes(
        self, node: Node, batch: list[Wanted], places: list[int], room: memoryview
    ) -> tuple[list[Work[int]], bytes]:
        """Return the writes of the blocks of the table, and what the last block is then."""
        writes: list[Work[int]] = []
        page, at = room[:BLOCK], -1
        for number, (wanted, place) in enumerate(zip(batch, places, strict=True), node.count):
            offset = exception_offset(number, self.chunk_size)
            within = offset % BLOCK
            if offset - within != at:
                at = offset - within
                start = len(writes) * BLOCK
                page = room[start : start + BLOCK]
                page[:] = node.block if within else bytes(BLOCK)
                writes.append(node.disk.write(page, at))
            EXCEPTION.pack_into(page, within, wanted.chunk, place)
        return writes, bytes(page)

    # --- the end of a snapshot

    def end(self, node: Node) -> Operation[None]:
        """Make a snapshot invalid, durably. What is being committed is committed first."""
        if node.ending is not None or not node.valid:
            while node.ending is not None:
                yield node.ending
            return
        node.ending = Gate()
        while node.is_committing:
            yield node.committed
        yield from self._note_end(node)

    def _fail(self, node: Node, error: OSError) -> Operation[None]:
        """End a snapshot in whose store nothing more can be kept."""
        _log.warning("snapshot_invalid", lun=node.lun, error=str(error))
        if node.ending is None:
            node.ending = Gate()
            yield from self._note_end(node)
        while node.gathered:
            wanted = node.gathered.popleft()
            node.pending.pop(wanted.chunk, None)
            wanted.ticket.settle_one(failed=True)

    def _note_end(self, node: Node) -> Operation[None]:
        """Have the header say that the snapshot is invalid; then it is."""
        node.valid = False
        try:
            yield from write_header(node.disk, self.chunk_size, valid=False)
        except OSError as error:
            _log.warning("header_not_written", lun=node.lun, error=str(error))
            try:
                node.disk.zero(0, BLOCK)
                yield node.disk.flush()
            except OSError as again:
                _log.error("snapshot_not_marked_invalid", lun=node.lun, error=str(again))
                self.is_unsure = True
        gate, node.ending = node.ending, None
        assert gate is not None, "only who set the gate notes the end"
        gate.open()


_LOOK: Final = 16


def _is_zero(chunk: memoryview) -> bool:
    return not any(chunk[::BLOCK]) and chunk.tobytes().count(0) == len(chunk)


def _end_patience(node: Node) -> None:
    if time.monotonic() >= node.patience:
        node.enough.open()


def _as_well(work: Work[int]) -> Operation[None]:
    """Do what may fail."""
    with contextlib.suppress(OSError):
        yield work


def _raise(result: object) -> None:
    """Take the result of an operation that handles its own errors."""
    if isinstance(result, OSError):
        raise RuntimeError("a commit let an error out") from result
