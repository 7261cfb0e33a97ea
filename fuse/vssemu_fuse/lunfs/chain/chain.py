"""A chain: an origin and its snapshots, each of them served as a view.

    [eldest snapshot, …, youngest snapshot, origin]

A snapshot of any node is inserted just before it, with an empty store; nothing else changes.
A node is taken out when its elders have of it what they see. Which nodes there are, in which
order, is written down by the caller (`record`), before or after as said below.

Owns the list. The rule of copying is in `copying`, what is done at a view in `origins`
and `snapshots`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence

from vssemu.stores.format import check_chunk_size
from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.chain import loading
from vssemu_fuse.lunfs.chain.copying import Copier
from vssemu_fuse.lunfs.chain.handing import hand_down
from vssemu_fuse.lunfs.chain.holding import Hold
from vssemu_fuse.lunfs.chain.nodes import Node
from vssemu_fuse.lunfs.chain.origins import OriginView
from vssemu_fuse.lunfs.chain.snapshots import SnapshotView
from vssemu_fuse.lunfs.io.buffers import Scratch
from vssemu_fuse.lunfs.io.disk import Disk
from vssemu_fuse.lunfs.io.work import Gate, Operation, Tally, Worker

prepare_store = loading.write_header
"""Make a file of zeroes, as long as the store may become, an empty store; durably."""


class Chain:
    """A chain; at first an origin alone, which is served at once.

    chunk_size: bytes, 0 for one that has had no snapshot. power: entries are made safe from a
    loss of power, else from a kill alone. gathers: the copies of many writers at a time go
    together, for which some wait a little. settle: makes the record durable that names the
    snapshots; called before the first entry in the store of a new one; raises OSError.
    """

    def __init__(
        self,
        worker: Worker,
        scratch: Scratch,
        lun: LunId,
        image: Disk,
        *,
        chunk_size: int = 0,
        power: bool = True,
        gathers: bool = False,
        settle: Callable[[], Operation[None] | None] = lambda: None,
    ) -> None:
        self._worker = worker
        self._copier = Copier(worker, scratch, power=power, gathers=gathers, settle=settle)
        self._origin = Node(lun, image, image.size)
        self._nodes: dict[LunId, Node] = {lun: self._origin}
        self._scratch = scratch
        self.endings = Tally()
        """Removals that are under way."""
        self._is_reloading = False
        self._reloaded = Gate()
        origin = OriginView(self._origin, self._copier)
        self._views: dict[LunId, OriginView | SnapshotView] = {lun: origin}
        self.chunk_size = chunk_size

    @property
    def origin(self) -> LunId:
        """The origin."""
        return self._origin.lun

    @property
    def luns(self) -> list[LunId]:
        """All nodes, eldest first, the origin last."""
        found = []
        node: Node | None = self._origin
        while node is not None:
            found.append(node.lun)
            node = node.elder
        return found[::-1]

    @property
    def chunk_size(self) -> int:
        """Bytes of a chunk; 0 while there was no snapshot. To be set only as long."""
        return self._copier.chunk_size

    @chunk_size.setter
    def chunk_size(self, size: int) -> None:
        if size:
            check_chunk_size(size)
        if size != self._copier.chunk_size and len(self._nodes) > 1:
            raise ValueError("a chain with snapshots has its chunk size")
        self._copier.chunk_size = size
        if size:
            self._origin.measure(size)

    def view(self, lun: LunId) -> OriginView | SnapshotView:
        """Return what is served of a node. Raises KeyError."""
        return self._views[lun]

    def node(self, lun: LunId) -> Node:
        """Return a node, for facts: `valid`, `count`, `table`, `disk`. Raises KeyError."""
        return self._nodes[lun]

    # --- what there is

    def load(self, snapshots: Sequence[tuple[LunId, Disk, int]]) -> Operation[None]:
        """Take over the snapshots that are recorded: (LUN, store, size), eldest first.

        For a chain without snapshots that nobody uses yet. A snapshot whose store is damaged
        or cannot be read is invalid from now on, and so are its elders. Raises OSError for the
        image.
        """
        for lun, store, size in snapshots:
            self._link(Node(lun, store, size), self._origin)
        yield from self.reload()

    def reload(self) -> Operation[None]:
        """Forget all and read it from the files again; nothing may be under way but removals.

        Those that have begun are waited for, others wait.
        """
        self._is_reloading = True
        try:
            while self.endings.count:
                yield self.endings.none
            yield from self._reload()
        finally:
            self._is_reloading = False
            self._reloaded.open()

    def _reload(self) -> Operation[None]:
        self._copier.is_unsure = False
        self._origin.disk.refresh()
        self.refresh()
        is_lost = False
        for lun in self.luns[-2::-1]:
            node = self._nodes[lun]
            is_known = yield from loading.load(node, self.chunk_size)
            if is_known and not is_lost:
                continue
            # Nobody knows what its elders saw there, and what is written now it does not get.
            is_lost = node.valid = True
            yield from self._copier.end(node)

    def refresh(self) -> None:
        """Take over the size of an image that has grown. Raises OSError."""
        self._origin.disk.refresh()
        self._origin.size = self._origin.disk.size
        if self.chunk_size:
            self._origin.measure(self.chunk_size)

    def insert(self, lun: LunId, store: Disk, before: LunId) -> None:
        """Take a snapshot: a new node with an empty, prepared store, just elder than another.

        That one must be held and quiet. The record is written in the same step, before or
        after; nothing may be yielded in between.
        Raises OSError: EBUSY when it is not held any more, EIO when it is invalid.
        """
        source = self._nodes[before]
        if not source.holds or source.writes.count:
            raise OSError(errno.EBUSY, f"{before} is not held")
        if not source.valid or source.ending is not None:
            raise OSError(errno.EIO, f"{before} is invalid")
        node = Node(lun, store, source.size)
        self._link(node, source)
        node.measure(self.chunk_size)

    def remove(self, lun: LunId) -> Operation[None]:
        """Take a snapshot out; its elders stay as they are, as far as they have room.

        Its view fails from now on. Afterwards the record is to be written without it, durably,
        then its files may go. One that is not there is no error. Raises OSError when what its
        elders need cannot be written, nor that they lack it.
        """
        yield from self._ending(self._remove(lun))

    def empty(self, lun: LunId) -> Operation[None]:
        """Make a snapshot invalid and free its bytes; else as `remove`, but it stays."""
        yield from self._ending(self._empty(lun))

    def _ending(self, operation: Operation[None]) -> Operation[None]:
        while self._is_reloading:
            yield self._reloaded
        self.endings.count += 1
        try:
            yield from operation
        finally:
            self.endings.left()

    def _remove(self, lun: LunId) -> Operation[None]:
        node = self._nodes.get(lun)
        if node is None:
            return
        yield from self._copier.end(node)
        yield from hand_down(self._copier, node)
        if self._copier.is_unsure:
            # An elder that lacks what was handed down would show something else after a restart.
            raise OSError(errno.EIO, f"a store of the chain of {lun} cannot be written")
        if self._nodes.pop(lun, None) is None:
            return
        self._unlink(node)
        del self._views[lun]
        yield from _left_alone(node)
        node.disk.close()

    def _empty(self, lun: LunId) -> Operation[None]:
        node = self._nodes[lun]
        yield from self._copier.end(node)
        yield from hand_down(self._copier, node)
        node.table = {}
        node.count = 0
        yield from _left_alone(node)
        if lun not in self._nodes:
            return
        node.disk.zero(self.chunk_size, node.disk.size - self.chunk_size)
        node.reads.count += 1
        try:
            yield node.disk.flush()
        finally:
            node.reads.left()

    def settle(self, lun: LunId) -> Operation[None]:
        """Make durable what a snapshot shows of younger nodes; the record is the caller's."""
        node: Node | None = self._nodes[lun]
        nodes = []
        while node is not None:
            nodes.append(node)
            node.reads.count += 1
            node = node.younger
        try:
            yield [node.disk.flush() for node in nodes]
        finally:
            for node in nodes:
                node.reads.left()

    def hold(self, lun: LunId, seconds: float) -> Hold:
        """Hold the writes to a node from now on; run `quiet` of what is returned, then."""
        return Hold(self._worker, self._nodes[lun], seconds)

    def changed(self, lun: LunId) -> list[int]:
        """Return the chunks, in order, in which a view may differ from the origin's."""
        found: set[int] = set()
        node = self._nodes[lun]
        while node.younger is not None:
            found.update(node.table)
            node = node.younger
        return sorted(found)

    def close(self) -> None:
        """Let go of all files; nothing may be under way."""
        for node in self._nodes.values():
            node.disk.close()

    # --- inside

    def _link(self, node: Node, before: Node) -> None:
        node.elder, node.younger = before.elder, before
        if before.elder is not None:
            before.elder.younger = node
        before.elder = node
        self._nodes[node.lun] = node
        self._views[node.lun] = SnapshotView(node, self._copier, self._scratch)

    def _unlink(self, node: Node) -> None:
        assert node.younger is not None, "an origin is not taken out"
        node.younger.elder = node.elder
        if node.elder is not None:
            node.elder.younger = node.younger
        node.elder = None


def _left_alone(node: Node) -> Operation[None]:
    """Wait until nobody is at a node's bytes; nobody new may come."""
    for gate, is_used in _uses(node):
        while is_used():
            yield gate


def _uses(node: Node) -> Iterable[tuple[Gate, Callable[[], object]]]:
    yield node.through_left, lambda: node.through
    yield node.reads.none, lambda: node.reads.count
    yield node.writes.none, lambda: node.writes.count
    yield node.committed, lambda: node.is_committing
