"""One chain as a shard serves it: with its record, and the files of its nodes.

Owns what is in memory and on the disk at once. Names and calls are `shard`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import trio

from vssemu import logs
from vssemu.linux.aio import flushing
from vssemu.stores.format import store_length
from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.chain.chain import Chain, prepare_store
from vssemu_fuse.lunfs.chain.holding import Hold
from vssemu_fuse.lunfs.io.buffers import Scratch
from vssemu_fuse.lunfs.io.disk import Disk, FileDisk
from vssemu_fuse.lunfs.io.view import View
from vssemu_fuse.lunfs.io.work import Operation, Worker
from vssemu_fuse.lunfs.shard import files, record
from vssemu_fuse.lunfs.shard.record import Node, Record

_log = logs.get_logger(__name__)

CHUNK_SIZE: Final = 16 << 10
"""Bytes of a chunk of a chain that has its first snapshot.

First writes are as fast as with 4 KiB, and twice as fast as with 64 KiB, at random; a GiB that
changed takes a quarter of the entries in memory that it takes with 4 KiB.
"""


class Fittings(Protocol):
    """How files are opened and views are shown: bare, or with faults."""

    def open(self, directory: Path) -> None:
        """Know the directory of the LUNs' directories; called once, before all else."""

    def disk(self, origin: LunId, path: Path) -> Disk:
        """Open an image or store of a chain. Raises OSError."""

    def view(self, origin: LunId, lun: LunId, view: View) -> View:
        """Return what is served instead of a node's view."""

    def forget(self, lun: LunId) -> None:
        """Know that a node goes; unknown is no error."""


class Bare:
    """Files and views as they are. Implements `Fittings`."""

    def open(self, directory: Path) -> None:
        """Do nothing."""
        del directory

    def disk(self, origin: LunId, path: Path) -> Disk:
        """Open a file."""
        del origin
        return FileDisk.open(path)

    def view(self, origin: LunId, lun: LunId, view: View) -> View:
        """Return the view."""
        del origin, lun
        return view

    def forget(self, lun: LunId) -> None:
        """Do nothing."""
        del lun


class Setting:
    """What all chains of a shard share. directory: of the LUNs' directories, once it is known."""

    def __init__(
        self,
        worker: Worker,
        scratch: Scratch,
        fittings: Fittings,
        *,
        chunk_size: int = CHUNK_SIZE,
        power: bool = True,
    ) -> None:
        self.directory = Path()
        self.worker = worker
        self.scratch = scratch
        self.fittings = fittings
        self.chunk_size = chunk_size
        self.power = power


