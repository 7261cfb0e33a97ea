"""Disks whose requests wait, before and after they are done, for a scheduler that picks by chance.

With it an engine meets orders of events that a real disk shows once in a month: a flush that
overtakes nothing, two copies of one chunk's neighbours that end in either order, a snapshot
between any two steps. What the disks do is real; only when is chosen, and by a seed.
"""

import heapq
import itertools
import random
import time
from collections.abc import Iterator
from typing import Any

from vssemu.linux.aio import Rooms
from vssemu_fuse.lunfs.io.disk import Disk
from vssemu_fuse.lunfs.io.work import Gate, Operation, Work, Worker


class Scheduler:
    """Lets one waiting request go on at a time: mostly soon, sometimes after many others."""

    def __init__(self, worker: Worker, chance: random.Random, *, patience: float = 0.6) -> None:
        """patience: the share of requests that wait; the rest goes at once."""
        self.worker = worker
        self.chance = chance
        self._patience = patience
        self._waiting: list[tuple[float, int, Gate]] = []
        self._steps = 0
        self._numbers = itertools.count()
        self._under_way = 0

    def late(self, work: Work[Any]) -> Work[Any]:
        """Do some work, and wait before or after it, or both, or not at all."""
        before, after = (self.chance.random() < self._patience for _ in range(2))
        if not before and not after:
            return work
        return self._late(work, before=before, after=after)

    def _late(self, work: Work[Any], *, before: bool, after: bool) -> Operation[Any]:
        if before:
            yield self._wait()
        self._under_way += 1
        try:
            result = yield work
        finally:
            self._under_way -= 1
        if after:
            yield self._wait()
        return result

    def _wait(self) -> Gate:
        gate = Gate()
        due = self._steps + self.chance.choice(_DELAYS) * self.chance.random()
        heapq.heappush(self._waiting, (due, next(self._numbers), gate))
        return gate

    def settle(self) -> None:
        """Do all that can be done without letting anybody go on."""
        while self.worker.turn() or self._under_way:
            pass

    def step(self) -> bool:
        """Let one that waits go on, and do what follows from it; tell whether there was any.

        Requests that went at once may be under way still, for ever true to a real disk.
        """
        self.settle()
        if not self._waiting:
            return False
        self._steps += 1
        heapq.heappop(self._waiting)[2].open()
        self.settle()
        return True

    def finish(self) -> None:
        """Go on until nothing waits here and nothing comes any more."""
        while self.step() or self.worker.turn() or self._is_to_come():
            pass

    def _is_to_come(self) -> bool:
        """Tell whether requests are under way, or a commit waits for others for a moment."""
        worker = self.worker
        soon = worker._times and worker._times[0][0] < time.monotonic() + _MOMENT
        return bool(worker._context.under_way or soon)


_MOMENT = 0.1
"""Seconds; holds last longer."""


_DELAYS = (2, 2, 2, 10, 60)
"""Steps that a request waits at most."""


class ShuffledDisk:
    """A disk behind a scheduler; holes are made and looked up at once, as by the real one."""

    def __init__(self, disk: Disk, scheduler: Scheduler) -> None:
        self._disk = disk
        self._scheduler = scheduler

    @property
    def size(self) -> int:
        return self._disk.size

    def read(self, rooms: Rooms, offset: int) -> Work[int]:
        return self._scheduler.late(self._disk.read(rooms, offset))

    def write(self, rooms: Rooms, offset: int) -> Work[int]:
        return self._scheduler.late(self._disk.write(rooms, offset))

    def flush(self) -> Work[object]:
        return self._scheduler.late(self._disk.flush())

    def zero(self, offset: int, length: int) -> None:
        self._disk.zero(offset, length)

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        return self._disk.data_extents(offset, length)

    def refresh(self) -> None:
        self._disk.refresh()

    def close(self) -> None:
        self._disk.close()
