"""LIST: shadow copies, writers, providers."""

from vssemu.api.plans import ExaminedWriter
from vssemu.tools.diskshadow import render, requests
from vssemu.tools.diskshadow.failures import Failed, calling
from vssemu.tools.diskshadow.hostvolumes import HostVolumes
from vssemu.tools.diskshadow.render_writers import writer_metadata
from vssemu.tools.diskshadow.requests import Scope, WriterDetail
from vssemu.tools.diskshadow.session import Session
from vssemu.vss.attributes import Context
from vssemu.vss.identity import braced
from vssemu.vss.snapshot import SnapshotProperties
from vssemu.vss.writer import WriterStatus


def list_shadows(session: Session, request: requests.ListShadows) -> None:
    """List the copies on this host; an id that none has is a failure."""
    found = chosen(session.requester.everything(), request)
    session.console.line()
    if not found and request.scope is not Scope.ALL:
        what = "set" if request.scope is Scope.SET else "copy"
        raise Failed(f"{render.NO_COPIES} No shadow copy {what} {braced(request.guid)}.")
    volumes = session.requester.volumes() if found else []
    session.console.lines(render.shadow_copies(found, session.aliases, volumes))


def chosen(
    copies: list[SnapshotProperties], request: requests.ListShadows
) -> list[SnapshotProperties]:
    """Return the copies that a request names, by their time."""
    ordered = sorted(copies, key=lambda copy: copy.creation_timestamp)
    if request.scope is Scope.SET:
        return [copy for copy in ordered if copy.snapshot_set_id == request.guid]
    if request.scope is Scope.ID:
        return [copy for copy in ordered if copy.snapshot_id == request.guid]
    return ordered


def list_writers(session: Session, request: requests.ListWriters) -> None:
    """List the writers; after CREATE their state in this backup, else how they stand idle."""
    writers, statuses = _gather(session)
    console = session.console
    if request.detail is WriterDetail.STATUS:
        console.line("Listing writer status ...")
        console.lines(line for status in statuses for line in render.writer_status(status))
        console.line(render.writers_footer(len(statuses)))
        return
    console.line("Listing writer metadata ...")
    host = HostVolumes(session.requester.volumes())
    for writer in writers:
        console.lines(
            writer_metadata(
                writer.document.metadata,
                is_detailed=request.detail is WriterDetail.DETAILED,
                volume_of=host.shown_name_of,
            )
        )
    console.line(render.writers_footer(len(writers)))


def _gather(session: Session) -> tuple[list[ExaminedWriter], list[WriterStatus]]:
    created = session.created
    if created is not None and created.has_writers:
        with calling("vssObject->GatherWriterStatus"):
            statuses = created.vss_object.gather_writer_status()
            return created.vss_object.writer_metadata(), statuses
    with session.requester.backup(int(Context.BACKUP)) as vss_object:
        with calling("vssObject->GatherWriterMetadata"):
            writers = vss_object.gather_writer_metadata()
        with calling("vssObject->GatherWriterStatus"):
            return writers, vss_object.gather_writer_status()


def list_providers(session: Session, _request: requests.ListProviders) -> None:
    """List the registered providers."""
    with (
        session.requester.backup(int(Context.ALL)) as vss_object,
        calling("vssObject->Query(VSS_OBJECT_PROVIDER)"),
    ):
        found = vss_object.query_providers()
    session.console.lines(render.providers(found))
