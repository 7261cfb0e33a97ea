"""LOAD METADATA and IMPORT: a set that another host, or this one, created transportable."""

from vssemu.tools.diskshadow import cabinets, requests
from vssemu.tools.diskshadow.aliases import SET_ALIAS, Alias, AliasKind, is_alias_name
from vssemu.tools.diskshadow.commands.creating import alias_line
from vssemu.tools.diskshadow.failures import Failed, call_failed, calling
from vssemu.tools.diskshadow.render import shadow_copies
from vssemu.tools.diskshadow.requester import finish, initialize, release
from vssemu.tools.diskshadow.session import Loaded, Session
from vssemu.vss.attributes import Context
from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.documents.cabinet import MANIFEST_MEMBER, Cabinet
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import braced
from vssemu.vss.snapshot import SnapshotProperties, SnapshotSetDescription


def load(session: Session, request: requests.LoadMetadata) -> None:
    """Read a metadata file, whole, and define its aliases."""
    path = session.roots.linux(request.path)
    found = cabinets.read(path)
    with calling(f"LoadMetadata({path})"):
        document = BackupComponentsDocument.parse(found.bcd)
        if document.is_transportable:
            document.snapshot_set_description()
    aliases = _aliases(found)
    session.loaded = Loaded(file=path, cabinet=found)
    members = [MANIFEST_MEMBER, found.manifest.bcd_member, *found.manifest.writer_members]
    session.verbose(*(f"Extracted file {name} from .cab file {path.name}" for name in members))
    for alias in aliases:
        session.aliases.put(alias)
        session.console.line(alias_line(alias))


def _aliases(found: Cabinet) -> list[Alias]:
    """Return the aliases of a metadata file: its copies', the users', the set's.

    Raises Failed for a name that no alias can have.
    """
    manifest = found.manifest
    copies = {
        copy.alias: Alias(name=copy.alias, value=braced(copy.snapshot_id), kind=AliasKind.COPY)
        for copy in manifest.copies
        if copy.alias
    }
    others = {
        name: Alias(name=name, value=value)
        for name, value in manifest.aliases
        if name not in copies and name.upper() != SET_ALIAS
    }
    whole = Alias(name=SET_ALIAS, value=braced(manifest.snapshot_set_id), kind=AliasKind.SET)
    aliases = [*copies.values(), *others.values(), whole]
    for alias in aliases:
        if not is_alias_name(alias.name) or "\0" in alias.value:
            raise Failed(f'The metadata file has an alias that cannot be one: "{alias.name}".')
    return aliases


def import_set(session: Session, _request: requests.Import) -> None:
    """Import the set of the loaded metadata and list it.

    Its object is held, and with it a volatile set, until RESET or EXIT. That only some of the
    copies came is a failure to a script; those that came are listed and stay.
    """
    if session.loaded is None:
        raise Failed("No metadata is loaded. Use LOAD METADATA first.")
    text = session.loaded.cabinet.bcd
    with calling("vssObject->ImportSnapshots"):
        description = BackupComponentsDocument.parse(text).snapshot_set_description()
    vss_object = session.requester.open()
    try:
        initialize(vss_object, int(Context.ALL), text)
        with calling("vssObject->ImportSnapshots"):
            result = finish(vss_object.import_snapshots)
    except BaseException:
        release(vss_object)
        raise
    session.held.append(vss_object)
    _list(session, description, result)


def _list(session: Session, description: SnapshotSetDescription, result: Hresult) -> None:
    set_id = description.snapshot_set_id
    wanted = [snapshot.properties.snapshot_id for snapshot in description.snapshots]
    here = {copy.snapshot_id: copy for copy in session.requester.everything()}
    found: list[SnapshotProperties] = [here[copy] for copy in wanted if copy in here]
    query = f"Querying all shadow copies with the shadow copy set ID {braced(set_id)}"
    session.console.lines(["", query, ""])
    volumes = session.requester.volumes()
    session.console.lines(shadow_copies(found, session.aliases, volumes))
    if result == Hresult.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED:
        raise call_failed(
            "vssObject->ImportSnapshots",
            f"{result}: {len(found)} of {len(wanted)} shadow copies were imported"
            " [the LUNs of the others are listed by vssemu vds list]",
        )
