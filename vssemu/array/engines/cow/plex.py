"""Full copies (plexes) by the cow engine: chains of their own, copied through two snapshots.

    TARGET.before   a snapshot of the source from when the copying began: what is copied first
    TARGET.at       a snapshot of the source at the instant: what the copy has to be

What was written between the two is in the store of the elder one, and is copied once more
after the hold, from the younger. Then both go. It all follows from which of the two there are,
so what was interrupted after the instant is done again.
"""

import errno
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import trio

from vssemu.api import shard as api
from vssemu.array.engines.cow.nodes import AT, BEFORE, NodeFiles, with_suffix
from vssemu.array.engines.cow.shards import LONG_SECONDS, Shard, Shards
from vssemu.array.engines.files import opened
from vssemu.linux import fallocate, sparse
from vssemu.vss.engine import CopyPair
from vssemu.vss.errors import BadState, InsufficientStorage
from vssemu.vss.identity import LunId

PIECE: Final = 1 << 20
_LOOK: Final = 64

Range = tuple[int, int]
"""Offset and length in bytes."""


class FullCopies:
    """The full copies of an engine. directory: of the LUNs' directories."""

    def __init__(self, directory: Path, shards: Shards, files: NodeFiles) -> None:
        self._directory = directory
        self._shards = shards
        self._files = files
        self._begun: set[LunId] = set()
        self._copying = trio.CapacityLimiter(1)

    async def begin(self, pair: CopyPair) -> None:
        """Copy what there is of the source; again is no error. Raises VssError, OSError."""
        if pair.target in self._begun:
            return
        source = self._shards.of(pair.source)
        before = CopyPair(source=pair.source, target=with_suffix(pair.target, BEFORE))
        await source.call(api.prepare, [before])
        (size,) = await source.call(api.commit, [before])
        source.names.add(before.target)
        home = self._shards.find(pair.target) or await self._shards.emptiest()
        await home.call(api.create, pair.target, size)
        home.names.add(pair.target)
        await self._copy(before.target, pair.target, await self.data(source, before.target))
        await self.refuse_lost(source, before.target)
        self._begun.add(pair.target)

    @staticmethod
    def at(pair: CopyPair) -> CopyPair:
        """Return the snapshot that is taken at the instant."""
        return CopyPair(source=pair.source, target=with_suffix(pair.target, AT))

    async def settle(self, target: LunId) -> None:
        """Copy what was written before the instant, durably, and drop the two snapshots.

        Again is no error. Raises VssError, OSError.
        """
        before, at = with_suffix(target, BEFORE), with_suffix(target, AT)
        if (source := self._shards.find(at)) is not None:
            await source.call(api.settle, [at])
            await self._catch_up(source, before, at, target)
        await self.forget(target)

    async def _catch_up(self, source: Shard, before: LunId, at: LunId, target: LunId) -> None:
        size = (await source.call(api.facts, at)).size
        await self._shards.of(target).call(api.extend, target, size)
        if before in source.names:
            await self._copy(at, target, await self._written_between(source, before, at))
        await self.refuse_lost(source, at)
        await trio.to_thread.run_sync(_sync, self._files.path(target))

    async def _written_between(self, source: Shard, before: LunId, at: LunId) -> list[Range]:
        facts = await source.call(api.facts, before)
        data = await self.data(source, at)
        if not facts.is_valid:
            # Its store is gone, and nobody knows what it had.
            return data
        own = await self.runs(source, before, own=True)
        grown = [
            (max(offset, facts.size), offset + length - max(offset, facts.size))
            for offset, length in data
            if offset + length > facts.size
        ]
        return list(joined([*own, *grown]))

    async def resync(self, source: LunId, target: LunId) -> None:
        """Make one node equal to another, durably. Raises VssError, OSError."""
        size = (await self._shards.of(source).call(api.facts, source)).size
        shard = self._shards.of(target)
        await shard.call(api.extend, target, size)
        if (await shard.call(api.facts, target)).size != size:
            raise BadState(
                f"LUN {target} is larger than {source}, and cannot shrink",
                item=target,
                hint="copy what is on it to a LUN of that size",
            )
        await self._copy(source, target, [(0, size)])
        await trio.to_thread.run_sync(_sync, self._files.path(target))

    async def forget(self, target: LunId) -> None:
        """Drop what the copying needed, if it is there. Raises VssError."""
        self._begun.discard(target)
        for name in (with_suffix(target, BEFORE), with_suffix(target, AT)):
            # In this order: without the elder one all has been copied.
            if (shard := self._shards.find(name)) is not None:
                self._files.close(name)
                await shard.call_long(api.remove, name)
                shard.names.discard(name)

    async def refuse_lost(self, shard: Shard, name: LunId) -> None:
        """Raise InsufficientStorage for a snapshot whose store had no room."""
        if not (await shard.call(api.facts, name)).is_valid:
            raise InsufficientStorage(
                f"the pool had no room left for {name}",
                item=name,
                hint="delete LUNs or shadow copies, or give the pool more space",
            )

    async def data(self, shard: Shard, name: LunId) -> list[Range]:
        """Return where a snapshot may have data, in order.

        First where its origin has, then what has changed: what is discarded in between is kept
        by the snapshot.
        """
        facts = await shard.call(api.facts, name)
        image = self._directory / facts.origin / "image"
        of_origin = await trio.to_thread.run_sync(_extents, image)
        return list(joined([*of_origin, *await self.runs(shard, name, own=False)], facts.size))

    async def runs(self, shard: Shard, name: LunId, *, own: bool) -> list[Range]:
        """Return where a snapshot may differ from its origin; own: by its own store alone."""
        found: list[Range] = []
        while runs := await shard.call(api.changed, name, sum(found[-1]) if found else 0, own):
            found += [(run.offset, run.length) for run in runs]
        return found

    async def _copy(self, source: LunId, target: LunId, ranges: list[Range]) -> None:
        paths = self._files.path(source), self._files.path(target)

        def copy() -> None:
            copy_ranges(*paths, ranges, trio.from_thread.check_cancelled)

        with self._shards.of(source).limited("the copying", LONG_SECONDS):
            await trio.to_thread.run_sync(copy, limiter=self._copying, abandon_on_cancel=True)


