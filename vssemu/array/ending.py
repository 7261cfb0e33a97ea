"""Snapshots ended for want of room: which goes first, and how its bytes are taken away.

    1  full copies that are being made: they use up the very room that is missing
    2  copies that end with their requester (auto-release), oldest first
    3  other copies, oldest first
    4  copies of sets that are being created: not finished, or nobody has their records yet

Of 2 and 3 those go before the others whose end frees their bytes at once: with an engine whose
elder copies read through younger ones, the eldest of each LUN.

Never a base LUN, a finished full copy, or what was broken out of its set: those are LUNs in
their own right.

The journal is told first, so that a restart finishes what was begun; it is not waited for the
disk. A loss of power may bring a copy back that has no bytes: recovery knows it by its length.
A descriptor that a host
holds cannot be taken back: its devices are cut off before the bytes go, and once more after,
so that a reader gets an error and never a zero for what was there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog
import trio

from vssemu.array.border import storage
from vssemu.array.core import Core
from vssemu.array.rows import LunRow, SetRow, SetState
from vssemu.array.sets import Sets
from vssemu.array.tables import Tables
from vssemu.vss.array import LunKind, LunState
from vssemu.vss.identity import LunId
from vssemu.vss.lifecycle.lun import LunCall, after

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

LOCK_SECONDS: Final = 0.2
"""How long a LUN that somebody works on is waited for; then another one goes."""

_ENDABLE: Final = frozenset({LunState.COMMITTED, LunState.CLAIMED, LunState.IMPORT_FAILED})
_UNTAKEN: Final = frozenset({SetState.PREPARING, SetState.PREPARED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Victim:
    """A copy that can be ended. group: its set. frees: whether its bytes are free at once."""

    row: LunRow
    group: SetRow
    frees: bool = True

    @property
    def is_untaken(self) -> bool:
        """True when the copy is still being prepared: then its whole set is given up."""
        return self.group.state in _UNTAKEN

    @property
    def rank(self) -> int:
        """Its place in the table above."""
        if self.is_untaken and self.row.kind is LunKind.PLEX:
            return 1
        if self.group.state is not SetState.HANDED_OUT:
            return 4
        return 2 if self.group.auto_release else 3

    @property
    def order(self) -> tuple[int, int]:
        """What the copies are sorted by."""
        rank = self.rank
        late = 1 if rank in {2, 3} and not self.frees else 0
        return ((1, 2, 2, 4)[rank - 1] + late, rank)


def victims(tables: Tables) -> list[Victim]:
    """Return the copies that can be ended, in the order in which they go."""
    found = []
    for row in tables.luns():
        group = None if row.set_id is None else tables.snapshot_set(row.set_id)
        if group is None:
            continue
        victim = Victim(row=row, group=group)
        is_whole = row.kind is LunKind.DIFFERENTIAL and row.state in _ENDABLE
        if is_whole or (victim.is_untaken and row.state is LunState.PREPARED):
            found.append(victim)
    return sorted(found, key=lambda victim: victim.rank)


class Endings:
    """Ends snapshots."""

    def __init__(self, core: Core, sets: Sets) -> None:
        self._core = core
        self._sets = sets

    async def victims(self) -> Sequence[Victim]:
        """Return the copies that can be ended, in the order in which they go."""
        found = await self._core.journal.read(victims)
        frees = await self._core.engine.freed_at_once([victim.row.id for victim in found])
        marked = [replace(victim, frees=victim.row.id in frees) for victim in found]
        return sorted(marked, key=lambda victim: victim.order)

    async def end_lost(self) -> None:
        """End the copies that the engine had no room for already. Raises VssError, OSError."""
        if lost := set(await self._core.engine.lost()):
            for victim in await self._core.journal.read(victims):
                if victim.row.id in lost and not victim.is_untaken:
                    await self.end(victim)

    async def end(self, victim: Victim) -> bool:
        """End a copy, or the creation of its set; False when somebody is at work on it.

        Raises VssError.
        """
        if victim.is_untaken:
            await self._sets.give_up(victim.group.id)
            return True
        lun = victim.row.id
        with trio.move_on_after(LOCK_SECONDS) as patience:
            async with self._core.luns.holding(lun):
                patience.shield = True
                patience.deadline = float("inf")
                row = await self._core.journal.change_quickly(_begin, lun)
                if row is not None:
                    await self.finish(row, auto_release=victim.group.auto_release)
        return not patience.cancelled_caught

    async def note_empty(self) -> None:
        """Write down as ended what is without bytes, the journal not having been on the disk."""

        def note(tables: Tables, empty: Sequence[LunId]) -> None:
            for lun in empty:
                _begin(tables, lun)

        rows = await self._core.journal.read(Tables.luns)
        empty = [row.id for row in rows if row.state in _ENDABLE and await self._is_empty(row)]
        if empty:
            logger.warning("ends_found", luns=empty)
            await self._core.journal.change(note, empty)

    async def _is_empty(self, row: LunRow) -> bool:
        try:
            return (await self._core.engine.usage(row.id)).size == 0
        except FileNotFoundError:
            return False

    async def finish(self, row: LunRow, *, auto_release: bool | None = None) -> None:
        """Bring an end that has begun to its end; again is no error. Under the LUN's lock.

        Raises VssError.
        """
        with storage("end snapshot", row.id):
            allocated = (await self._core.engine.usage(row.id)).allocated
            begun = trio.current_time()
            await self._core.revoke(row)
            await self._core.engine.empty(row.id)
            await self._core.revoke(row)
        logger.warning(
            "snapshot_ended",
            lun=row.id,
            origin=row.origin,
            set=str(row.set_id),
            auto_release=auto_release,
            allocated=allocated,
            seconds=round(trio.current_time() - begun, 3),
        )
        self._core.views.changed(*row.masked_to)


def _begin(tables: Tables, lun: LunId) -> LunRow | None:
    """Write down that a copy has ended; None when it is going, or was broken, meanwhile."""
    row = tables.lun(lun)
    if row is None or row.state not in _ENDABLE:
        return None
    tables.set_lun_state(lun, after(row.state, LunCall.END, item=lun))
    return row
