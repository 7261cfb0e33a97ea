"""CREATE: the whole creation, its metadata file, its aliases; all of it or nothing.

What can be refused without the array is refused before the set is started; from then on every
failure, and Ctrl-C, takes back what there is. Source: tools.md A.5 (create), A.9.
"""

import platform
from datetime import datetime

from vssemu.api.blocking import BackupComponents
from vssemu.api.plans import ExaminedWriter
from vssemu.tools.diskshadow import cabinets, requests
from vssemu.tools.diskshadow.aliases import SET_ALIAS, Alias, AliasKind, default_name
from vssemu.tools.diskshadow.cabinets import Place
from vssemu.tools.diskshadow.commands.backup import check_writers
from vssemu.tools.diskshadow.failures import Failed, calling
from vssemu.tools.diskshadow.hostvolumes import HostVolumes
from vssemu.tools.diskshadow.render import shadow_copies
from vssemu.tools.diskshadow.requester import finish, initialize
from vssemu.tools.diskshadow.selecting import Included, choose
from vssemu.tools.diskshadow.session import Act, Created, PendingVolume, Session, Stage
from vssemu.tools.diskshadow.undo import take_back
from vssemu.vss.attributes import Attribute, has_writers
from vssemu.vss.documents import cabinet
from vssemu.vss.documents.manifest import Manifest, ManifestCopy, member_of_writer
from vssemu.vss.enums import BackupType
from vssemu.vss.host import Volume
from vssemu.vss.identity import GUID_NULL, ProviderId, SnapshotId, SnapshotSetId, braced
from vssemu.vss.snapshot import SnapshotProperties

_NOTHING = Included(components=(), lines=())


def create(session: Session, _request: requests.Create) -> None:
    """Create the set of the added volumes."""
    session.check(Act.CREATE)
    if not session.volumes:
        raise Failed("No volume is in the shadow copy set. Use ADD VOLUME first.")
    path = session.settings.metadata or cabinets.default_path(datetime.now())
    volumes = session.requester.volumes()
    with cabinets.taken(path) as place:
        _Creation(session, place, volumes).run()


