"""The reflink engine: a LUN is a sparse file, a differential copy of it is its clone.

    luns/naa.…/image     the LUN's bytes
    luns/naa.…/scratch   the writable clone of a copy, on which a log is replayed

A clone shares blocks with its source until one of the two is written. How most of it is made
before writes are held is told in `converging`, how full copies are made in `plex`. The copies of
a set are committed one after another, so only a hold that lasts through all of them makes the
set one instant.

Raises OSError for what the file system refuses.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, TypeVar

import trio

from vssemu.array.engines.files import IMAGE, LunFiles, opened
from vssemu.array.engines.reflink import plex
from vssemu.array.engines.reflink.making import Making
from vssemu.linux import fsxattr, reflink
from vssemu.vss.array import LunKind
from vssemu.vss.engine import Backing, CopyPair, Prepared, Usage
from vssemu.vss.identity import LunId

SECONDS_PER_CLONE: Final = 1e-3
_SCRATCH: Final = "scratch"
_UNFINISHED: Final = "scratch.new"

R = TypeVar("R")


class ReflinkEngine:
    """Implements `vssemu.vss.engine.Engine` over a directory that can clone files."""

    name = "reflink"

    def __init__(self, directory: Path) -> None:
        self._files = LunFiles(directory)
        self._making = Making(self._files)

    def close(self) -> None:
        """Close whatever is open; copies that are being made stay unfinished."""
        self._making.forget_all()
        self._files.close_all()

    async def create(self, lun: LunId, size: int) -> None:
        """Make an empty LUN, durably."""

        def create() -> None:
            image = self._files.make(lun, IMAGE)
            try:
                os.ftruncate(image, size)
                os.fsync(image)
            finally:
                os.close(image)
            self._files.sync(lun)

        await _in_thread(create)

    async def activate(self, lun: LunId, *, writable: bool) -> Backing:
        """Open the LUN's image. A descriptor that writes is asked of the fabric, not kept here."""
        del writable
        return await _in_thread(self._files.backing, self._files.path(lun, IMAGE))

    async def deactivate(self, lun: LunId) -> None:
        """Close what is open of the LUN."""
        for name in (IMAGE, _SCRATCH):
            self._files.close(self._files.path(lun, name))

    async def extend(self, lun: LunId, size: int) -> None:
        """Grow the LUN to `size` bytes; one that is as large already stays as it is."""

        def extend() -> None:
            with opened(self._files.path(lun, IMAGE), os.O_RDWR) as image:
                if os.fstat(image).st_size < size:
                    os.ftruncate(image, size)
                    os.fsync(image)

        await _in_thread(extend)

    async def begin(self, pairs: Sequence[CopyPair], kind: LunKind) -> None:
        """Copy what full copies can have ahead; of differential ones there is nothing."""
        if kind is LunKind.PLEX:
            for pair in pairs:
                await self._making.begin(pair, kind)

    async def prepare(self, pairs: Sequence[CopyPair], kind: LunKind, deadline: float) -> Prepared:
        """Make the copies but for what is written from now on, and rehearse the commit.

        hold_seconds is what the quickest rehearsal took, beside the writes that went on.
        deadline: a moment of trio's clock. Raises TooSlowError when it passes.
        """
        prepared = Prepared(pairs=tuple(pairs), kind=kind, hold_seconds=0.0)
        try:
            with trio.fail_at(deadline):
                for pair in pairs:
                    await self._making.begin(pair, kind)
                seconds = await self._making.converge(pairs)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.abort(prepared)
            raise
        seconds += len(pairs) * SECONDS_PER_CLONE
        return Prepared(pairs=prepared.pairs, kind=kind, hold_seconds=seconds)

    async def keep_close(self, prepared: Prepared) -> None:
        """Rehearse now and then, so that a late commit has no more to do than an early one.

        Until cancelled, which must be over before the commit.
        """
        await self._making.keep_close(prepared.pairs, prepared.hold_seconds)

    def commit(self, prepared: Prepared) -> Sequence[int]:
        """Clone every source. Nothing is opened, made or logged here."""
        return [self._making.finish(pair) for pair in prepared.pairs]

    async def settle(self, prepared: Prepared) -> None:
        """Bring the copies and their names to the disk, and close what `prepare` opened."""

        def settle(lun: LunId) -> None:
            if prepared.kind is LunKind.PLEX:
                plex.complete(self._files, lun)
            with opened(self._files.path(lun, IMAGE), os.O_RDONLY) as image:
                os.fsync(image)
            self._files.sync(lun)

        for pair in prepared.pairs:
            await _in_thread(settle, pair.target)
            self._making.forget(pair.target)

    async def abort(self, prepared: Prepared) -> None:
        """Remove the copies, taken or not."""
        for pair in prepared.pairs:
            await self.delete(pair.target)

    async def scratch(self, lun: LunId, *, writable: bool) -> Backing:
        """Open the scratch clone; it gets its name when it is whole and on the disk."""
        del writable
        path = self._files.path(lun, _SCRATCH)

        def make() -> Backing:
            if not path.exists():
                unfinished = self._files.path(lun, _UNFINISHED)
                unfinished.unlink(missing_ok=True)
                with (
                    opened(self._files.path(lun, IMAGE), os.O_RDONLY) as source,
                    opened(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL) as target,
                ):
                    reflink.clone(source, target)
                    os.fsync(target)
                unfinished.rename(path)
            return self._files.backing(path)

        return await _in_thread(make)

    async def discard_scratch(self, lun: LunId) -> None:
        """Remove the scratch clone, if there is one."""

        def discard() -> None:
            for name in (_SCRATCH, _UNFINISHED):
                self._files.path(lun, name).unlink(missing_ok=True)

        self._files.close(self._files.path(lun, _SCRATCH))
        await _in_thread(discard)

    async def has_scratch(self, lun: LunId) -> bool:
        """Tell whether there is a scratch clone of a copy."""
        return await _in_thread(self._files.path(lun, _SCRATCH).exists)

    async def extents(self, lun: LunId) -> int:
        """Return how many extents the LUN's image has, as its inode counts them."""

        def extents() -> int:
            with opened(self._files.path(lun, IMAGE), os.O_RDONLY) as image:
                return fsxattr.attributes(image).extents

        return await _in_thread(extents)

    async def empty(self, lun: LunId) -> None:
        """Free the bytes of the copy and its scratch clone; the files stay, of length 0."""

        def empty() -> None:
            for name in (_UNFINISHED, _SCRATCH, IMAGE):
                with contextlib.suppress(FileNotFoundError):
                    os.truncate(self._files.path(lun, name), 0)

        await _in_thread(empty)

    async def lost(self) -> Sequence[LunId]:
        """Return nothing: a copy shares blocks, and a write that finds no room is the LUN's."""
        return ()

    async def freed_at_once(self, luns: Collection[LunId]) -> Collection[LunId]:
        """Return all: what others share of a copy they have themselves."""
        return luns

    async def remove_unknown(self, known: Collection[LunId]) -> Sequence[str]:
        """Remove the directories of LUNs that are not among these; return their names."""
        return await _in_thread(self._files.remove_unknown, known)

    async def delete(self, lun: LunId) -> None:
        """Remove the LUN and all that belongs to it, durably."""
        self._making.forget(lun)
        await _in_thread(self._files.remove, lun)

    async def resync(self, source: LunId, target: LunId, progress: Callable[[int], None]) -> None:
        """Make the target equal to the source, also in length; progress: percent."""

        def resync() -> None:
            with (
                opened(self._files.path(source, IMAGE), os.O_RDONLY) as origin,
                opened(self._files.path(target, IMAGE), os.O_RDWR) as image,
            ):
                reflink.clone(origin, image)
                os.ftruncate(image, os.fstat(origin).st_size)
                os.fsync(image)

        progress(0)
        await _in_thread(resync)
        progress(100)

    def hold(self, luns: Sequence[LunId]) -> AbstractContextManager[None] | None:
        """Return None: this engine cannot hold writes, the host does."""
        del luns
        return None

    async def last_usage(self, lun: LunId) -> Usage:
        """As `usage`: nobody has to be waited for."""
        return await self.usage(lun)

    async def usage(self, lun: LunId) -> Usage:
        """Return the LUN's size, and the bytes of its blocks, those shared counted in full."""

        def usage() -> Usage:
            facts = self._files.path(lun, IMAGE).stat()
            return Usage(size=facts.st_size, allocated=facts.st_blocks * 512)

        return await _in_thread(usage)


async def _in_thread(work: Callable[..., R], *args: object) -> R:
    return await trio.to_thread.run_sync(work, *args)
