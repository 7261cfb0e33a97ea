"""The cow engine: LUNs and copies are nodes of chains, which shards (lunfs processes) serve.

    naa.LUN            an origin, or a copy of one: a node of a chain
    naa.COPY.scratch-… the scratch clone of a copy: a snapshot of the copy

A copy is a snapshot at once, whatever the size: what is written later is copied first. How
full copies are made is told in `plex`, how a set is one instant in `commit`. The shards
hold the writes themselves, so a set is one instant also when no host holds anything.

Raises VssError of the shards, and OSError: FileNotFoundError for a LUN that is not there.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import structlog
import trio

from vssemu.api import shard as api
from vssemu.array.engines.cow import room as cow_room
from vssemu.array.engines.cow.commit import Instant, holding
from vssemu.array.engines.cow.exchange import Exchange
from vssemu.array.engines.cow.nodes import (
    AT,
    BEFORE,
    EXPORT,
    SCRATCH,
    NodeFiles,
    new_scratch,
    owner_of,
    with_suffix,
)
from vssemu.array.engines.cow.plex import FullCopies
from vssemu.array.engines.cow.shards import Shard, Shards
from vssemu.array.engines.files import sync_directory
from vssemu.vss.array import LunKind
from vssemu.vss.engine import Backing, CopyPair, Prepared, Usage
from vssemu.vss.errors import Fail
from vssemu.vss.identity import LunId

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SECONDS_PER_COMMIT: Final = 5e-3
SECONDS_PER_COPY: Final = 1e-3


class CowEngine:
    """Implements `vssemu.array.core.ScratchEngine` over shards.

    directory: of the LUNs' directories. shards: of the sockets of lunfs. Open it before use.
    """

    name = "cow"

    def __init__(self, directory: Path, shards: Path) -> None:
        self._directory = directory
        self.shards = self._shards = Shards(shards, directory)
        self._files = NodeFiles(self._shards)
        self._full = FullCopies(directory, self._shards, self._files)
        self.exchange = Exchange(directory, self._shards, self._files, self._full, self._remove)
        self._instants: dict[tuple[CopyPair, ...], Instant] = {}
        self._usages: dict[LunId, Usage] = {}
        if not self._shards.all:
            raise Fail(
                f"there is no lunfs-0.sock in {shards}",
                item=str(shards),
                hint="start the shards first, or give their directory with --shards",
            )

    async def open(self) -> None:
        """Have the shards serve the pool. Raises VssError."""
        await self._shards.open()

    async def aclose(self) -> None:
        """Close whatever is open; the shards go on serving."""
        for prepared in tuple(self._instants):
            self._instants.pop(prepared).close()
        self._files.close_all()
        await self._shards.aclose()

    async def create(self, lun: LunId, size: int) -> None:
        """Make an empty LUN, durably, in the shard with the fewest."""
        shard = self._shards.find(lun) or await self._shards.emptiest()
        await shard.call(api.create, lun, size)
        shard.names.add(lun)

    async def activate(self, lun: LunId, *, writable: bool) -> Backing:
        """Open the LUN. A descriptor that writes is asked of the fabric, not kept here."""
        del writable
        return await self._shards.of(lun).in_thread(self._files.backing, lun)

    async def deactivate(self, lun: LunId) -> None:
        """Close what is open of the LUN."""
        for name in (lun, self._scratch_of(lun)):
            if name is not None:
                self._files.close(name)

    async def extend(self, lun: LunId, size: int) -> None:
        """Grow the LUN to `size` bytes; one that is as large already stays as it is."""
        await self._shards.of(lun).call(api.extend, lun, size)

    # --- copies

    async def begin(self, pairs: Sequence[CopyPair], kind: LunKind) -> None:
        """Copy what full copies can have ahead; of differential ones there is nothing."""
        if kind is LunKind.PLEX:
            for pair in pairs:
                await self._full.begin(pair)

    async def prepare(self, pairs: Sequence[CopyPair], kind: LunKind, deadline: float) -> Prepared:
        """Make the stores of the copies, and open the lines over which they are committed.

        deadline: a moment of trio's clock. Raises TooSlowError when it passes.
        """
        seconds = SECONDS_PER_COMMIT + SECONDS_PER_COPY * len(pairs)
        prepared = Prepared(pairs=tuple(pairs), kind=kind, hold_seconds=seconds)
        try:
            with trio.fail_at(deadline):
                await self.begin(pairs, kind)
                groups = self._groups(_snapshots(prepared))
                for shard, wanted in groups.items():
                    await shard.call(api.prepare, wanted)
                instant = await trio.to_thread.run_sync(Instant, groups)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.abort(prepared)
            raise
        self._instants[prepared.pairs] = instant
        return prepared

    async def keep_close(self, prepared: Prepared) -> None:
        """Do nothing: a commit has no more to do when it is late."""
        del prepared

    def commit(self, prepared: Prepared) -> Sequence[int]:
        """Take the copies, all at one instant, which the shards hold writes for."""
        snapshots = _snapshots(prepared)
        sizes = self._instants[prepared.pairs].commit()
        for shard, pairs in self._groups(snapshots).items():
            shard.names.update(pair.target for pair in pairs)
        return [sizes[pair.target] for pair in snapshots]

    async def settle(self, prepared: Prepared) -> None:
        """Make the copies durable; complete those that are full."""
        self._forget(prepared)
        for pair in prepared.pairs:
            # Raises for a copy that is not there any more.
            shard = self._shards.of(pair.target)
            if prepared.kind is LunKind.PLEX:
                await self._full.settle(pair.target)
            else:
                await shard.call(api.settle, [pair.target])

    async def abort(self, prepared: Prepared) -> None:
        """Remove the copies, taken or not."""
        self._forget(prepared)
        for pair in prepared.pairs:
            await self.delete(pair.target)

    def _forget(self, prepared: Prepared) -> None:
        instant = self._instants.pop(prepared.pairs, None)
        if instant is not None:
            instant.close()

    def _groups(self, pairs: Sequence[CopyPair]) -> dict[Shard, list[CopyPair]]:
        groups: defaultdict[Shard, list[CopyPair]] = defaultdict(list)
        for pair in pairs:
            groups[self._shards.of(pair.source)].append(pair)
        return dict(groups)

    def hold(self, luns: Sequence[LunId]) -> AbstractContextManager[None]:
        """Hold the writes to LUNs during a block, in a thread; `commit` does so by itself.

        Raises BadState at its end when the hold did not last.
        """
        groups: defaultdict[Shard, list[LunId]] = defaultdict(list)
        for lun in luns:
            groups[self._shards.of(lun)].append(lun)
        return holding(groups)

    async def resync(self, source: LunId, target: LunId, progress: Callable[[int], None]) -> None:
        """Make the target equal to the source, also in length; progress: percent."""
        progress(0)
        await self._full.resync(source, target)
        progress(100)

    # --- scratch clones

    async def scratch(self, lun: LunId, *, writable: bool) -> Backing:
        """Open the scratch clone, a snapshot of the copy."""
        del writable
        name = self._scratch_of(lun)
        if name is None:
            name = new_scratch(lun)
            shard = self._shards.of(lun)
            pair = CopyPair(source=lun, target=name)
            await shard.call(api.prepare, [pair])
            await shard.call(api.commit, [pair])
            await shard.call(api.settle, [name])
            shard.names.add(name)
        return await self._shards.of(name).in_thread(self._files.backing, name)

    async def discard_scratch(self, lun: LunId) -> None:
        """Remove the scratch clone, if there is one."""
        if (name := self._scratch_of(lun)) is not None:
            await self._remove(name)

    async def has_scratch(self, lun: LunId) -> bool:
        """Tell whether there is a scratch clone of a copy."""
        return self._scratch_of(lun) is not None

    def _scratch_of(self, lun: LunId) -> LunId | None:
        begin = with_suffix(lun, SCRATCH)
        shard = self._shards.find(lun)
        names = () if shard is None else shard.names
        return next((name for name in names if name.startswith(begin)), None)

    # --- ends

    async def extents(self, lun: LunId) -> int:
        """Return how many chunks the LUN has of its own."""
        return (await self._shards.of(lun).call(api.facts, lun)).exceptions

    async def empty(self, lun: LunId) -> None:
        """Free the bytes of the copy and its scratch clone; the nodes stay, invalid."""
        for name in (self._scratch_of(lun), lun):
            if name is not None and (shard := self._shards.find(name)) is not None:
                await shard.call_long(api.empty, name)

    async def lost(self) -> Sequence[LunId]:
        """Return the LUNs whose data are gone, for their stores found no room."""
        return [name for name in await cow_room.invalid(self._shards) if name == owner_of(name)]

    async def freed_at_once(self, luns: Collection[LunId]) -> Collection[LunId]:
        """Return those that are the eldest of their chains which have data."""
        return await cow_room.freed_at_once(self._shards, luns)

    async def delete(self, lun: LunId) -> None:
        """Remove the LUN and all that belongs to it, durably."""
        for name in await self._scratch_names(lun):
            await self._remove(name)
        await self._full.forget(lun)
        await self._remove(lun)
        self._usages.pop(lun, None)

    async def _scratch_names(self, lun: LunId) -> list[LunId]:
        """Return the clone of a copy, and those that did not come to be."""
        found = await trio.to_thread.run_sync(os.listdir, self._directory)
        names = {LunId(name) for name in found if name.startswith(with_suffix(lun, SCRATCH))}
        if (name := self._scratch_of(lun)) is not None:
            names.add(name)
        return sorted(names)

    async def _remove(self, name: LunId) -> None:
        self._files.close(name)
        if (shard := self._shards.find(name)) is not None:
            await shard.call_long(api.remove, name)
            shard.names.discard(name)
        await self._sweep(name)

    async def _sweep(self, name: LunId) -> None:
        """Remove what was prepared and is in no chain: the shards forget it, its files go."""
        if not (self._directory / name).exists():
            return
        for shard in self._shards.all:
            await shard.call_long(api.abort, [name])
        await trio.to_thread.run_sync(_remove_directory, self._directory, name)

    async def remove_unknown(self, known: Collection[LunId]) -> Sequence[str]:
        """Remove what belongs to no LUN of these, and what unfinished copies left."""
        names = {path.name for path in self._directory.iterdir()}
        names.update(name for shard in self._shards.all for name in shard.names)
        gone = [
            LunId(name)
            for name in sorted(names)
            if owner_of(name) not in known
            or name.endswith((BEFORE, AT, EXPORT))
            or (SCRATCH in name and self._shards.find(LunId(name)) is None)
        ]
        # An origin goes after its snapshots, the eldest of which has nobody to hand down to.
        ranked = sorted([(await self._rank(name), name) for name in gone])
        for _, name in ranked:
            await self._remove(name)
        return [name for _, name in ranked]

    async def _rank(self, name: LunId) -> int:
        shard = self._shards.find(name)
        if shard is None:
            return 0
        facts = await shard.call(api.facts, name)
        return facts.chain.index(name)

    async def usage(self, lun: LunId) -> Usage:
        """Return the LUN's size, 0 for a copy that was ended, and what is its own on the disk."""
        usage = await self._shards.of(lun).call(api.usage, lun)
        self._usages[lun] = usage
        return usage

    async def last_usage(self, lun: LunId) -> Usage:
        """As `usage`; what it was last while its shard does not answer, 0 if that is unknown."""
        usage = await self._shards.of(lun).call_in_haste(api.usage, lun)
        if usage is None:
            return self._usages.get(lun, Usage(size=0, allocated=0))
        self._usages[lun] = usage
        return usage


def _snapshots(prepared: Prepared) -> list[CopyPair]:
    """Return the snapshots that a commit takes: of a full copy, the one it is completed from."""
    if prepared.kind is LunKind.PLEX:
        return [FullCopies.at(pair) for pair in prepared.pairs]
    return list(prepared.pairs)


def _remove_directory(directory: Path, name: str) -> None:
    if os.path.lexists(directory / name):
        shutil.rmtree(directory / name)
        sync_directory(directory)
