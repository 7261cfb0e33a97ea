"""The view of a snapshot: its own entries, and through them what younger nodes have.

A write changes the snapshot's own store alone. Its elders get the old view first, as with an
origin; a chunk that the snapshot lacks is made with the written bytes in it, in one commit.
"""

from __future__ import annotations

import errno
import os

from vssemu_fuse.lunfs.chain.copying import Copier
from vssemu_fuse.lunfs.chain.nodes import Node, Ticket, Wanted, enter, leave, owner_of, runs_of
from vssemu_fuse.lunfs.io.buffers import Scratch
from vssemu_fuse.lunfs.io.view import BLOCK
from vssemu_fuse.lunfs.io.work import Gate, Operation, Work

_PIECE = 2 << 20
"""Bytes of a zeroing that are done at once at most."""


class SnapshotView:
    """A `View`. Everything fails with EIO once the snapshot is invalid."""

    def __init__(self, node: Node, copier: Copier, scratch: Scratch) -> None:
        self._node = node
        self._copier = copier
        self._zeroes = scratch.zeroes

    @property
    def size(self) -> int:
        """As `View.size`."""
        return self._node.size

    def read(self, room: memoryview, offset: int) -> Operation[int]:
        """As `View.read`. What it passes through to does not change before it is done."""
        node, length = self._node, len(room)
        self._check(offset, length)
        if not node.valid:
            raise _error(errno.EIO)
        runs = runs_of(node, offset, length, self._copier.chunk_size)
        through = [run for run in runs if run.owner is not node]
        node.reads.count += 1
        enter(through)
        try:
            if len(runs) == 1:
                yield runs[0].owner.disk.read(room, runs[0].place)
            else:
                works: list[Work[int]] = []
                start = 0
                for run in runs:
                    works.append(run.owner.disk.read(room[start : start + run.length], run.place))
                    start += run.length
                yield works
        finally:
            leave(through)
            node.reads.left()
        return length

    def write(self, data: memoryview, offset: int) -> Operation[int]:
        """As `View.write`."""
        length = len(data)
        if not length:
            raise _error(errno.EINVAL)
        self._check(offset, length)
        yield from self._clear(offset, length)
        node, size = self._node, self._copier.chunk_size
        ticket = Ticket()
        works: list[Work[int]] = []
        start = at = after = 0
        node.writes.count += 1
        try:
            done = 0
            while done < length:
                chunk, within = divmod(offset + done, size)
                taken = min(size - within, length - done)
                place = node.table.get(chunk)
                if place is None:
                    piece = data[done : done + taken]
                    self._copier.want(node, Wanted(chunk, ticket, piece, within))
                elif after and place * size + within == after and start + after - at == done:
                    after += taken
                else:
                    if after:
                        works.append(node.disk.write(data[start : start + after - at], at))
                    start, at = done, place * size + within
                    after = at + taken
                done += taken
            if after:
                works.append(node.disk.write(data[start : start + after - at], at))
            yield from _both(works, ticket)
        finally:
            node.writes.left()
        return length

    def flush(self) -> Operation[None]:
        """As `View.flush`."""
        node = self._node
        if not node.valid:
            raise _error(errno.EIO)
        node.reads.count += 1
        try:
            yield node.disk.flush()
        finally:
            node.reads.left()

    def zero(self, offset: int, length: int) -> Operation[None]:
        """As `View.zero`. What was never written, anywhere, costs no entry."""
        self._check(offset, length)
        size, end = self._copier.chunk_size, offset + length
        while offset < end:
            within = offset % size
            if within or end - offset < size:
                taken = min(size - within, end - offset)
                yield from self.write(self._zeroes[:taken], offset)
            else:
                taken = min(end - offset - (end - offset) % size, max(_PIECE, size))
                yield from self._zero_chunks(offset // size, (offset + taken) // size - 1)
            offset += taken

    # --- inside

    def _check(self, offset: int, length: int) -> None:
        if (offset | length) & (BLOCK - 1) or offset + length > self._node.size:
            raise _error(errno.EINVAL)

    def _clear(self, offset: int, length: int) -> Operation[None]:
        """Wait until a range may change; what it says holds until the caller yields."""
        node, size = self._node, self._copier.chunk_size
        first, last = offset // size, (offset + length - 1) // size
        while True:
            if not node.valid or node.ending is not None:
                raise _error(errno.EIO)
            if node.holds:
                yield node.released
            elif (gate := self._obstacle(first, last)) is not None:
                yield gate
            else:
                return

    def _obstacle(self, first: int, last: int) -> Gate | None:
        node = self._node
        gate = self._copier.keep(node, first, last)
        if gate is None and node.pending:
            for chunk in range(first, last + 1):
                gate = node.pending.get(chunk) or gate
        if gate is None and node.through and node.reading_through(first, last):
            gate = node.through_left
        return gate

    def _zero_chunks(self, first: int, last: int) -> Operation[None]:
        """Zero whole chunks."""
        node, size = self._node, self._copier.chunk_size
        while chunks := self._written(first, last):
            gate = None
            if not node.valid or node.ending is not None:
                raise _error(errno.EIO)
            if node.holds:
                yield node.released
                continue
            for chunk in chunks:
                gate = self._obstacle(chunk, chunk) or gate
            if gate is None:
                break
            yield gate
        ticket = Ticket()
        node.writes.count += 1
        try:
            for chunk in chunks:
                place = node.table.get(chunk)
                if place is None:
                    self._copier.want(node, Wanted(chunk, ticket, is_hole=True))
                else:
                    node.disk.zero(place * size, size)
            yield from _both([], ticket)
        finally:
            node.writes.left()

    def _written(self, first: int, last: int) -> list[int]:
        """Return the chunks that do not show a hole of the origin."""
        node, size = self._node, self._copier.chunk_size
        found, beneath = [], []
        origin = node
        for chunk in range(first, last + 1):
            owner, _ = owner_of(node, chunk)
            if owner.younger is None:
                origin = owner
                beneath.append(chunk)
            else:
                found.append(chunk)
        if beneath:
            begin = beneath[0] * size
            extents = origin.disk.data_extents(begin, (beneath[-1] + 1) * size - begin)
            data: set[int] = set()
            for start, length in extents:
                data.update(range(start // size, (start + length - 1) // size + 1))
            found.extend(chunk for chunk in beneath if chunk in data)
        return found


def _both(works: list[Work[int]], ticket: Ticket) -> Operation[None]:
    """Wait for requests and for entries; all of them, whatever fails."""
    failure = _error(errno.EIO)
    failed = False
    try:
        if works:
            yield works
    except OSError as error:
        failure, failed = error, True
    while ticket.left:
        yield ticket
    if failed or ticket.failed:
        raise failure


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
