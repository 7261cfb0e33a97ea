"""What every part of the array works with, and the calls of the fabric that it needs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vssemu.array.journal import Journal
from vssemu.array.locking import NamedLocks
from vssemu.array.pool import Pool
from vssemu.array.rows import LunRow
from vssemu.array.space import Space
from vssemu.array.tables import Tables
from vssemu.array.views import Views
from vssemu.faults import FaultPoints
from vssemu.vss.array import LunState
from vssemu.vss.engine import Backing, Engine, Usage
from vssemu.vss.errors import InsufficientStorage, ObjectNotFound
from vssemu.vss.fabric import Target
from vssemu.vss.identity import Initiator, LunId


class ArrayTarget(Target, Protocol):
    """The target half of a fabric as the array uses it."""

    async def users(
        self, lun: LunId, backings: Sequence[Backing], initiator: Initiator | None = None
    ) -> Sequence[str]:
        """Return what still uses a LUN's files, in words; of one initiator, when given.

        Use that a crash left behind is ended first, so the answer may take seconds.
        """
        ...

    async def revoke(self, lun: LunId, backings: Sequence[Backing]) -> None:
        """Cut off all devices over a LUN's files, whoever has them: their I/O fails from then on.

        The LUN stays published, so that whoever had it can give it back.
        """
        ...

    async def discard(self, lun: LunId, backing: Backing) -> None:
        """Forget a file of a LUN that is about to be removed."""
        ...


class ScratchEngine(Engine, Protocol):
    """An engine that can tell what a copy has, and take it away."""

    async def has_scratch(self, lun: LunId) -> bool:
        """Tell whether there is one now."""
        ...

    async def extents(self, lun: LunId) -> int:
        """Return how many extents a LUN has, without a walk over them."""
        ...

    async def last_usage(self, lun: LunId) -> Usage:
        """Return the usage of a LUN, in haste: an earlier one while nobody can be asked."""
        ...

    async def empty(self, lun: LunId) -> None:
        """Free the bytes of a copy and its scratch clone at once; the files stay, empty."""
        ...

    async def lost(self) -> Sequence[LunId]:
        """Return the copies whose data the engine could not keep, for want of room."""
        ...

    async def freed_at_once(self, luns: Collection[LunId]) -> Collection[LunId]:
        """Return which of these copies give their bytes free when they are emptied.

        The others leave them to elder copies, which need them.
        """
        ...

    async def remove_unknown(self, known: Collection[LunId]) -> Sequence[str]:
        """Remove the files of all LUNs but these; return what they were called."""
        ...


@dataclass(kw_only=True)
class Core:
    """The parts of one array.

    luns, sets: locks, whose order is told in `locking`. faults: what is armed where.
    """

    journal: Journal
    pool: Pool
    space: Space
    engine: ScratchEngine
    target: ArrayTarget
    views: Views = field(default_factory=Views)
    luns: NamedLocks = field(default_factory=NamedLocks)
    sets: NamedLocks = field(default_factory=NamedLocks)
    faults: FaultPoints = field(default_factory=lambda: FaultPoints(None, "array"))

    async def publish(self, initiator: Initiator, lun: LunRow) -> None:
        """Let the fabric hand a LUN, and its scratch clone if there is one, to an initiator."""
        for backing in await self._backings(lun):
            await self.target.publish(initiator, lun.id, backing)

    async def users(self, lun: LunRow, initiator: Initiator | None = None) -> Sequence[str]:
        """Return what still uses a LUN or its scratch clone, in words."""
        try:
            backings = await self._backings(lun)
        except FileNotFoundError:
            return ()
        return await self.target.users(lun.id, backings, initiator)

    async def revoke(self, lun: LunRow) -> None:
        """Make all I/O on a LUN and its scratch clone fail, whoever has them."""
        await self.target.revoke(lun.id, await self._backings(lun))

    async def _backings(self, lun: LunRow) -> list[Backing]:
        backings = [await self.engine.activate(lun.id, writable=True)]
        if lun.is_copy and await self.engine.has_scratch(lun.id):
            backings.append(await self.engine.scratch(lun.id, writable=True))
        return backings

    async def discard_scratch(self, lun: LunRow) -> None:
        """Remove the scratch clone of a copy, if there is one."""
        if await self.engine.has_scratch(lun.id):
            scratch = await self.engine.scratch(lun.id, writable=True)
            await self.target.discard(lun.id, scratch)
            await self.engine.discard_scratch(lun.id)

    async def scratch_of(self, initiator: Initiator, lun: LunRow) -> Backing:
        """Return the scratch clone of a copy, made if need be, published to an initiator."""
        scratch = await self.engine.scratch(lun.id, writable=True)
        await self.target.publish(initiator, lun.id, scratch)
        return scratch


def existing(tables: Tables, lun: LunId) -> LunRow:
    """Return a LUN. Raises ObjectNotFound."""
    row = tables.lun(lun)
    if row is None:
        raise ObjectNotFound(
            f"there is no LUN {lun}", item=lun, hint="list the LUNs to see their ids"
        )
    return row


def refuse_ended(row: LunRow) -> None:
    """Raise InsufficientStorage for a copy whose data are gone."""
    if row.state is LunState.ENDED:
        raise InsufficientStorage(
            f"LUN {row.id} was ended: the pool had no room left for its data, which are gone",
            item=row.id,
            hint="delete it, make room in the pool and take a new shadow copy",
        )


def visible(tables: Tables, lun: LunId, initiator: Initiator) -> LunRow:
    """Return a LUN that is unmasked to an initiator.

    Raises ObjectNotFound, in the same words for one that is not there and one that is masked.
    """
    row = tables.lun(lun)
    if row is None or initiator not in row.masked_to:
        raise ObjectNotFound(
            f"no LUN {lun} is unmasked to {initiator}",
            item=lun,
            hint="the administrator of the array unmasks LUNs",
        )
    return row
