"""BREAK and MASK: a set leaves VSS; its volumes stay here, or its LUNs leave this host.

MASK is a break whose LUNs are masked, as BreakSnapshotSetEx does it. The LUNs are asked for
before the break; the volumes are those on them from which it took the shadow copy bit.
"""

from uuid import UUID

from vssemu.api import disks
from vssemu.tools.diskshadow import requests
from vssemu.tools.diskshadow.failures import Failed, calling
from vssemu.tools.diskshadow.session import Session
from vssemu.vss.attributes import Context
from vssemu.vss.host import GptFlags, Volume
from vssemu.vss.identity import LunId, braced
from vssemu.vss.snapshot import SnapshotProperties


def break_set(session: Session, request: requests.Break) -> None:
    """Break a set; `writable` makes its volumes read/write, which ends their device objects."""
    copies = _copies_of(session, request.target)
    hidden = {volume.guid for volume in session.requester.volumes() if _is_copy(volume)}
    luns = _broken(session, copies)
    if not request.is_writable:
        return
    for volume in session.requester.volumes():
        is_ours = any(extents.lun_id in luns for extents in volume.luns)
        if is_ours and volume.guid in hidden and not _is_copy(volume):
            session.requester.disks(
                f"MakeReadWrite({volume.name})", disks.make_read_write, volume.name
            )


def mask(session: Session, request: requests.Mask) -> None:
    """Take a set off this host; the array keeps it, and its metadata imports it again."""
    for lun in _broken(session, _copies_of(session, request.target)):
        session.requester.disks(f"MaskLun({lun})", disks.mask, lun)


def _copies_of(session: Session, target: UUID) -> list[SnapshotProperties]:
    """Return the copies of the set that an id names, or of the copy that it names."""
    everything = session.requester.everything()
    for copy in everything:
        if target in (copy.snapshot_set_id, copy.snapshot_id):
            return [c for c in everything if c.snapshot_set_id == copy.snapshot_set_id]
    raise Failed(f"There is no shadow copy set {braced(target)} on this computer.")


def _broken(session: Session, copies: list[SnapshotProperties]) -> list[LunId]:
    """Break the set of these copies and return the LUNs that they were on."""
    set_id = copies[0].snapshot_set_id
    with session.requester.backup(int(Context.ALL)) as vss_object:
        with calling(f"vssObject->GetSnapshotLuns({braced(set_id)})"):
            records = [lun for c in copies for lun in vss_object.get_snapshot_luns(c.snapshot_id)]
        with calling(f"vssObject->BreakSnapshotSet({braced(set_id)})"):
            vss_object.break_snapshot_set(set_id)
    return list(dict.fromkeys(record.naa for record in records if record.naa is not None))


def _is_copy(volume: Volume) -> bool:
    return bool(volume.flags & GptFlags.SHADOW_COPY)
