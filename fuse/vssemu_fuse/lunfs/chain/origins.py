"""The view of an origin: its image, changed in place once its elders have what was there."""

from __future__ import annotations

import errno
import os

from vssemu.linux.aio import Io
from vssemu_fuse.lunfs.chain.copying import Copier
from vssemu_fuse.lunfs.chain.nodes import Node
from vssemu_fuse.lunfs.io.view import BLOCK
from vssemu_fuse.lunfs.io.work import Gate, Operation, Work


class OriginView:
    """A `View`. Reads are bare requests, and so are writes for which nothing is to be kept."""

    def __init__(self, node: Node, copier: Copier) -> None:
        self._node = node
        self._copier = copier

    @property
    def size(self) -> int:
        """As `View.size`."""
        return self._node.size

    def read(self, room: memoryview, offset: int) -> Work[int]:
        """As `View.read`."""
        length = len(room)
        if (offset | length) & (BLOCK - 1) or offset + length > self._node.size:
            return refusing(errno.EINVAL)
        return self._node.disk.read(room, offset)

    def write(self, data: memoryview, offset: int) -> Work[int]:
        """As `View.write`."""
        node, length = self._node, len(data)
        if (offset | length) & (BLOCK - 1) or offset + length > node.size or not length:
            return refusing(errno.EINVAL)
        if node.holds:
            return self._write(data, offset, node.released)
        if node.elder is not None and (gate := self._obstacle(offset, length)) is not None:
            return self._write(data, offset, gate)
        work = node.disk.write(data, offset)
        node.writes.count += 1
        if isinstance(work, Io):
            work.tally = node.writes
            return work
        return _counted(node, work)

    def flush(self) -> Work[object]:
        """As `View.flush`."""
        return self._node.disk.flush()

    def zero(self, offset: int, length: int) -> Operation[None]:
        """As `View.zero`."""
        node = self._node
        if (offset | length) & (BLOCK - 1) or offset + length > node.size:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        end = offset + length
        while offset < end:
            if node.holds:
                yield node.released
                continue
            reach, gate = self._clear(offset, end)
            if gate is not None:
                yield gate
                continue
            node.disk.zero(offset, reach - offset)
            offset = reach

    def _obstacle(self, offset: int, length: int) -> Gate | None:
        """Return what a change must wait for, if it is anything but a hold."""
        node, size = self._node, self._copier.chunk_size
        first, last = offset // size, (offset + length - 1) // size
        gate = self._copier.keep(node, first, last)
        if gate is None and node.through and node.reading_through(first, last):
            gate = node.through_left
        return gate

    def _write(self, data: memoryview, offset: int, gate: Gate | None) -> Operation[int]:
        """Write, once the gate has opened and nothing else is in the way."""
        node = self._node
        while gate is not None:
            yield gate
            gate = node.released if node.holds else None
            if gate is None and node.elder is not None:
                gate = self._obstacle(offset, len(data))
        node.writes.count += 1
        try:
            yield node.disk.write(data, offset)
        finally:
            node.writes.left()
        return len(data)

    def _clear(self, offset: int, end: int) -> tuple[int, Gate | None]:
        """Return up to where a range can be zeroed, or what must be waited for before.

        Holes need no copies; of data, a piece at a time is looked at.
        """
        if self._node.elder is None:
            return end, None
        gate, left = None, _PIECE
        for start, length in self._node.disk.data_extents(offset, end - offset):
            taken = min(length, left)
            gate = self._obstacle(start, taken) or gate
            left -= taken
            if not left:
                return start + taken, gate
        return end, gate


_PIECE = 2 << 20


def _counted(node: Node, work: Operation[int]) -> Operation[int]:
    try:
        return (yield from work)
    finally:
        node.writes.left()


def refusing(number: int) -> Operation[int]:
    """Return an operation that fails."""
    yield from ()
    raise OSError(number, os.strerror(number))
