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

import errno
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from vssemu import logs
from vssemu.stores.format import (
    EXCEPTION,
    next_data_chunk,
)
from vssemu_fuse.lunfs.chain.committing import (
    MOST_ENTRIES,
    TABLE_BLOCKS,
    chunk_writes,
    places_for,
    read_old,
    table_writes,
    zeroes_ahead,
)
from vssemu_fuse.lunfs.chain.loading import write_header
from vssemu_fuse.lunfs.chain.nodes import Node, Ticket, Wanted
from vssemu_fuse.lunfs.io.buffers import Scratch
from vssemu_fuse.lunfs.io.view import BLOCK
from vssemu_fuse.lunfs.io.work import Gate, Operation, Worker

_log = logs.get_logger(__name__)

MOST_PATIENCE: Final = 0.01
"""Seconds that a commit waits for more at most."""


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
        places = places_for(node, len(batch), self.chunk_size)
        if not places:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        batch = batch[: len(places)]
        yield from read_old(node, batch, room, self.chunk_size)
        writes = chunk_writes(node, batch, places, room, self.chunk_size)
        writes += zeroes_ahead(node, places, self._scratch.zeroes, self.chunk_size)
        if writes:
            yield writes
        if self._power:
            yield node.disk.flush()
        blocks, block = table_writes(
            node, batch, places, room[-TABLE_BLOCKS * BLOCK :], self.chunk_size
        )
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


def _end_patience(node: Node) -> None:
    if time.monotonic() >= node.patience:
        node.enough.open()


def _raise(result: object) -> None:
    """Take the result of an operation that handles its own errors."""
    if isinstance(result, OSError):
        raise RuntimeError("a commit let an error out") from result
