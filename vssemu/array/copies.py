"""Finished copies in the hands of hosts: surface, retract, reclaim, share, break.

A host names a copy by its whole record, which is compared with the journal's: the serial in
it is random, so the record is the right to the copy. A record that differs describes no LUN.
A base LUN is never claimed, never given away and never deleted here.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import structlog
import trio

from vssemu.array.border import storage
from vssemu.array.core import Core, existing, refuse_ended
from vssemu.array.luns import begin_deletion, finish_deletion, not_found, refuse_if_used
from vssemu.array.masking import Masking, unmask_row
from vssemu.array.rows import LunRow
from vssemu.array.sets import Sets
from vssemu.array.tables import Tables
from vssemu.vss.array import LunState
from vssemu.vss.errors import InvalidArgument, ProviderVeto, VolumeInUse
from vssemu.vss.identity import Initiator, LunId
from vssemu.vss.lifecycle.lun import LunCall, after
from vssemu.vss.lun import LunInformation, is_same_lun

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

DETACH_SECONDS: Final = 2.0
"""How long the last devices over a copy may take to go, once its host has let go of it."""

_PAUSE: Final = 0.05


class Copies:
    """What hosts do with copies whose records they hold."""

    def __init__(self, core: Core, sets: Sets, masking: Masking) -> None:
        self._core = core
        self._sets = sets
        self._masking = masking
        self._claimed_now: set[LunId] = set()

    async def surface(self, initiator: Initiator, records: Sequence[LunInformation]) -> None:
        """Claim copies, and unmask them to the host that asks.

        Records of LUNs that are not there are passed over, for the others of the set can be
        imported without them. Raises ObjectNotFound when none is there; BadState, with
        nothing done, when one was claimed before or was broken out of its set;
        InvalidArgument for a base LUN; InsufficientStorage when all that are there were ended
        for want of room, which are passed over like those that are gone. After a restart of
        the array, that may have cost the answer, the same host may ask for what it claimed
        once more.
        """

        def claim(tables: Tables) -> list[LunRow]:
            rows = _unless_ended(
                copy for record in records if (copy := _copy(tables, record)) is not None
            )
            for row in rows:
                if self._is_repeated(row, initiator):
                    continue
                tables.set_lun_state(row.id, after(row.state, LunCall.SURFACE, item=row.id))
                tables.claim(row.id, initiator)
                unmask_row(tables, row, initiator)
            return rows

        found = await self._present(records)
        for set_id in {row.set_id for row in found if row.set_id is not None}:
            await self._sets.ensure_settled(set_id)
        async with self._core.luns.holding(*(row.id for row in found)):
            rows = await self._core.journal.change(claim)
            if not rows:
                raise not_found(", ".join(record.describe() for record in records))
            for row in rows:
                self._claimed_now.add(row.id)
                with storage("surface LUN", row.id):
                    await self._core.publish(initiator, row)
        self._core.views.changed(initiator)
        logger.info("copies_surfaced", luns=[row.id for row in rows], initiator=initiator)

    def _is_repeated(self, row: LunRow, initiator: Initiator) -> bool:
        """Tell whether a host asks again for what it claimed in an earlier run of the array."""
        is_its = row.claimed_by == initiator and initiator in row.masked_to
        return row.state is LunState.CLAIMED and is_its and row.id not in self._claimed_now

    async def _present(self, records: Sequence[LunInformation]) -> list[LunRow]:
        found = []
        for record in records:
            row = await self._core.journal.read(_copy, record)
            if row is None:
                logger.warning("record_unknown", lun=record.describe())
            else:
                found.append(row)
        if not found:
            raise not_found(", ".join(record.describe() for record in records) or "nothing")
        return found

    async def retract(self, initiator: Initiator, records: Sequence[LunInformation]) -> None:
        """Mask LUNs from the host that asks; those that it does not see are passed over.

        Its own base LUNs too. A copy that it claimed, that nobody else sees and that was not
        broken out of its set is committed again, without its scratch clone: whoever holds the
        record may surface it. Raises ProviderVeto, naming the user, with nothing masked, when
        one is in use there.
        """
        recorded = [await self._core.journal.read(_recorded, record) for record in records]
        asked = dict.fromkeys(row.id for row in recorded if row is not None)
        async with self._core.luns.holding(*asked):
            read = [await self._core.journal.read(Tables.lun, lun) for lun in asked]
            rows = [row for row in read if row is not None and initiator in row.masked_to]
            try:
                for row in rows:
                    await self._wait_unused(row, initiator)
                    await refuse_if_used(self._core, row, initiator)
                for row in rows:
                    await self._retract(initiator, row)
            except VolumeInUse as error:
                raise ProviderVeto(error.fact, item=error.item, hint=error.hint) from error
        self._core.views.changed(initiator)

    async def _retract(self, initiator: Initiator, row: LunRow) -> None:
        if _is_given_back(row, initiator):
            # Before the journal lets anybody else have the copy: the host could write to it.
            with storage("discard scratch clone of", row.id):
                await self._core.discard_scratch(row)
        await self._masking.withdraw(row.id, initiator, surprise=False, note=_let_go)
        self._claimed_now.discard(row.id)

    async def _wait_unused(self, row: LunRow, initiator: Initiator | None = None) -> None:
        with trio.move_on_after(DETACH_SECONDS):
            used = await self._core.users(row, initiator)
            while used:
                await trio.sleep(_PAUSE)
                used = await self._core.users(row, initiator)

    async def reclaim(self, initiator: Initiator, record: LunInformation) -> None:
        """Delete a copy for good; one that was deleted before is no error.

        A copy that another host claimed or sees is none of the asker's: ObjectNotFound, as
        for a record that never was right. Raises InvalidArgument for a base LUN, BadState
        for a LUN that was broken out of its set, ProviderVeto while it is in use.
        """
        lun = record.naa
        if lun is None:
            raise not_found(record.describe())
        async with self._core.luns.holding(lun):
            row = await self._core.journal.read(_reclaimable, initiator, record)
            if row is None:
                return
            await self._wait_unused(row)
            try:
                await refuse_if_used(self._core, row)
            except VolumeInUse as error:
                raise ProviderVeto(error.fact, item=lun, hint=error.hint) from error
            if row.masked_to:
                await self._masking.withdraw(lun, initiator, surprise=False)
            await self._core.journal.change(begin_deletion, lun, LunCall.RECLAIM)
            await finish_deletion(self._core, lun)
            self._claimed_now.discard(lun)
        self._core.views.changed(initiator)

    async def share(self, initiator: Initiator, record: LunInformation, target: Initiator) -> None:
        """Unmask a LUN that was broken out of its set to a host.

        Raises ObjectNotFound for record or host, BadState for a LUN of another state or one
        that another host sees, the asker included: retract it first.
        """

        def share(tables: Tables) -> LunRow:
            row = _copy(tables, record)
            if row is None:
                raise not_found(record.describe())
            after(row.state, LunCall.SHARE, item=row.id)
            return unmask_row(tables, row, target)

        async with self._core.luns.holding(record.naa or ""):
            row = await self._core.journal.change(share)
            with storage("share LUN", row.id):
                await self._core.publish(target, row)
        self._core.views.changed(target)
        logger.info("lun_shared", lun=row.id, initiator=target, by=initiator)

    async def set_independent(
        self, initiator: Initiator, records: Sequence[LunInformation]
    ) -> None:
        """Note that a set was broken: its copies belong to the administrator from now on.

        Raises ObjectNotFound for a copy that the asker did not claim, BadState; nothing is
        done then. Done already is no error.
        """

        def free(tables: Tables) -> None:
            for record in records:
                row = _claimed(tables, record, initiator)
                tables.set_lun_state(row.id, after(row.state, LunCall.BREAK, item=row.id))
                tables.leave_set(row.id)

        await self._core.journal.change(free)
        logger.info("set_broken", luns=[record.describe() for record in records])

    async def set_import_failed(
        self, initiator: Initiator, records: Sequence[LunInformation]
    ) -> None:
        """Note that the asker's import of these copies failed; they stay until reclaimed.

        Copies that it did not claim, and those that are gone, are passed over: somebody else
        may still import them. Raises BadState for one that was broken out of its set.
        """

        def fail(tables: Tables) -> None:
            for record in records:
                row = _copy(tables, record)
                if row is not None and row.claimed_by == initiator:
                    state = after(row.state, LunCall.FAIL_IMPORT, item=row.id)
                    tables.set_lun_state(row.id, state)

        await self._core.journal.change(fail)
        logger.info("import_failed", luns=[record.describe() for record in records])


def _unless_ended(rows: Iterable[LunRow]) -> list[LunRow]:
    """Return the copies that have their data. Raises InsufficientStorage if none has."""
    found = list(rows)
    whole = [row for row in found if row.state is not LunState.ENDED]
    if not whole:
        for row in found:
            refuse_ended(row)
    return whole


def _is_given_back(row: LunRow, initiator: Initiator) -> bool:
    """Tell whether a copy is anybody's again when this host sees it no more."""
    is_its = row.claimed_by == initiator and row.masked_to == (initiator,)
    return row.state in {LunState.CLAIMED, LunState.ENDED} and is_its


