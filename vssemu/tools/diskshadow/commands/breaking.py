"""BREAK and MASK: a set leaves VSS; its volumes stay here, or its LUNs leave this host.

Both are BreakSnapshotSetEx; what is left of a set when it fails stands in its message.
"""

from uuid import UUID

from vssemu.tools.diskshadow import requests
from vssemu.tools.diskshadow.failures import Failed, calling
from vssemu.tools.diskshadow.requester import finish
from vssemu.tools.diskshadow.session import Session
from vssemu.vss.attributes import Context
from vssemu.vss.enums import HardwareOptions
from vssemu.vss.identity import SnapshotSetId, braced


def break_set(session: Session, request: requests.Break) -> None:
    """Break a set; `writable` makes its volumes read/write, which ends their device objects."""
    flags = HardwareOptions.MAKE_READ_WRITE if request.is_writable else HardwareOptions.NONE
    _break(session, request.target, flags)


def mask(session: Session, request: requests.Mask) -> None:
    """Take a set off this host; the array keeps it, and its metadata imports it again."""
    _break(session, request.target, HardwareOptions.MASK_LUNS)


def _break(session: Session, target: UUID, flags: HardwareOptions) -> None:
    set_id = _set_of(session, target)
    with session.requester.backup(int(Context.ALL)) as vss_object:
        call = f"vssObject->BreakSnapshotSetEx({braced(set_id)}, 0x{int(flags):x})"
        with calling(call):
            finish(vss_object.break_snapshot_set_ex, set_id, flags)


def _set_of(session: Session, target: UUID) -> SnapshotSetId:
    """Return the set that an id names, or the set of the copy that it names."""
    for copy in session.requester.everything():
        if target in (copy.snapshot_set_id, copy.snapshot_id):
            return copy.snapshot_set_id
    raise Failed(f"There is no shadow copy set {braced(target)} on this computer.")
