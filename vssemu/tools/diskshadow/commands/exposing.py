"""EXPOSE and UNEXPOSE: a copy at a drive letter or in a folder."""

from collections.abc import Sequence

from vssemu.tools.diskshadow import requests
from vssemu.tools.diskshadow.failures import Failed, calling
from vssemu.tools.diskshadow.paths import is_letter, is_share
from vssemu.tools.diskshadow.session import Session
from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.identity import SnapshotId
from vssemu.vss.snapshot import SnapshotProperties


def expose(session: Session, request: requests.Expose) -> None:
    """Expose a copy; a letter keeps the case in which it was typed."""
    text = request.place
    if is_share(text):
        attributes, target = Attribute.EXPOSED_REMOTELY, text
    else:
        attributes = Attribute.EXPOSED_LOCALLY
        place = session.roots.place(text)
        target = place[:2] if is_letter(text) else place
    with (
        session.requester.backup(int(Context.ALL)) as vss_object,
        calling(f"vssObject->ExposeSnapshot({text})"),
    ):
        vss_object.expose_snapshot(SnapshotId(request.snapshot), None, attributes, target)
    shown = f"{text[:2]}\\" if is_letter(text) else text
    session.console.line(f"The shadow copy was successfully exposed as {shown}.")


def unexpose(session: Session, request: requests.Unexpose) -> None:
    """Take an exposure back; the copy stays."""
    copies = session.requester.everything()
    if request.snapshot is None:
        snapshot = exposed_at(session, request.place, copies).snapshot_id
    else:
        snapshot = SnapshotId(request.snapshot)
    with (
        session.requester.backup(int(Context.ALL)) as vss_object,
        calling(f"vssObject->UnexposeSnapshot({{{snapshot}}})"),
    ):
        vss_object.unexpose_snapshot(snapshot)
    session.console.line(f"Shadow copy {{{snapshot}}} is no longer exposed.")


def exposed_at(
    session: Session, text: str, copies: Sequence[SnapshotProperties]
) -> SnapshotProperties:
    """Return the copy that is exposed at a place. Raises Failed."""
    wanted = text if is_share(text) else session.roots.place(text)
    for copy in copies:
        if copy.exposed_name and _bare(copy.exposed_name) == _bare(wanted):
            return copy
    raise Failed(f"No shadow copy is exposed at {text}.")


def _bare(place: str) -> str:
    """Return a place without its last separator; letters have no case, folders have."""
    bare = place.rstrip("\\/")
    return bare.upper() if bare.endswith(":") else bare
