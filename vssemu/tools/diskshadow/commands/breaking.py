"""BREAK and MASK: a set leaves VSS; its volumes stay here, or its LUNs leave this host.

MASK is a break whose LUNs are masked, as BreakSnapshotSetEx does it. Which LUNs and volumes
were the set's is read from this host: breaking takes the shadow copy bit off their partitions.
The document, when one was loaded or made here, narrows that down.
"""

from uuid import UUID

from vssemu.api import disks
from vssemu.tools.diskshadow import requests
from vssemu.tools.diskshadow.failures import Failed, calling
from vssemu.tools.diskshadow.session import Session
from vssemu.vss.attributes import Context
from vssemu.vss.host import GptFlags, Volume
from vssemu.vss.identity import SnapshotSetId, braced


def break_set(session: Session, request: requests.Break) -> None:
    """Break a set; `writable` makes its volumes read/write, which ends their device objects."""
    set_id = _set_of(session, request.target)
    freed = _broken(session, set_id)
    if request.is_writable:
        for volume in freed:
            session.requester.disks(
                f"MakeReadWrite({volume.name})", disks.make_read_write, volume.name
            )


def mask(session: Session, request: requests.Mask) -> None:
    """Take a set off this host; the array keeps it, and its metadata imports it again."""
    set_id = _set_of(session, request.target)
    luns = dict.fromkeys(
        extents.lun_id for volume in _broken(session, set_id) for extents in volume.luns
    )
    for lun in luns:
        session.requester.disks(f"MaskLun({lun})", disks.mask, lun)


def _set_of(session: Session, target: UUID) -> SnapshotSetId:
    """Return the set that an id names, or the set of the copy that it names. Raises Failed."""
    for copy in session.requester.everything():
        if target in (copy.snapshot_set_id, copy.snapshot_id):
            return copy.snapshot_set_id
    raise Failed(f"There is no shadow copy set {braced(target)} on this computer.")


def _broken(session: Session, set_id: SnapshotSetId) -> list[Volume]:
    """Break a set and return the volumes that it leaves."""
    quiet = {volume.guid for volume in session.requester.volumes() if _is_copy(volume)}
    with (
        session.requester.backup(int(Context.ALL)) as vss_object,
        calling(f"vssObject->BreakSnapshotSet({braced(set_id)})"),
    ):
        vss_object.break_snapshot_set(set_id)
    freed = [
        volume
        for volume in session.requester.volumes()
        if volume.guid in quiet and not _is_copy(volume)
    ]
    known = {record.naa for record in session.known_sets.get(set_id, ())}
    if known:
        return [v for v in freed if any(extents.lun_id in known for extents in v.luns)]
    return freed


def _is_copy(volume: Volume) -> bool:
    return bool(volume.flags & GptFlags.SHADOW_COPY)