def _let_go(tables: Tables, lun: LunId, initiator: Initiator) -> None:
    row = existing(tables, lun)
    state = after(row.state, LunCall.RETRACT, item=lun)
    if _is_given_back(row, initiator):
        tables.set_lun_state(lun, state)
        tables.claim(lun, None)
    tables.mask(lun, initiator)


def _recorded(tables: Tables, record: LunInformation) -> LunRow | None:
    """Return the LUN that a record describes in full, None when there is none."""
    row = None if record.naa is None else tables.lun(record.naa)
    if row is None or not is_same_lun(row.information, record):
        return None
    return None if row.state is LunState.DELETING else row


def _copy(tables: Tables, record: LunInformation) -> LunRow | None:
    """Return the copy that a record describes. Raises InvalidArgument for a base LUN."""
    row = _recorded(tables, record)
    if row is not None and not row.is_copy:
        raise InvalidArgument(
            f"LUN {row.id} is no copy",
            item=row.id,
            hint="give the record of the shadow copy's LUN, not of the original's",
        )
    return row


def _claimed(tables: Tables, record: LunInformation, initiator: Initiator) -> LunRow:
    row = _copy(tables, record)
    if row is None or row.claimed_by not in {None, initiator}:
        raise not_found(record.describe())
    return row


def _reclaimable(tables: Tables, initiator: Initiator, record: LunInformation) -> LunRow | None:
    """Return a copy that a host may delete, None for one that was deleted before."""
    row = _copy(tables, record)
    if row is None:
        if record.naa is not None and _was(tables, record.naa, record.serial_number):
            return None
        raise not_found(record.describe())
    after(row.state, LunCall.RECLAIM, item=row.id)
    foreign = [name for name in row.masked_to if name != initiator]
    if foreign or row.claimed_by not in {None, initiator}:
        raise not_found(record.describe())
    return row


def _was(tables: Tables, lun: LunId, serial: str | None) -> bool:
    """Tell whether a LUN of this id and serial was deleted."""
    last = tables.retired_serial(lun)
    return last is not None and last == serial
