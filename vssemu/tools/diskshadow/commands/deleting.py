"""DELETE SHADOWS: without a question, one copy after another."""

from vssemu.tools.diskshadow import render, requests
from vssemu.tools.diskshadow.commands.exposing import exposed_at
from vssemu.tools.diskshadow.failures import Failed, call_failed, calling
from vssemu.tools.diskshadow.hostvolumes import HostVolumes
from vssemu.tools.diskshadow.requests import Scope
from vssemu.tools.diskshadow.session import Session
from vssemu.vss.attributes import Context
from vssemu.vss.enums import ObjectType
from vssemu.vss.hresult import named
from vssemu.vss.identity import braced
from vssemu.vss.snapshot import SnapshotProperties


def delete(session: Session, request: requests.DeleteShadows) -> None:
    """Delete what is named. Nothing there is a failure only for an id or a place."""
    everything = session.requester.everything()
    doomed = _chosen(session, request, everything)
    if not doomed:
        session.console.line(render.NO_COPIES)
        return
    deleted = 0
    try:
        with session.requester.backup(int(Context.ALL)) as vss_object:
            for copy in doomed:
                session.console.line(
                    f"Deleting shadow copy {braced(copy.snapshot_id)} on volume"
                    f" {copy.original_volume_name} from provider {braced(copy.provider_id)}"
                    f" [Attributes: 0x{int(copy.attributes):08x}]..."
                )
                expression = f"vssObject->DeleteSnapshots({braced(copy.snapshot_id)})"
                with calling(expression):
                    result = vss_object.delete_snapshots(
                        copy.snapshot_id, ObjectType.SNAPSHOT, False
                    )
                if not result.deleted:
                    raise call_failed(expression, f"{named(result.hresult)}: {result.fact}")
                deleted += 1
    finally:
        session.console.lines(["", f"Number of shadow copies deleted: {deleted}"])


def _chosen(
    session: Session, request: requests.DeleteShadows, copies: list[SnapshotProperties]
) -> list[SnapshotProperties]:
    ordered = sorted(copies, key=lambda copy: copy.creation_timestamp)
    if request.scope is Scope.ALL:
        return ordered
    if request.scope is Scope.EXPOSED:
        return [exposed_at(session, request.place, ordered)]
    if request.scope in {Scope.SET, Scope.ID}:
        is_set = request.scope is Scope.SET
        found = [
            copy
            for copy in ordered
            if (copy.snapshot_set_id if is_set else copy.snapshot_id) == request.guid
        ]
        if not found:
            what = "set" if is_set else "copy"
            raise Failed(f"There is no shadow copy {what} {braced(request.guid)} here.")
        return found
    volume = _volume_name(session, request.place, ordered)
    found = [copy for copy in ordered if copy.original_volume_name.lower() == volume.lower()]
    return found[:1] if request.scope is Scope.OLDEST else found


def _volume_name(session: Session, text: str, copies: list[SnapshotProperties]) -> str:
    """Return the GUID name of a volume; one that has gone is known by its copies."""
    if text.startswith("{"):
        raise Failed(f"{text} is an ID, where a volume is expected.")
    name = session.roots.volume(text)
    found = HostVolumes(session.requester.volumes()).named(name)
    if found is not None:
        return found.name
    if any(copy.original_volume_name.lower() == name.lower() for copy in copies):
        return name
    raise Failed(f"There is no volume {text} here.")
