"""Deleting shadow copies: one by one, LUN by LUN, for good.

A copy loses its names and mounts first; when the last copy on a LUN is gone the LUN is taken
off the host, FillInLunInfo and OnLunEmpty follow, and the provider reclaims it. A copy stays
in the catalog, marked, until all of that is done: found so at a start, it is finished then.
A deletion that has begun goes to its end, whatever becomes of its requester.
Source: IVssBackupComponents::DeleteSnapshots; IVssHardwareSnapshotProvider::OnLunEmpty.
"""

from dataclasses import dataclass, field

import trio

from vssemu.api import provider as table
from vssemu.api.requester import Deleted
from vssemu.service import copies, undo
from vssemu.service.catalog import SetStatus, StoredCopy, StoredSet
from vssemu.service.parts import Parts
from vssemu.service.trace import Trace
from vssemu.vss.enums import ObjectType, SnapshotState
from vssemu.vss.errors import InvalidArgument, VssError
from vssemu.vss.identity import SnapshotId, SnapshotSetId
from vssemu.vss.lun import LunInformation
from vssemu.vss.steps import DELETE, DeletionStep


async def delete_snapshots(
    parts: Parts, source_id: SnapshotId, source_type: ObjectType, *, force: bool
) -> Deleted:
    """Delete a copy or a set; stop at the first failure and report it.

    force: go on over what the provider refuses; the LUN may then need the administrator.
    Raises ObjectNotFound, InvalidArgument.
    """
    if source_type is ObjectType.SNAPSHOT_SET:
        stored = copies.find_set(parts.catalog, SnapshotSetId(source_id), "DeleteSnapshots")
        doomed = list(stored.copies)
    elif source_type is ObjectType.SNAPSHOT:
        stored, copy = copies.find_copy(parts.catalog, source_id, "DeleteSnapshots")
        doomed = [copy]
    else:
        raise InvalidArgument(
            f"DeleteSnapshots: {source_type!r} cannot be deleted",
            hint="give VSS_OBJECT_SNAPSHOT or VSS_OBJECT_SNAPSHOT_SET",
            item=str(int(source_type)),
        )
    trace = Trace(name=DELETE, set_id=str(stored.set_id), faults=parts.faults)
    for number, copy in enumerate(doomed):
        try:
            with trio.CancelScope(shield=True), parts.working_on(stored.set_id):
                await _delete_marked(parts, copy, trace, force=force)
        except VssError as error:
            return Deleted(
                deleted=number,
                first_undeleted=copy.id,
                hresult=error.hresult,
                fact=error.fact,
            )
        _log(parts, stored, copy, "requester")
    return Deleted(deleted=len(doomed))


async def finish(parts: Parts, stored: StoredSet, why: str) -> bool:
    """Delete those copies of a present set whose deletion was cut off; tell whether all went."""
    trace = Trace(name=DELETE, set_id=str(stored.set_id), faults=parts.faults)
    done = True
    for copy in stored.copies:
        if copy.is_doomed:
            if await undo.best(parts, "delete_copy", _Deletion(parts, copy, trace, held=False)):
                _log(parts, stored, copy, why)
            else:
                done = False
    return done


async def _delete_marked(parts: Parts, copy: StoredCopy, trace: Trace, *, force: bool) -> None:
    parts.catalog.mark_copy(copy.id, SnapshotState.DELETED)
    try:
        await _delete_copy(parts, copy, trace, force=force)
    except VssError:
        # The requester is told so, and decides what becomes of it.
        parts.catalog.mark_copy(copy.id, SnapshotState.CREATED)
        raise


async def _delete_copy(parts: Parts, copy: StoredCopy, trace: Trace, *, force: bool) -> None:
    """Delete one copy that is on this host. Raises VssError; calling again goes on."""
    async with trace.step(DeletionStep.RETIRE):
        await parts.host.retire(copy.id)
    empty = _only_on(parts, copy)
    async with trace.step(DeletionStep.REMOVE):
        await parts.host.remove(empty)
    await _give_back(parts, copy, empty, trace, force=force)
    async with trace.step(DeletionStep.FORGET):
        parts.catalog.remove_copy(copy.id)


async def end_set(parts: Parts, stored: StoredSet, why: str) -> None:
    """Delete a set whose time is over: its session ended, or the service started anew.

    What cannot be deleted stays marked and is tried again (`recovery.finish_what_is_left`). Of
    a set held for its creator alone, LUNs that another host has taken since are left alone.
    """
    held = stored.status in {SetStatus.HELD, SetStatus.RETURNING}
    parts.catalog.set_status(stored.set_id, SetStatus.RETURNING if held else SetStatus.DELETING)
    trace = Trace(name=DELETE, set_id=str(stored.set_id), faults=parts.faults)
    with parts.working_on(stored.set_id):
        for copy in stored.copies:
            step = _Deletion(parts, copy, trace, held=held)
            if await undo.best(parts, "delete_copy", step):
                _log(parts, stored, copy, why)


@dataclass(frozen=True)
class _Deletion:
    """One copy's deletion as a step. held: it is not on this host."""

    parts: Parts
    copy: StoredCopy
    trace: Trace
    held: bool = field(kw_only=True)

    async def __call__(self) -> None:
        if self.held:
            await _give_back_held(self.parts, self.copy, self.trace)
        else:
            await _delete_copy(self.parts, self.copy, self.trace, force=False)


async def _give_back_held(parts: Parts, copy: StoredCopy, trace: Trace) -> None:
    try:
        await _give_back(parts, copy, _only_on(parts, copy), trace, force=False)
    except VssError as error:
        if error.hresult not in undo.NOT_OURS:
            raise
        parts.log.record("lun_left", lun=str(copy.id), code=error.hresult.name, text=error.fact)
    async with trace.step(DeletionStep.FORGET):
        parts.catalog.remove_copy(copy.id)


async def _give_back(
    parts: Parts, copy: StoredCopy, records: list[LunInformation], trace: Trace, *, force: bool
) -> None:
    for record in records:
        try:
            provider = parts.providers.find(copy.properties.provider_id)
            async with trace.step(DeletionStep.FILL_IN_LUN_INFO):
                lun = await undo.known_lun(provider, record)
            if lun is not None:
                async with trace.step(DeletionStep.ON_LUN_EMPTY):
                    await provider.call(table.on_lun_empty, lun)
        except VssError as error:
            if not force:
                raise
            parts.log.record(
                "lun_left", lun=record.describe(), code=error.hresult.name, text=error.fact
            )


def _only_on(parts: Parts, copy: StoredCopy) -> list[LunInformation]:
    """Return the LUNs of a copy on which no other copy of the catalog lies."""
    others = {
        mapping.destination
        for stored in parts.catalog.sets()
        for other in stored.copies
        if other.id != copy.id
        for mapping in other.luns
    }
    own = dict.fromkeys(mapping.destination for mapping in copy.luns)
    return [record for record in own if record not in others]


def _log(parts: Parts, stored: StoredSet, copy: StoredCopy, why: str) -> None:
    parts.log.record(
        "shadow_copy_deleted", set_id=str(stored.set_id), snapshot_id=str(copy.id), why=why
    )
