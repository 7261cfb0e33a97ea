"""How much room the pool has, how much it needs, and what it has set aside.

Writes to LUNs use up room while snapshots share their blocks, and a write for which there is
no room is lost. So room is kept, and gets larger as the pool fills faster:

    needed = the larger of a share of the pool, and
             what is written, at the present rate, until the next look and the end of a snapshot

A *ballast* is a file with nothing in it that has space: given up in a moment, before anything
else. An image has two, for the file system below it can fill as well, with anybody's files.
They are made when the room comes in sight of its end, so most pools have none.

Knows numbers alone; what is done about them is `watcher`'s.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from vssemu.array.pool import Pool, Room
from vssemu.linux import fallocate
from vssemu.vss.array import PoolCondition
from vssemu.vss.errors import InsufficientStorage

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MIB: Final = 1 << 20

SHORTEST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
FASTEST: Final = 4 << 30
"""Bytes a second that a pool fills at most; with it a pause ends before the room can."""

_BALLAST_SHARE: Final = 64
_IN_SIGHT: Final = 4
_CAUTION: Final = 2.0
_FORGETTING_SECONDS: Final = 0.5


def floor_of(size: int) -> int:
    """Return the room that a pool of a size needs when nothing is written. Bytes.

    A disk writes a small pool full in a second, so its share is larger.
    """
    return min(max(size // 8, min(size // 4, 256 * MIB)), 1024 * MIB)


def ballast_of(size: int) -> int:
    """Return the size of a ballast for a pool of a size. Bytes."""
    return min(max(size // _BALLAST_SHARE, 8 * MIB), 256 * MIB)


def needed_of(size: int, rate: float, seconds: float) -> int:
    """Return the room that a pool needs. Bytes.

    rate: bytes a second that it fills with. seconds: until room is made, at this rate. Never
    more than half of the pool: there would be no snapshots otherwise.
    """
    return max(floor_of(size), min(int(_CAUTION * rate * seconds), size // 2))


def pause_of(free: int, needed: int) -> float:
    """Return how long nobody need look again, in seconds."""
    return min(max((free - needed) / FASTEST, SHORTEST_PAUSE), LONGEST_PAUSE)


@dataclass(kw_only=True)
class Pace:
    """How fast the room shrinks: bytes a second; quick to learn, slow to forget."""

    rate: float = 0.0
    _free: int | None = None
    _moment: float = 0.0

    def note(self, free: int, moment: float) -> None:
        """Take note of what is free at a moment, in seconds."""
        if self._free is not None and (passed := moment - self._moment) > 0:
            faded = self.rate * 0.5 ** (passed / _FORGETTING_SECONDS)
            self.rate = max((self._free - free) / passed, faded)
        self.jump(free, moment)

    def jump(self, free: int, moment: float) -> None:
        """Take note of what is free after a change that says nothing of the pace."""
        self._free, self._moment = free, moment


class Ballast:
    """A file that has space and no use. It may be of an earlier run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def held(self) -> int:
        """Return its bytes on the disk."""
        return fallocate.allocated(self.path)

    def make(self, size: int) -> None:
        """Give it a size. Raises OSError, with nothing held: ENOSPC."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fallocate.allocate(descriptor, size)
        except OSError:
            os.ftruncate(descriptor, 0)
            raise
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give its space up at once. Raises OSError."""
        if self.path.exists():
            os.truncate(self.path, 0)


class Space:
    """The room of one pool. condition: as the watcher found it last."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._ballasts = [Ballast(pool.root / "ballast")]
        if pool.image is not None:
            self._ballasts.append(Ballast(pool.directory / "ballast"))
        self._pace = Pace()
        self.condition = PoolCondition.AMPLE
        self.ending_seconds = 0.0
        """How long the end of the next snapshot is expected to take."""

    def look(self, moment: float) -> Room:
        """Return the room, and learn how fast it shrinks. moment: seconds. Raises OSError."""
        room = self._pool.room()
        self._pace.note(room.free, moment)
        return room

    def needed(self, room: Room) -> int:
        """Return the bytes that should be free at least."""
        return needed_of(room.size, self._pace.rate, SHORTEST_PAUSE + self.ending_seconds)

    @property
    def rate(self) -> int:
        """Bytes a second that the pool filled with of late."""
        return int(self._pace.rate)

    def wanted(self, room: Room) -> int:
        """Return the bytes that are free when there is room enough again, ballast given up."""
        return self.needed(room) * 5 // 4 + ballast_of(room.size)

    def is_below_floor(self) -> bool:
        """Tell whether there is too little even if nothing were written. Raises OSError."""
        room = self._pool.room()
        return room.free < floor_of(room.size)

    def is_low(self, room: Room) -> bool:
        """Tell whether something must be done for room."""
        return room.free < self.needed(room)

    def seconds_left(self, room: Room) -> float:
        """Return how long the room lasts at the present rate."""
        return max(room.free, 1) / max(self._pace.rate, 1.0)

    def is_end_in_sight(self, room: Room) -> bool:
        """Tell whether the room could get scarce before long."""
        return room.free < _IN_SIGHT * self.needed(room)

    def held(self) -> int:
        """Return the bytes of the ballasts. Raises OSError."""
        return sum(ballast.held() for ballast in self._ballasts)

    def release(self) -> int:
        """Give the ballasts up; return the bytes that they had. Raises OSError."""
        held = self.held()
        if held:
            for ballast in self._ballasts:
                ballast.release()
        return held

    def replenish(self, room: Room) -> None:
        """Make the ballasts if the room comes in sight of its end and allows it."""
        size = ballast_of(room.size)
        missing = [ballast for ballast in self._ballasts if ballast.held() < size]
        if not missing or room.free < self.wanted(room) or not self.is_end_in_sight(room):
            return
        for ballast in missing:
            try:
                ballast.make(size)
            except OSError as error:
                logger.warning("ballast_not_made", path=str(ballast.path), error=str(error))

    def settle(self, moment: float) -> Room:
        """Return the room after what was done for it, which says nothing of the pace."""
        room = self._pool.room()
        self._pace.jump(room.free, moment)
        return room

    def refuse_unless_room(self, more: int = 0) -> None:
        """Raise InsufficientStorage when a copy begun now could not be kept.

        more: bytes that it takes at once; a copy that shares its blocks takes none. How fast
        the pool fills is not considered: what was written before a copy is none of its.
        """
        room = self._pool.room()
        least = floor_of(room.size) * 5 // 4 + more
        if self.condition is not PoolCondition.AMPLE or room.free < least:
            raise InsufficientStorage(
                f"the pool has {room.free} bytes free, a copy wants {least} at least",
                item=str(self._pool.directory),
                hint="delete LUNs or shadow copies, or give the pool more space",
            )
