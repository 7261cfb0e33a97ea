"""What an export or import of a snapshot asks of the shards.

    COPY.export    a snapshot of a chain's origin at one instant: what an exported store fits

With it writes go on while the two views are compared; what is written meanwhile is in its
store, and goes with it. One that a crash left goes when the array starts.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from vssemu.api import shard as api
from vssemu.array.engines.cow.nodes import EXPORT, NodeFiles, with_suffix
from vssemu.array.engines.cow.plex import FullCopies, Range, joined
from vssemu.array.engines.cow.shards import Shards
from vssemu.array.engines.files import opened, sync_directory
from vssemu.vss.engine import CopyPair
from vssemu.vss.errors import Fail
from vssemu.vss.identity import LunId

NEAR: Final = 128 << 10
"""Bytes between two ranges that are read too, rather than asked for by two requests."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StillPair:
    """A snapshot's view and its origin's, that both stay as they are.

    view, origin: paths of the two. size, chunk_size: bytes. changed: where they may differ.
    data: where the origin may have other bytes than zeroes.
    """

    view: str
    origin: str
    size: int
    chunk_size: int
    changed: Sequence[Range]
    data: Sequence[Range]


class Exchange:
    """Exports and imports of an engine's snapshots. directory: of the LUNs' directories.

    remove: takes a node away, whatever there is of it.
    """

    def __init__(
        self,
        directory: Path,
        shards: Shards,
        files: NodeFiles,
        full: FullCopies,
        remove: Callable[[LunId], Awaitable[None]],
    ) -> None:
        self._directory = directory
        self._shards = shards
        self._files = files
        self._full = full
        self._remove = remove

    async def origin_of(self, lun: LunId) -> LunId:
        """Return the origin of a snapshot's chain. Raises VssError, FileNotFoundError."""
        return (await self._shards.of(lun).call(api.facts, lun)).origin

    @asynccontextmanager
    async def still(self, lun: LunId) -> AsyncIterator[StillPair]:
        """Give a snapshot as it is, and its chain's origin as it is now, during the block.

        One at a time for a snapshot. Raises VssError, OSError; InsufficientStorage, at the
        end as well, when a view was lost meanwhile.
        """
        shard = self._shards.of(lun)
        await self._full.refuse_lost(shard, lun)
        facts = await shard.call(api.facts, lun)
        still = CopyPair(source=facts.origin, target=with_suffix(lun, EXPORT))
        await self._remove(still.target)
        try:
            await shard.call(api.prepare, [still])
            await shard.call(api.commit, [still])
            shard.names.add(still.target)
            # Later than the instant, so what is written in between is there in vain.
            changed = await self._full.runs(shard, lun, own=False)
            data = await self._full.data(shard, still.target)
            yield StillPair(
                view=self._files.path(lun),
                origin=self._files.path(still.target),
                size=facts.size,
                chunk_size=facts.chunk_size,
                changed=list(_closed(joined(_in_units(changed, facts.chunk_size), facts.size))),
                data=list(_closed(joined(data, facts.size))),
            )
            for name in (lun, still.target):
                await self._full.refuse_lost(shard, name)
        finally:
            with trio.CancelScope(shield=True):
                await self._remove(still.target)

    async def adopt(
        self, origin: LunId, snapshot: LunId, place: Callable[[int, int], None]
    ) -> None:
        """Have an image and the store of a snapshot of it served.

        place: called in a thread, fills the descriptors of the image and of the store; what it
        leaves is durable here. Raises what it raises, VssError, OSError, with files left.
        """
        shard = self._shards.find(origin) or await self._shards.emptiest()

        def fill() -> None:
            for name in (origin, snapshot):
                (self._directory / name).mkdir(exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
            image, store = self._directory / origin / "image", self._directory / snapshot / "store"
            with opened(image, flags) as one, opened(store, flags) as other:
                place(one, other)
                os.fsync(one)
                os.fsync(other)
            for path in (image.parent, store.parent, self._directory):
                sync_directory(path)

        await trio.to_thread.run_sync(fill)
        await shard.call(api.adopt, origin, snapshot)
        shard.names.update((origin, snapshot))
        if not (await shard.call(api.facts, snapshot)).is_valid:
            raise Fail(
                f"{shard.describe()} makes nothing of the store of {snapshot}",
                item=snapshot,
                hint="see its log",
            )


def _in_units(ranges: Iterable[Range], unit: int) -> Iterator[Range]:
    """Yield the units that ranges touch."""
    for offset, length in ranges:
        start = offset // unit * unit
        yield start, -(-(offset + length) // unit) * unit - start


def _closed(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield ranges in order, with those that follow closely made one: a request costs more."""
    begin = end = -1
    for offset, length in ranges:
        if begin < 0:
            begin = offset
        elif offset - end > NEAR:
            yield begin, end - begin
            begin = offset
        end = offset + length
    if begin >= 0:
        yield begin, end - begin
