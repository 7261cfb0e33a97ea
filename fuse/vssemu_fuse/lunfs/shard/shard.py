"""What is done to the chains of a shard: what `vssemu.api.shard` asks.

Everything may be asked again: what is there already, or gone already, is no error. Only what
lasts is awaited, beside the requests; what must be one step is done in one.

Raises VssError, and OSError of the pool.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, TypeVar

import trio

from vssemu import logs
from vssemu.stores.format import LARGEST_CHUNK, store_length
from vssemu.vss.engine import CopyPair
from vssemu.vss.errors import BadState, InvalidArgument
from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.chain.holding import Hold
from vssemu_fuse.lunfs.io.disk import Disk
from vssemu_fuse.lunfs.io.work import Work
from vssemu_fuse.lunfs.shard import files, record
from vssemu_fuse.lunfs.shard.chains import Chains
from vssemu_fuse.lunfs.shard.facts import Facts
from vssemu_fuse.lunfs.shard.record import Node, Record
from vssemu_fuse.lunfs.shard.served import ServedChain, take

_log = logs.get_logger(__name__)

COMMIT_SECONDS: Final = 5.0
"""How long the writes that were submitted before a commit may take."""

LARGEST: Final = 1 << 62
"""Bytes of a LUN at most; offsets of files are signed numbers of 64 bits."""

T = TypeVar("T")


class Runner(Protocol):
    """Runs work beside the requests, to its end although the caller is cancelled."""

    async def __call__(self, work: Work[T]) -> T:
        """Return what it gives. Raises its OSError."""


class Shard:
    """The calls to one shard. run: how work is done beside the requests."""

    def __init__(self, chains: Chains, run: Runner) -> None:
        self.chains = chains
        self.facts = Facts(chains)
        self._setting = chains.setting
        self._names = chains.names
        self._run = run
        self._prepared: dict[LunId, tuple[Disk, int | None]] = {}
        self._holds: dict[LunId, Hold] = {}

    # --- origins

    async def create(self, lun: LunId, size: int) -> None:
        """Make an origin."""
        if self.chains.find(lun) is not None:
            return
        if not self.chains.is_serving:
            raise BadState(f"shard {self.chains.number} serves no pool yet", item=lun)
        _check_name(lun)
        _check_size(lun, size)
        directory = self._setting.directory / lun
        if (directory / record.DURABLE).exists():
            raise BadState(
                f"{lun} is there already, and is not served",
                item=lun,
                hint="see the log of lunfs, which says why",
            )

        def make() -> Record:
            files.make(directory, files.IMAGE, size)
            written = record.write(directory, Record(origin=lun, shard=self.chains.number))
            record.sync(directory)
            return written

        self.chains.add(ServedChain(self._setting, await trio.to_thread.run_sync(make)))

    async def adopt(self, origin: LunId, snapshot: LunId) -> None:
        """Take over an image, and the store of a snapshot of it, that others put there."""
        if self.chains.find(origin) is not None:
            return
        if not self.chains.is_serving:
            raise BadState(f"shard {self.chains.number} serves no pool yet", item=origin)

        def write() -> Record:
            directory = self._setting.directory / origin
            size = (directory / files.IMAGE).stat().st_size
            header = files.header(self._setting.directory / snapshot / files.STORE)
            written = record.write(
                directory,
                Record(
                    origin=origin,
                    shard=self.chains.number,
                    chunk_size=header.chunk_size,
                    nodes=(Node(name=snapshot, size=size),),
                ),
            )
            record.sync(directory)
            return written

        served = ServedChain(self._setting, await trio.to_thread.run_sync(write))
        await self._run(served.load())
        if self.chains.find(origin) is not None:
            # A new look at the pool has found it meanwhile.
            served.chain.close()
            return
        self.chains.add(served)

    async def extend(self, lun: LunId, size: int) -> None:
        """Grow an origin."""
        served = self.chains.of(lun)
        if served.origin != lun:
            if size <= self.chains.node(lun).size:
                return
            raise BadState(
                f"LUN {lun} is a copy, which cannot grow",
                item=lun,
                hint="make a full copy (a plex) if it has to grow",
            )
        _check_size(lun, size)
        await trio.to_thread.run_sync(files.extend, served.file(lun), size)
        served.chain.refresh()
        self._names.changed(lun)

    # --- snapshots in the making

    async def prepare(self, pairs: Sequence[CopyPair], limit: int | None) -> None:
        """Make stores."""
        _check_pairs(pairs)
        for pair in pairs:
            served = self.chains.of(pair.source)
            if pair.target in self._prepared or self.chains.find(pair.target) is not None:
                continue
            served.fix_chunk_size()
            length = served.full_store(pair.source)
            if limit is not None:
                length = min(length, max(limit, store_length(1, served.chain.chunk_size)))
            directory = self._setting.directory / pair.target
            await trio.to_thread.run_sync(files.make, directory, files.STORE, length)
            store = served.open_store(pair.target)
            await self._run(served.format_store(store))
            self._prepared[pair.target] = (store, limit)

    async def commit(self, pairs: Sequence[CopyPair]) -> list[int]:
        """Take snapshots at one instant."""
        _check_pairs(pairs)
        missing = [pair for pair in pairs if self.chains.find(pair.target) is None]
        if len(missing) not in {0, len(pairs)}:
            raise BadState(
                "a snapshot set was interrupted in its instant",
                item=missing[0].target,
                hint="it is given up; make it anew",
            )
        if missing:
            await self._take(missing)
        return [self.chains.node(pair.target).size for pair in pairs]

    async def _take(self, pairs: Sequence[CopyPair]) -> None:
        stores = {pair.target: self._store(pair) for pair in pairs}
        for pair in pairs:
            if not self.chains.node(pair.source).valid:
                raise BadState(f"{pair.source} has no data any more", item=pair.source)
        begun = time.monotonic()
        own, others = [], []
        for source in dict.fromkeys(pair.source for pair in pairs):
            hold = self._holds.get(source)
            if hold is not None:
                others.append(hold)
            else:
                own.append(self.chains.of(source).chain.hold(source, COMMIT_SECONDS))
        ended: list[float] = []

        def insert() -> None:
            self._insert(pairs, stores)
            ended.append(time.monotonic())

        taken = await self._run(take(own, others, insert))
        if not taken:
            raise BadState("the writes were not held long enough", item=pairs[0].source)
        _log.info(
            "snapshots_taken",
            targets=[pair.target for pair in pairs],
            held_ms=round(1e3 * (ended[0] - begun), 2),
        )

    def _store(self, pair: CopyPair) -> Disk:
        """Return the store that was prepared, perhaps by a predecessor of this process."""
        served = self.chains.of(pair.source)
        served.fix_chunk_size()
        if pair.target not in self._prepared:
            if not served.store(pair.target).exists():
                raise BadState(f"{pair.target} is not prepared", item=pair.target)
            self._prepared[pair.target] = (served.open_store(pair.target), None)
        store, limit = self._prepared[pair.target]
        if limit is None and store.size < (length := served.full_store(pair.source)):
            # The source has grown since.
            os.truncate(served.store(pair.target), length)
            store.refresh()
        return store

    def _insert(self, pairs: Sequence[CopyPair], stores: dict[LunId, Disk]) -> None:
        """Insert, with the record: one step, in which nothing else happens."""
        groups: dict[ServedChain, list[tuple[LunId, LunId]]] = {}
        for pair in pairs:
            groups.setdefault(self.chains.of(pair.source), []).append((pair.source, pair.target))
        staged = [(served, served.stage(group)) for served, group in groups.items()]
        for served, later in staged:
            served.publish(later)
        try:
            for served, group in groups.items():
                for source, target in group:
                    served.chain.insert(target, stores[target], source)
        except OSError:
            for served in groups:
                served.write_record()
            raise
        for pair in pairs:
            self._prepared.pop(pair.target, None)
            self.chains.show(pair.target)

    async def settle(self, targets: Sequence[LunId]) -> None:
        """Make snapshots durable."""
        for target in targets:
            await self._run(self.chains.of(target).chain.settle(target))
        for served in {self.chains.of(target) for target in targets}:
            await served.sync_record()

    async def abort(self, targets: Sequence[LunId]) -> None:
        """Remove snapshots, in the chain or not yet."""
        for target in targets:
            prepared = self._prepared.pop(target, None)
            if prepared is not None:
                prepared[0].close()
                directory = self._setting.directory / target
                await trio.to_thread.run_sync(files.remove, directory)
            served = self.chains.find(target)
            if served is not None and served.origin != target:
                await self.remove(target)

    # --- holds

    async def hold(self, luns: Sequence[LunId], seconds: float) -> None:
        """Hold writes."""
        holds = {lun: self.chains.of(lun).chain.hold(lun, seconds) for lun in luns}
        self.release(luns)
        self._holds.update(holds)
        quiet = [await self._run(hold.quiet()) for hold in holds.values()]
        if not all(quiet):
            self.release(luns)
            raise BadState(f"what is being written did not end within {seconds:g} s")

    def release(self, luns: Iterable[LunId]) -> bool:
        """End holds; tell whether all of them were still on."""
        holds = [self._holds.pop(lun, None) for lun in luns]
        lasted = [hold is not None and hold.release() for hold in holds]
        return all(lasted)

    # --- ends

    async def remove(self, lun: LunId) -> None:
        """Remove a node; asked again meanwhile, both wait for the end."""
        served = self.chains.find(lun)
        if served is None:
            return
        if served.origin == lun:
            await self._remove_origin(served)
            return
        self.chains.hide(lun)
        if lun in served.luns:
            await self._run(served.chain.remove(lun))
        served.write_record()
        await served.sync_record()
        await trio.to_thread.run_sync(files.remove, self._setting.directory / lun)

    async def _remove_origin(self, served: ServedChain) -> None:
        others = served.luns[:-1]
        if others:
            raise BadState(
                f"{served.origin} has snapshots: {', '.join(others)}",
                item=served.origin,
                hint="remove them first",
            )
        self.chains.hide(served.origin)
        hold = served.chain.hold(served.origin, COMMIT_SECONDS)
        await self._run(hold.quiet())
        await trio.to_thread.run_sync(files.remove, served.directory)
        self.chains.drop(served.origin)

    async def empty(self, lun: LunId) -> None:
        """End a snapshot for want of room."""
        served = self.chains.of(lun)
        if served.origin == lun:
            raise BadState(f"{lun} is no snapshot", item=lun)
        await self._run(served.chain.empty(lun))


def _check_name(name: LunId) -> None:
    """Raise InvalidArgument for what is not the name of a file in the pool."""
    if not name or "/" in name or name.startswith("."):
        raise InvalidArgument(f"{name!r} is not the name of a LUN", item=name)


def _check_size(lun: LunId, size: int) -> None:
    """Raise InvalidArgument for a size that no whole number of chunks makes."""
    if not 0 < size <= LARGEST or size % LARGEST_CHUNK:
        raise InvalidArgument(
            f"LUN {lun} cannot have {size} bytes",
            item=lun,
            hint="give a multiple of 1 MiB, at most 4 EiB",
        )


def _check_pairs(pairs: Sequence[CopyPair]) -> None:
    """Raise InvalidArgument unless every copy is another one, and has a name."""
    targets = [pair.target for pair in pairs]
    for target in targets:
        _check_name(target)
        if targets.count(target) > 1:
            raise InvalidArgument(f"{target} is to be two copies", item=target)
