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
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import trio

from vssemu.array.engines import plex
from vssemu.array.engines.converging import Breathe, ConvergingClone
from vssemu.array.engines.files import IMAGE, LunFiles, opened
from vssemu.linux import fsxattr, reflink
from vssemu.vss.array import LunKind
from vssemu.vss.engine import Backing, CopyPair, Prepared, Usage
from vssemu.vss.identity import LunId

GOOD_ENOUGH: Final = 0.05
"""Seconds of holding writes that are not worth another rehearsal."""

REHEARSALS: Final = 8
WORTH_ANOTHER: Final = 0.8
"""A rehearsal that took more than this share of the one before has nothing left to gain."""

SHORTEST_CALM: Final = 0.25
CALM: Final = 9
"""How long nothing is rehearsed while a commit is waited for: seconds, times the last one's."""

SECONDS_PER_CLONE: Final = 1e-3
PAUSE: Final = 1e-3
_SCRATCH: Final = "scratch"
_UNFINISHED: Final = "scratch.new"

R = TypeVar("R")


@dataclass(kw_only=True, slots=True)
class _Job:
    """A copy in the making: its point in time, and the full copy that follows it, if one."""

    point: ConvergingClone
    full: plex.FullCopy | None = None
    has_begun: bool = False


class ReflinkEngine:
    """Implements `vssemu.vss.engine.Engine` over a directory that can clone files."""

    name = "reflink"

    def __init__(self, directory: Path) -> None:
        self._files = LunFiles(directory)
        self._jobs: dict[LunId, _Job] = {}
        # Clones made at one time wait for each other's blocks and take longer than in turn.
        self._cloning = trio.CapacityLimiter(1)
        self._copying = trio.CapacityLimiter(1)

    def close(self) -> None:
        """Close whatever is open; copies that are being made stay unfinished."""
        for lun in tuple(self._jobs):
            self._forget(lun)
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
                await self._begin(pair, kind)

    async def _begin(self, pair: CopyPair, kind: LunKind) -> _Job:
        job = self._jobs.get(pair.target)
        if job is None:
            job = self._jobs[pair.target] = await _in_thread(self._opened, pair, kind)
        if not job.has_begun:
            await self._breathing(self._cloning, job.point.begin)
            if job.full is not None:
                await self._breathing(self._copying, job.full.copy_first)
            job.has_begun = True
        return job

    def _opened(self, pair: CopyPair, kind: LunKind) -> _Job:
        path = self._files.path(pair.source, IMAGE)
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if kind is LunKind.PLEX:
                full = plex.FullCopy(self._files, pair.target, source)
                return _Job(point=full.point, full=full)
            target = self._files.make(pair.target, IMAGE)
            return _Job(point=ConvergingClone(source, target))
        except BaseException:
            os.close(source)
            raise

    async def prepare(self, pairs: Sequence[CopyPair], kind: LunKind, deadline: float) -> Prepared:
        """Make the copies but for what is written from now on, and rehearse the commit.

        hold_seconds is what the last rehearsal took, beside the writes that went on.
        deadline: a moment of trio's clock. Raises TooSlowError when it passes.
        """
        prepared = Prepared(pairs=tuple(pairs), kind=kind, hold_seconds=0.0)
        try:
            with trio.fail_at(deadline):
                jobs = [await self._begin(pair, kind) for pair in pairs]
                for job in jobs:
                    if job.full is not None:
                        await self._breathing(self._copying, job.full.catch_up)
                seconds = await self._converge(jobs)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.abort(prepared)
            raise
        seconds += len(jobs) * SECONDS_PER_CLONE
        return Prepared(pairs=prepared.pairs, kind=kind, hold_seconds=seconds)

    async def _converge(self, jobs: Sequence[_Job]) -> float:
        """Rehearse while that helps; return how long it took last, in seconds."""
        seconds = float("inf")
        for _ in range(REHEARSALS):
            before = seconds
            seconds = 0.0
            for job in jobs:
                seconds += await self._breathing(self._cloning, job.point.rehearse)
            if seconds <= GOOD_ENOUGH or seconds > before * WORTH_ANOTHER:
                break
        return seconds

    async def keep_close(self, prepared: Prepared) -> None:
        """Rehearse now and then, until cancelled: a late commit has no more to do than an early.

        A tenth of the time goes into it. It must be over before the commit.
        """
        seconds = prepared.hold_seconds
        while True:
            await trio.sleep(max(SHORTEST_CALM, CALM * seconds))
            seconds = 0.0
            for pair in prepared.pairs:
                point = self._jobs[pair.target].point
                seconds += await self._breathing(self._cloning, point.rehearse)

    def commit(self, prepared: Prepared) -> Sequence[int]:
        """Clone every source. Nothing is opened, made or logged here."""
        return [self._jobs[pair.target].point.finish() for pair in prepared.pairs]

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
            self._forget(pair.target)

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

    async def delete(self, lun: LunId) -> None:
        """Remove the LUN and all that belongs to it, durably."""
        self._forget(lun)
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

    async def usage(self, lun: LunId) -> Usage:
        """Return the LUN's size, and the bytes of its blocks, those shared counted in full."""

        def usage() -> Usage:
            facts = self._files.path(lun, IMAGE).stat()
            return Usage(size=facts.st_size, allocated=facts.st_blocks * 512)

        return await _in_thread(usage)

    def _forget(self, target: LunId) -> None:
        job = self._jobs.pop(target, None)
        if job is not None:
            job.point.close()

    async def _breathing(self, limiter: trio.CapacityLimiter, work: Callable[[Breathe], R]) -> R:
        """Do work in a thread that pauses as it works, and ends when it is cancelled."""

        def with_pauses() -> R:
            worked = 0.0

            def breathe(took: float) -> None:
                nonlocal worked
                trio.from_thread.check_cancelled()
                worked += took
                if worked >= PAUSE:
                    worked = 0.0
                    time.sleep(PAUSE)

            return work(breathe)

        return await trio.to_thread.run_sync(with_pauses, limiter=limiter)


async def _in_thread(work: Callable[..., R], *args: object) -> R:
    return await trio.to_thread.run_sync(work, *args)