class ServedChain:
    """A chain with its record. Raises OSError; the chain of one that was made is loaded next."""

    def __init__(self, setting: Setting, recorded: Record) -> None:
        self._setting = setting
        self.record = recorded
        self.directory = setting.directory / recorded.origin
        self.chain = Chain(
            setting.worker,
            setting.scratch,
            recorded.origin,
            self._disk(self.directory / files.IMAGE),
            chunk_size=recorded.chunk_size,
            power=setting.power,
            # Without flushes a commit is over so soon that waiting does not pay.
            gathers=setting.power,
            settle=self._settle,
        )

    def load(self) -> Operation[None]:
        """Take over the snapshots of the record."""
        nodes = self._whole()
        yield from self.chain.load(
            [(node.name, self._disk(self.store(node.name)), node.size) for node in nodes]
        )
        if len(nodes) < len(self.record.nodes):
            self.write_record()

    def _whole(self) -> list[Node]:
        """Return the snapshots whose stores are there, and those of all younger ones.

        Without one of them nobody knows what its elders have to show.
        """
        whole: list[Node] = []
        for node in reversed(self.record.nodes):
            if not self.store(node.name).exists():
                gone = [each.name for each in self.record.nodes[: -len(whole) or None]]
                _log.error("stores_missing", first=node.name, snapshots_lost=gone)
                break
            whole.append(node)
        return whole[::-1]

    def store(self, name: LunId) -> Path:
        """Return where the store of a snapshot is."""
        return self._setting.directory / name / files.STORE

    def file(self, name: LunId) -> Path:
        """Return where a node's bytes are."""
        return self.directory / files.IMAGE if name == self.origin else self.store(name)

    @property
    def origin(self) -> LunId:
        """The origin."""
        return self.record.origin

    @property
    def luns(self) -> list[LunId]:
        """All nodes, eldest first, the origin last."""
        return self.chain.luns

    def has(self, name: LunId) -> bool:
        """Tell whether a node is in the chain."""
        try:
            self.chain.node(name)
        except KeyError:
            return False
        return True

    def _disk(self, path: Path) -> Disk:
        return self._setting.fittings.disk(self.record.origin, path)

    def fix_chunk_size(self) -> None:
        """Have a chunk size, from the first snapshot on."""
        if not self.chain.chunk_size:
            self.chain.chunk_size = self._setting.chunk_size

    def full_store(self, source: LunId) -> int:
        """Return the length of a store that can take all of a node."""
        size = self.chain.chunk_size
        return store_length(-(-self.chain.node(source).size // size), size)

    def open_store(self, target: LunId) -> Disk:
        """Open the store of a snapshot that is to be, made before."""
        return self._disk(self.store(target))

    def format_store(self, store: Disk) -> Operation[None]:
        """Make a file of zeroes an empty store, durably."""
        yield from prepare_store(store, self.chain.chunk_size)

    # --- the instant

    def stage(self, pairs: Sequence[tuple[LunId, LunId]]) -> Record:
        """Write down, not to count yet, what the chain is with new snapshots.

        pairs: (source, target), in the order in which they are inserted.
        """
        nodes = list(self._nodes())
        for source, target in pairs:
            size = self.chain.node(source).size
            names = [node.name for node in nodes]
            at = names.index(source) if source in names else len(names)
            nodes.insert(at, Node(name=target, size=size))
        return record.stage(self.directory, self._with(nodes))

    def publish(self, staged: Record) -> None:
        """Have what was staged count."""
        record.publish(self.directory)
        self.record = staged

    def write_record(self) -> None:
        """Write down what the chain is, safe from a crash."""
        self.record = record.write(self.directory, self._with(list(self._nodes())))

    def _with(self, nodes: list[Node]) -> Record:
        return Record(
            origin=self.origin,
            shard=self.record.shard,
            chunk_size=self.chain.chunk_size,
            nodes=tuple(nodes),
            generation=self.record.generation,
        )

    def _nodes(self) -> Iterator[Node]:
        for name in self.chain.luns[:-1]:
            yield Node(name=name, size=self.chain.node(name).size)

    def _settle(self) -> Operation[None]:
        """As `sync_record`, for the first copy into a store."""
        while (descriptor := record.open_latest(self.directory)) is not None:
            try:
                yield flushing(descriptor)
                inode = os.fstat(descriptor).st_ino
            finally:
                os.close(descriptor)
            if record.promote(self.directory, inode):
                break
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield flushing(descriptor)
        finally:
            os.close(descriptor)

    async def sync_record(self) -> None:
        """Make the record safe from a loss of power; requests are served meanwhile."""
        while (inode := await trio.to_thread.run_sync(record.flush, self.directory)) is not None:
            if record.promote(self.directory, inode):
                break
        await trio.to_thread.run_sync(record.sync_directory, self.directory)


def take(
    own: Sequence[Hold], others: Sequence[Hold], insert: Callable[[], None]
) -> Operation[bool]:
    """Insert once all writes are held and quiet; False, with nothing done, when a hold ended.

    own: the holds that end with it, in any case. others: those that go on.
    """
    try:
        for hold in (*own, *others):
            yield from hold.quiet()
        if not all(hold.is_on for hold in (*own, *others)):
            return False
        insert()
        return True
    finally:
        for hold in own:
            hold.release()
