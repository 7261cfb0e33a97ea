"""Masking: which initiator sees which LUN.

One LUN, one host, as a rule: file systems of Linux do not share a block device. Who knows
better (a cluster) says `shared`.
"""

from collections.abc import Callable

import structlog

from vssemu.array.border import storage
from vssemu.array.core import Core, existing
from vssemu.array.naming import check_initiator
from vssemu.array.rows import LunRow, OperationKind
from vssemu.array.tables import Tables
from vssemu.vss.errors import BadState, ObjectNotFound, VssError
from vssemu.vss.identity import Initiator, LunId
from vssemu.vss.lifecycle.lun import LunCall, after

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Masking:
    """Masks and initiators."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def unmask(self, lun: LunId, initiator: Initiator, *, shared: bool = False) -> None:
        """Let an initiator see a LUN; done already is no error.

        shared: also while another one sees it.
        Raises ObjectNotFound for either, BadState for the LUN's state or another host's map.
        """

        def unmask(tables: Tables) -> LunRow:
            row = existing(tables, lun)
            after(row.state, LunCall.UNMASK, item=lun)
            return unmask_row(tables, row, initiator, shared=shared)

        async with self._core.luns.holding(lun):
            row = await self._core.journal.change(unmask)
            try:
                with storage("unmask LUN", lun):
                    await self._core.publish(initiator, row)
            except VssError:
                await self._core.journal.change(Tables.mask, lun, initiator)
                raise
        self._core.views.changed(initiator)
        logger.info("lun_unmasked", lun=lun, initiator=initiator)

    async def mask(self, lun: LunId, initiator: Initiator, *, surprise: bool = False) -> None:
        """Hide a LUN from an initiator that sees it; from another one is no error.

        Raises ObjectNotFound, and VolumeInUse while it is in use there. By surprise it is
        taken away at once: reads and writes of that host fail from then on.
        """

        def check(tables: Tables) -> bool:
            row = existing(tables, lun)
            known(tables, initiator)
            return initiator in row.masked_to

        async with self._core.luns.holding(lun):
            if await self._core.journal.read(check):
                await self.withdraw(lun, initiator, surprise=surprise)
        self._core.views.changed(initiator)

    async def withdraw(
        self,
        lun: LunId,
        initiator: Initiator,
        *,
        surprise: bool,
        note: Callable[[Tables, LunId, Initiator], None] = Tables.mask,
    ) -> None:
        """Take a LUN from an initiator, in the fabric and in the journal; under its lock.

        note: writes the mask, and what changes with it; not used by surprise.
        """
        if surprise:
            operation = await self._core.journal.change(_begin_withdrawal, lun, initiator)
            await self.finish_withdrawal(lun, initiator, operation)
        else:
            with storage("mask LUN", lun):
                await self._core.target.withdraw(initiator, lun, surprise=False)
            await self._core.journal.change(note, lun, initiator)
        logger.info("lun_masked", lun=lun, initiator=initiator, surprise=surprise)

    async def finish_withdrawal(self, lun: LunId, initiator: Initiator, operation: int) -> None:
        """Bring a surprise withdrawal that has begun to its end; again is no error."""
        with storage("withdraw LUN", lun):
            await self._core.target.withdraw(initiator, lun, surprise=True)
        await self._core.journal.change(Tables.end, operation)

    async def add_initiator(self, initiator: Initiator) -> None:
        """Make an initiator known; one that is known is no error. Raises InvalidArgument."""
        await self._core.journal.change(Tables.add_initiator, check_initiator(initiator))

    async def remove_initiator(self, initiator: Initiator) -> None:
        """Take all LUNs from an initiator by surprise and forget it; unknown is no error."""
        for row in await self._core.journal.read(Tables.luns_of_initiator, initiator):
            await self.mask(row.id, initiator, surprise=True)
        await self._core.journal.change(Tables.remove_initiator, initiator)


def known(tables: Tables, initiator: Initiator) -> None:
    """Raise ObjectNotFound for an initiator that the array does not know."""
    if initiator not in tables.initiators():
        raise ObjectNotFound(
            f"the array knows no initiator {initiator}",
            item=initiator,
            hint="add it first",
        )


def unmask_row(
    tables: Tables, row: LunRow, initiator: Initiator, *, shared: bool = False
) -> LunRow:
    """Note the mask of a LUN and return the LUN with it.

    Raises ObjectNotFound for the initiator, BadState when another one sees the LUN.
    """
    known(tables, initiator)
    others = [name for name in row.masked_to if name != initiator]
    if others and not shared:
        raise BadState(
            f"LUN {row.id} is mapped to {', '.join(others)}",
            item=row.id,
            hint="mask it there first; two hosts would destroy its file system",
        )
    tables.unmask(row.id, initiator)
    return existing(tables, row.id)


def _begin_withdrawal(tables: Tables, lun: LunId, initiator: Initiator) -> int:
    tables.mask(lun, initiator)
    return tables.begin(OperationKind.WITHDRAW, lun, initiator=initiator)
