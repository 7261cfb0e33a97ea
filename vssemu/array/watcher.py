"""The pool watched: when room gets scarce, it is made.

    misfit           an image is fitted to the disk below it
    free < needed    the ballast is given up, in a moment
                     xfs gives back what it holds for writes to come
                     snapshots end, one after the other, until there is room enough
    room enough      the ballast is made again

What ends and in which order is `ending`'s. When nothing is left to end, the LUNs themselves
were promised more than there is: that is said loudly, and nothing else can be done.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
import trio

from vssemu.array.core import Core
from vssemu.array.ending import Endings, Victim
from vssemu.array.luns import is_own
from vssemu.array.pool import Room
from vssemu.array.space import SHORTEST_PAUSE, pause_of
from vssemu.array.tables import Tables
from vssemu.linux import freeze, xfs_blocks
from vssemu.vss.array import PoolCondition
from vssemu.vss.errors import VssError

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SECONDS_PER_EXTENT: Final = 30e-6
"""What freeing an extent takes while others write; half of that was seen on an idle pool."""

_SECONDS_PER_END: Final = 0.05
_ESTIMATE_SECONDS: Final = 1.0
_LOST_SECONDS: Final = 0.5
_UNHURRIED: Final = 2.0
"""Seconds of room that are left when there is time to ask xfs what it can give back."""

_AT_ONCE: Final = 8
_NOTHING_LEFT_PAUSE: Final = 0.25
_FAILED_PAUSE: Final = 1.0


class Watcher:
    """Keeps room in the pool of an array; `run` is its task."""

    def __init__(self, core: Core, endings: Endings) -> None:
        self._core = core
        self._space = core.space
        self._endings = endings
        self._estimate_due = 0.0
        self._lost_due = 0.0
        self._slowest = 0.0
        self._is_exhausted = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch the pool until cancelled."""
        task_status.started()
        while True:
            try:
                pause = await self.look()
            except (OSError, VssError) as error:
                logger.error("room_not_made", error=str(error), exc_info=error)
                pause = _FAILED_PAUSE
            await trio.sleep(pause)

    async def look(self) -> float:
        """Make room if need be; return how long nobody need look again, in seconds.

        Raises VssError, OSError.
        """
        space = self._space
        await self._end_lost()
        room = space.look(trio.current_time())
        if room.is_misfit:
            room = await self._fit()
        if space.condition is PoolCondition.AMPLE and not space.is_low(room):
            await self._estimate(room)
            space.replenish(room)
            return pause_of(space.settle(trio.current_time()).free, space.needed(room))
        return SHORTEST_PAUSE if await self._make_room(room) else _NOTHING_LEFT_PAUSE

    async def _end_lost(self) -> None:
        """End now and then what was lost for want of room, faster than it could be made."""
        now = trio.current_time()
        if now >= self._lost_due:
            self._lost_due = now + _LOST_SECONDS
            await self._endings.end_lost()

    async def _make_room(self, room: Room) -> bool:
        """Do what can be done; False when nothing was left to be ended."""
        space = self._space
        space.release()
        if space.condition is PoolCondition.AMPLE:
            space.condition = PoolCondition.LOW
            logger.warning(
                "pool_low",
                free=room.free,
                needed=space.needed(room),
                rate=space.rate,
                misfit=room.is_misfit,
            )
            is_urgent = space.seconds_left(room) < _UNHURRIED
            if self._core.pool.filesystem == "xfs" and not is_urgent:
                await trio.to_thread.run_sync(_free_preallocated, self._core.pool.luns)
        room = await self._fit()
        wanted = space.wanted(room)
        number = self._at_once(room)
        while room.free < wanted:
            if not await self._end_some(number):
                if not space.is_below_floor():
                    break
                # What somebody is at work on may be ended in a moment.
                return not self._is_exhausted
            room = await self._fit()
            # One may free nothing, having shared all with its successor.
            is_worse = room.free < space.needed(room) // 2
            number = max(min(number * 2, _AT_ONCE) if is_worse else 1, self._at_once(room))
        self._recovered(room)
        return True

    def _at_once(self, room: Room) -> int:
        """Return how many snapshots must end together to be in time."""
        urgency = 4 * self._space.ending_seconds / self._space.seconds_left(room)
        return min(max(round(urgency), 1), _AT_ONCE)

    async def _end_some(self, number: int) -> bool:
        """End the snapshots that go first, at once; False when none could be."""
        victims = await self._endings.victims()
        self._is_exhausted = not victims
        begun = trio.current_time()
        ended: list[Victim] = []
        for batch in range(0, len(victims), number):
            async with trio.open_nursery() as nursery:
                for victim in victims[batch : batch + number]:
                    nursery.start_soon(self._end, victim, ended)
            if ended:
                self._slowest = trio.current_time() - begun
                self._space.ending_seconds = max(self._space.ending_seconds, self._slowest)
                self._estimate_due = 0.0
                return True
        if not victims and self._space.is_below_floor():
            await self._say_that_nothing_is_left()
        return False

    async def _say_that_nothing_is_left(self) -> None:
        """Tell it loudly if the LUNs were promised more than there is."""
        promised = await self._promised()
        free = self._core.pool.room().free
        is_starved = promised > free
        if is_starved and self._space.condition is not PoolCondition.STARVED:
            logger.error(
                "pool_starved",
                free=free,
                promised=promised,
                fact="no snapshot is left to end: writes to LUNs fail when the pool is full",
                hint="delete LUNs, or give the pool more space",
            )
        self._space.condition = PoolCondition.STARVED if is_starved else PoolCondition.LOW

    async def _promised(self) -> int:
        """Return the bytes that LUNs in their own right could still take."""
        promised = 0
        for row in await self._core.journal.read(Tables.luns):
            try:
                usage = await self._core.engine.last_usage(row.id)
            except FileNotFoundError:
                continue
            promised += max(row.size - usage.allocated, 0) if is_own(row) else 0
        return promised

    async def _end(self, victim: Victim, ended: list[Victim]) -> None:
        try:
            if await self._endings.end(victim):
                ended.append(victim)
        except VssError as error:
            # The others must not stay because of this one.
            logger.error("snapshot_not_ended", lun=victim.row.id, error=str(error))

    def _recovered(self, room: Room) -> None:
        self._space.condition = PoolCondition.AMPLE
        logger.info("pool_ample", free=room.free)
        self._space.replenish(room)
        self._space.settle(trio.current_time())

    async def _fit(self) -> Room:
        """Fit the image to its disk, if it is one; return the room."""
        if (cap := self._core.pool.cap) is not None and cap.measure().is_misfit:
            await trio.to_thread.run_sync(cap.fit)
        return self._space.settle(trio.current_time())

    async def _estimate(self, room: Room) -> None:
        """Learn now and then how long the end of the next snapshot would take."""
        now = trio.current_time()
        if now < self._estimate_due or not self._space.is_end_in_sight(room):
            return
        self._estimate_due = now + _ESTIMATE_SECONDS
        victims = await self._endings.victims()
        self._slowest /= 2
        seconds = await self._seconds_of(victims[0]) if victims else 0.0
        self._space.ending_seconds = max(seconds, self._slowest)

    async def _seconds_of(self, victim: Victim) -> float:
        """Return how long ending a copy may take: its blocks are freed one by one."""
        extents = 0
        for lun in (victim.row.id, victim.row.origin):
            try:
                extents += 0 if lun is None else await self._core.engine.extents(lun)
            except FileNotFoundError:
                continue
        return _SECONDS_PER_END + extents * SECONDS_PER_EXTENT


def _free_preallocated(directory: Path) -> None:
    with _opened(directory) as descriptor:
        xfs_blocks.free_preallocated(descriptor)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = freeze.open_directory(directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