def joined(ranges: Iterable[Range], size: int | None = None) -> Iterator[Range]:
    """Yield the same bytes, in order and each once, up to `size`."""
    begin = end = 0
    for offset, length in sorted(ranges):
        stop = offset + length if size is None else min(offset + length, size)
        if offset > end:
            if end > begin:
                yield begin, end - begin
            begin = end = offset
        end = max(end, stop)
    if end > begin:
        yield begin, end - begin


def _extents(path: Path) -> list[Range]:
    """Return where a sparse file has data."""
    with opened(path, os.O_RDONLY) as image:
        return list(sparse.data_extents(image, 0, os.fstat(image).st_size))


def is_zero(data: memoryview) -> bool:
    """Tell whether all bytes are 0."""
    return not any(data[:_LOOK]) and data.tobytes().count(0) == len(data)


def copy_ranges(
    source: str, target: str, ranges: Iterable[Range], breathe: Callable[[], None]
) -> None:
    """Copy bytes from one node to another; zeroes become holes. breathe: before each piece.

    Raises OSError: ENOSPC; EIO for a snapshot that was lost.
    """
    with (
        opened(source, os.O_RDONLY | os.O_DIRECT) as origin,
        opened(target, os.O_RDWR | os.O_DIRECT) as image,
        mmap.mmap(-1, PIECE) as room,
    ):
        for offset, length in ranges:
            end = offset + length
            while offset < end:
                breathe()
                with memoryview(room)[: min(PIECE, end - offset)] as piece:
                    count = os.preadv(origin, [piece], offset)
                    if not count:
                        raise OSError(errno.EIO, f"{source} ends at {offset}")
                    if is_zero(piece[:count]):
                        fallocate.punch(image, offset, count)
                        offset += count
                    else:
                        offset += os.pwritev(image, [piece[:count]], offset)


def _sync(path: str) -> None:
    with opened(path, os.O_RDONLY) as image:
        os.fsync(image)
