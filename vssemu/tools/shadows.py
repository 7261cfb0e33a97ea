"""Shadow copies, writers and volumes as commands show them: asked for, as plain facts.

Owns what `--json` carries; the text of each command is the command's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from vssemu.api import disks
from vssemu.api import requester as table
from vssemu.api.blocking import Async, BackupComponents, Vss
from vssemu.vss.attributes import CONTEXT_BITS, Attribute, Context, context_of
from vssemu.vss.errors import InvalidArgument, ObjectNotFound
from vssemu.vss.host import GptFlags, Volume
from vssemu.vss.hresult import Hresult
from vssemu.vss.snapshot import SnapshotProperties, from_filetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ShadowFacts:
    """A shadow copy of this host.

    device_object, raw_device: paths without a trailing slash; raw_device is empty when
    device_object is. attributes: names of VSS_VOLUME_SNAPSHOT_ATTRIBUTES without their prefix.
    context, state: likewise, of VSS_SNAPSHOT_CONTEXT (hexadecimal when the bits name none) and
    VSS_SNAPSHOT_STATE. created: UTC.
    luns: the names of the LUNs it lies on.
    """

    id: UUID
    set_id: UUID
    snapshots_count: int
    device_object: str
    raw_device: str
    original_volume: str
    originating_machine: str
    service_machine: str
    exposed_name: str | None
    exposed_path: str | None
    provider_id: UUID
    attributes: tuple[str, ...]
    context: str
    state: str
    created: datetime
    luns: tuple[str, ...]

    @property
    def bits(self) -> Attribute:
        """The attributes as a mask."""
        mask = Attribute(0)
        for name in self.attributes:
            mask |= Attribute[name]
        return mask


def all_shadows(backup: BackupComponents) -> list[ShadowFacts]:
    """Return every shadow copy of this host. backup: an object that was just opened."""
    backup.initialize_for_backup()
    backup.set_context(Context.ALL)
    return [_facts(each, _luns(backup, each)) for each in backup.query()]


def _luns(backup: BackupComponents, copy: SnapshotProperties) -> tuple[str, ...]:
    try:
        return tuple(lun.describe() for lun in backup.get_snapshot_luns(copy.snapshot_id))
    except ObjectNotFound:
        # Deleted since the query; the list shows what was there then.
        return ()


def _facts(copy: SnapshotProperties, luns: tuple[str, ...]) -> ShadowFacts:
    return ShadowFacts(
        id=copy.snapshot_id,
        set_id=copy.snapshot_set_id,
        snapshots_count=copy.snapshots_count,
        device_object=copy.device_object,
        raw_device=raw_device(copy.device_object),
        original_volume=copy.original_volume_name,
        originating_machine=copy.originating_machine,
        service_machine=copy.service_machine,
        exposed_name=copy.exposed_name,
        exposed_path=copy.exposed_path,
        provider_id=copy.provider_id,
        attributes=tuple(bit.name for bit in Attribute if bit in copy.attributes and bit.name),
        context=_context(copy.attributes),
        state=copy.status.name,
        created=from_filetime(copy.creation_timestamp),
        luns=luns,
    )


def _context(attributes: Attribute) -> str:
    try:
        return context_of(attributes).name
    except InvalidArgument:
        # A document made elsewhere may carry any bits, and one copy must not spoil the list.
        return f"0x{attributes & CONTEXT_BITS:08x}"


def raw_device(device_object: str) -> str:
    """Return the path of the block device that belongs to a device object's directory."""
    root, middle, name = device_object.rpartition("/Device/")
    return f"{root}/RawDevice/{name}" if middle else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterFacts:
    """A writer and how it stands.

    state: name of VSS_WRITER_STATE without its prefix. failure: an HRESULT by name; message:
    the writer's own words.
    """

    id: UUID
    instance_id: UUID
    name: str
    state: str
    state_number: int
    failure: str
    failure_code: int
    message: str


def all_writers(
    backup: BackupComponents, *, patience: float, still_waiting: Callable[[], None]
) -> list[WriterFacts]:
    """Ask every writer to identify itself; return how those that did stand.

    backup: an object that was just opened. still_waiting: called when they have not all
    answered after `patience` seconds.
    """
    backup.initialize_for_backup()
    asked = Async(backup.client, backup.client.call(table.gather_writer_metadata))
    if asked.wait(patience) is Hresult.VSS_S_ASYNC_PENDING:
        still_waiting()
        asked.wait()
    return [
        WriterFacts(
            id=one.writer_id,
            instance_id=one.instance_id,
            name=one.name,
            state=one.state.name,
            state_number=one.state,
            failure=one.failure.name,
            failure_code=one.failure,
            message=one.message,
        )
        for one in backup.gather_writer_status()
    ]


def supported_volumes(vss: Vss) -> list[Volume]:
    """Return the volumes of which a shadow copy is possible; copies are not among them."""
    with vss.backup_components() as backup:
        backup.initialize_for_backup()
        return [
            volume
            for volume in vss.client.call(disks.list_volumes)
            if not volume.flags & GptFlags.HIDDEN and _is_supported(backup, volume)
        ]


def _is_supported(backup: BackupComponents, volume: Volume) -> bool:
    try:
        return backup.is_volume_supported(volume.name)
    except ObjectNotFound:
        # Gone since the list was made.
        return False