class _Creation:
    """One CREATE."""

    def __init__(self, session: Session, place: Place, volumes: list[Volume]) -> None:
        self.session = session
        self.place = place
        self.volumes = volumes
        self.mask = session.settings.mask
        self.has_writers = has_writers(self.mask)
        self.writers: list[ExaminedWriter] = []
        self.included = _NOTHING
        self.set_id: SnapshotSetId | None = None
        self.copies: list[tuple[PendingVolume, SnapshotId]] = []
        self.document = ""

    def run(self) -> None:
        """Do it, or take it back."""
        vss_object = self.session.requester.open()
        try:
            self._prepare(vss_object)
            self._snapshot(vss_object)
            found = self._properties(vss_object)
            aliases = self._aliases()
            content, members = self._cabinet(aliases)
            self.place.finish(content)
        except BaseException:
            take_back(self.session.requester, vss_object, self.set_id, self.mask)
            raise
        self._commit(vss_object, aliases)
        self._tell(aliases, members, found)

    def _prepare(self, vss_object: BackupComponents) -> None:
        """Initialise the object, choose the components, tell what is chosen."""
        session = self.session
        initialize(vss_object, self.mask)
        full = session.stage is Stage.BACKUP_OPEN
        kind = BackupType.FULL if full else BackupType.COPY
        with calling("vssObject->SetBackupState"):
            vss_object.set_backup_state(select_components=True, bootable=False, backup_type=kind)
        if not self.has_writers:
            return
        with calling("vssObject->GatherWriterMetadata"):
            self.writers = vss_object.gather_writer_metadata()
        in_set = {volume.guid_name for volume in session.volumes}
        with calling("SelectComponentsForBackup"):
            self.included = choose(self.writers, session.rules, HostVolumes(self.volumes), in_set)
        session.verbose(*self.included.lines)
        for writer, component in self.included.components:
            expression = f"vssObject->AddComponent({writer.name}:{component.full_path})"
            with calling(expression):
                vss_object.add_component(writer, component)

    def _snapshot(self, vss_object: BackupComponents) -> None:
        with calling("vssObject->StartSnapshotSet"):
            self.set_id = vss_object.start_snapshot_set()
        for volume in self.session.volumes:
            with calling(f"vssObject->AddToSnapshotSet({volume.name})"):
                copy = vss_object.add_to_snapshot_set(volume.name, volume.request.provider)
            self.copies.append((volume, copy))
        instances = {writer.metadata.instance_id for writer, _ in self.included.components}
        if self.has_writers:
            with calling("vssObject->PrepareForBackup"):
                finish(vss_object.prepare_for_backup)
            check_writers(vss_object, instances, "vssObject->PrepareForBackup")
        with calling("vssObject->DoSnapshotSet"):
            finish(vss_object.do_snapshot_set)
        if self.has_writers:
            check_writers(vss_object, instances, "vssObject->DoSnapshotSet")
        with calling("vssObject->SaveAsXML"):
            self.document = vss_object.save_as_xml()

    @property
    def is_transportable(self) -> bool:
        """Whether the set is not on this host."""
        return bool(self.mask & Attribute.TRANSPORTABLE)

    def _properties(self, vss_object: BackupComponents) -> list[SnapshotProperties]:
        if self.is_transportable:
            return []
        with calling("vssObject->GetSnapshotProperties"):
            return [vss_object.get_snapshot_properties(copy) for _, copy in self.copies]

    def _aliases(self) -> list[Alias]:
        """Return the aliases of the set, in the order of its volumes; the set's own last."""
        assert self.set_id is not None, "the set was started"
        found = [
            Alias(
                name=volume.request.alias or default_name(position),
                value=braced(copy),
                kind=AliasKind.COPY,
            )
            for position, (volume, copy) in enumerate(self.copies, start=1)
        ]
        return [*found, Alias(name=SET_ALIAS, value=braced(self.set_id), kind=AliasKind.SET)]

    def _cabinet(self, aliases: list[Alias]) -> tuple[bytes, list[str]]:
        """Return the bytes of the metadata file and the names of its members."""
        assert self.set_id is not None, "the set was started"
        own = {alias.name.lower() for alias in aliases}
        kept = [
            alias
            for alias in self.session.aliases
            if alias.kind is AliasKind.USER and alias.name.lower() not in own
        ]
        names = {alias.value: alias.name for alias in aliases}
        manifest = Manifest(
            snapshot_set_id=self.set_id,
            machine_name=machine_name(),
            copies=tuple(
                ManifestCopy(
                    snapshot_id=copy,
                    alias=names[braced(copy)],
                    original_volume=volume.shown,
                    provider_id=volume.request.provider or ProviderId(GUID_NULL),
                )
                for volume, copy in self.copies
            ),
            aliases=tuple((alias.name, alias.value) for alias in (*kept, *aliases)),
            writers=tuple(writer.name for writer in self.writers),
            log_file=cabinets.log_member(),
        )
        documents = [writer.save_as_xml() for writer in self.writers]
        log = "".join(f"{line}\r\n" for line in self.included.lines).encode()
        with calling(f"WriteMetadata({self.place.path})"):
            content = cabinet.write(
                manifest, self.document, documents, log, made=datetime.now().astimezone()
            )
        writers = (member_of_writer(number) for number in range(len(documents)))
        members = [cabinet.MANIFEST_MEMBER, manifest.bcd_member, *writers, manifest.log_file]
        return content, members

    def _commit(self, vss_object: BackupComponents, aliases: list[Alias]) -> None:
        session = self.session
        session.held.append(vss_object)
        session.created = Created(
            vss_object=vss_object,
            has_writers=self.has_writers,
            components=self.included.components,
        )
        session.move(Act.CREATE)
        for alias in aliases:
            session.aliases.put(alias)

    def _tell(
        self, aliases: list[Alias], members: list[str], found: list[SnapshotProperties]
    ) -> None:
        session, console = self.session, self.session.console
        console.lines(alias_line(alias) for alias in aliases)
        name = self.place.path.name
        session.verbose(*(f"Inserted file {member} into .cab file {name}" for member in members))
        assert self.set_id is not None, "the set was started"
        if self.is_transportable:
            console.lines(
                [
                    "",
                    f"The shadow copy set {braced(self.set_id)} is transportable and not"
                    " imported yet.",
                    f"Load {self.place.path} with LOAD METADATA and use IMPORT where it is"
                    " to be used.",
                ]
            )
            return
        query = f"Querying all shadow copies with the shadow copy set ID {braced(self.set_id)}"
        console.lines(["", query, ""])
        console.lines(shadow_copies(found, session.aliases, self.volumes))


def alias_line(alias: Alias) -> str:
    """Return the line that tells of a new alias."""
    return f"Alias {alias.name} for {alias.kind.value} {alias.value} set as environment variable."


def machine_name() -> str:
    """Return the name of this computer."""
    return platform.node()
