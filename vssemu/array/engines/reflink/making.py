"""Copies in the making: what `ReflinkEngine` does between `begin` and `settle`.

Owns the open files of the copies, and says when what is cloned again.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from vssemu.array.engines.files import IMAGE, LunFiles
from vssemu.array.engines.reflink import plex
from vssemu.array.engines.reflink.converging import Breathe, ConvergingClone
from vssemu.vss.array import LunKind
from vssemu.vss.engine import CopyPair
from vssemu.vss.identity import LunId

GOOD_ENOUGH: Final = 0.05
"""Seconds of holding writes that are not worth another rehearsal."""

REHEARSALS: Final = 8
WORTH_ANOTHER: Final = 0.8
"""A rehearsal that took more than this share of the one before has nothing left to gain."""

SHORTEST_CALM: Final = 0.25
CALM: Final = 9
"""How long nothing is rehearsed while a commit is waited for: seconds, times the last one's."""

PAUSE: Final = 1e-3

R = TypeVar("R")


@dataclass(kw_only=True, slots=True)
class _Job:
    """A copy in the making: its point in time, and the full copy that follows it, if one."""

    point: ConvergingClone
    full: plex.FullCopy | None = None
    has_begun: bool = False


class Making:
    """The copies that are being made, by their targets."""

    def __init__(self, files: LunFiles) -> None:
        self._files = files
        self._jobs: dict[LunId, _Job] = {}
        # Clones made at one time wait for each other's blocks and take longer than in turn.
        self._cloning = trio.CapacityLimiter(1)
        self._copying = trio.CapacityLimiter(1)

    async def begin(self, pair: CopyPair, kind: LunKind) -> None:
        """Clone for the first time, and copy what a full copy can have; again is no error."""
        job = self._jobs.get(pair.target)
        if job is None:
            opened = await trio.to_thread.run_sync(self._opened, pair, kind)
            job = self._jobs[pair.target] = opened
        if not job.has_begun:
            await self._breathing(self._cloning, job.point.begin)
            if job.full is not None:
                await self._breathing(self._copying, job.full.copy_first)
            job.has_begun = True

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

    async def converge(self, pairs: Sequence[CopyPair]) -> float:
        """Rehearse while that helps; return how long the quickest took, in seconds.

        Writers stand in the way of rehearsals, and of the commit they will not.
        """
        for pair in pairs:
            if (full := self._jobs[pair.target].full) is not None:
                await self._breathing(self._copying, full.catch_up)
        quickest = float("inf")
        for _ in range(REHEARSALS):
            seconds = await self._rehearse(pairs)
            helped = seconds < quickest * WORTH_ANOTHER
            quickest = min(quickest, seconds)
            if seconds <= GOOD_ENOUGH or not helped:
                break
        return quickest

    async def keep_close(self, pairs: Sequence[CopyPair], seconds: float) -> None:
        """Rehearse now and then, until cancelled: a tenth of the time goes into it.

        seconds: what a rehearsal takes.
        """
        while True:
            await trio.sleep(max(SHORTEST_CALM, CALM * seconds))
            seconds = await self._rehearse(pairs)

    async def _rehearse(self, pairs: Sequence[CopyPair]) -> float:
        seconds = 0.0
        for pair in pairs:
            point = self._jobs[pair.target].point
            seconds += await self._breathing(self._cloning, point.rehearse)
        return seconds

    def finish(self, pair: CopyPair) -> int:
        """Take a copy; return its size in bytes. Nothing is opened, made or logged here."""
        return self._jobs[pair.target].point.finish()

    def forget(self, target: LunId) -> None:
        """Close what is open for a copy, if it is being made."""
        job = self._jobs.pop(target, None)
        if job is not None:
            job.point.close()

    def forget_all(self) -> None:
        """Close what is open for any copy."""
        for target in tuple(self._jobs):
            self.forget(target)

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
