"""Deleting shadow copies: one by one, LUN by LUN, for good.

A copy loses its names and mounts first; when the last copy on a LUN is gone the LUN is taken
off the host, FillInLunInfo and OnLunEmpty follow, and the provider reclaims it. A copy stays
in the catalog, marked, until all of that is done: found so at a start, it is finished then.
Source: IVssBackupComponents::DeleteSnapshots; IVssHardwareSnapshotProvider::OnLunEmpty.
"""

from dataclasses import dataclass, field

from vssemu.api.requester import Deleted
from vssemu.service import copies, undo
from vssemu.service.catalog import SetStatus, StoredCopy, StoredSet
from vssemu.service.parts import Parts
from vssemu.vss.enums import ObjectType
from vssemu.vss.errors import InvalidArgument, VssError
from vssemu.vss.identity import SnapshotId, SnapshotSetId
from vssemu.vss.lun import LunInformation


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
    for number, copy in enumerate(doomed):
        try:
            await delete_copy(parts, copy, force=force)
        except VssError as error:
            return Deleted(
                deleted=number,
                first_undeleted=copy.id,
                hresult=error.hresult,
                fact=error.fact,
            )
        _log(parts, stored, copy, "requester")
    return Deleted(deleted=len(doomed))


async def delete_copy(parts: Parts, copy: StoredCopy, *, force: bool) -> None:
    """Delete one copy that is on this host. Raises VssError; calling again goes on."""
    await parts.host.retire(copy.id)
    empty = _only_on(parts, copy)
    await parts.host.remove(empty)
    await _give_back(parts, copy, empty, force=force)
    parts.catalog.remove_copy(copy.id)


async def end_set(parts: Parts, stored: StoredSet, why: str) -> None:
    """Delete a set whose time is over: its session ended, or the service started anew.

    What cannot be deleted stays marked and is tried again (`recovery.finish_deletions`). A set
    held for its creator alone is given back once: the array keeps LUNs that another host
    imported.
    """
    held = stored.status is SetStatus.HELD
    if not held:
        parts.catalog.set_status(stored.set_id, SetStatus.DELETING)
    for copy in stored.copies:
        if await undo.best(parts, "delete_copy", _Deletion(parts, copy, held=held)):
            _log(parts, stored, copy, why)
    if held:
        parts.catalog.remove_set(stored.set_id)


@dataclass(frozen=True)
class _Deletion:
    """One copy's deletion as a step. held: it is not on this host."""

    parts: Parts
    copy: StoredCopy
    held: bool = field(kw_only=True)

    async def __call__(self) -> None:
        if self.held:
            await _give_back_held(self.parts, self.copy)
        else:
            await delete_copy(self.parts, self.copy, force=False)


async def _give_back_held(parts: Parts, copy: StoredCopy) -> None:
    await _give_back(parts, copy, _only_on(parts, copy), force=False)
    parts.catalog.remove_copy(copy.id)


async def _give_back(
    parts: Parts, copy: StoredCopy, records: list[LunInformation], *, force: bool
) -> None:
    for record in records:
        try:
            provider = parts.providers.find(copy.properties.provider_id)
            await undo.empty_lun(provider, record)
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
