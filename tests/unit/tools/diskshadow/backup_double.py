"""A VSS service in memory, as the requester object that `double.FakeVss` hands out.

It keeps sets in a `Machine`, checks each call against the life cycle table of the real
service, and can be told to fail a call. It holds no writes and copies no bytes.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from tests.unit.tools.diskshadow.machine import EXTENT, HeldSet, Machine, lun_record, volume
from vssemu.api import requester as table
from vssemu.api.plans import ExaminedWriter
from vssemu.vss.attributes import Attribute, Context, checked_context, has_writers
from vssemu.vss.documents.bcd import BackupComponentsDocument, BackupState
from vssemu.vss.documents.wmd import WriterMetadataDocument
from vssemu.vss.documents.wmdbuilder import build
from vssemu.vss.documents.writer import (
    ComponentInfo,
)
from vssemu.vss.enums import (
    BackupType,
    HardwareOptions,
    ObjectType,
    ProviderType,
    WriterState,
)
from vssemu.vss.errors import ObjectAlreadyExists, ObjectNotFound
from vssemu.vss.host import GptFlags, Volume
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import (
    ARRAY_PROVIDER_ID,
    ProviderId,
    SnapshotId,
    SnapshotSetId,
)
from vssemu.vss.lifecycle.requester import (
    ASYNCHRONOUS,
    Call,
    RequesterState,
    after,
    ended,
)
from vssemu.vss.lun import LunInformation
from vssemu.vss.snapshot import (
    LunMapping,
    ProviderProperties,
    SnapshotDescription,
    SnapshotProperties,
    SnapshotSetDescription,
)
from vssemu.vss.writer import WriterStatus


class Running:
    """An operation that ends with its second wait."""

    def __init__(self, work: Callable[[], Hresult]) -> None:
        self._work = work
        self._waits = 0

    def wait(self, timeout: float | None = None) -> Hresult:
        self._waits += 1
        return Hresult.VSS_S_ASYNC_PENDING if self._waits == 1 else self._work()


class Operation:
    """An asynchronous method."""

    def __init__(self, work: Callable[..., Hresult]) -> None:
        self._work = work

    def begin(self, *arguments: Any) -> Running:
        return Running(lambda: self._work(*arguments))


class Backup:
    """An IVssBackupComponents object."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.state = RequesterState()
        self.document = BackupComponentsDocument.new()
        self.context = 0
        self.pending: list[tuple[SnapshotId, Volume, ProviderId | None]] = []
        self.set_id: SnapshotSetId | None = None
        self.prepare_for_backup = Operation(self._prepare)
        self.do_snapshot_set = Operation(self._create)
        self.backup_complete = Operation(self._complete)
        self.import_snapshots = Operation(self._import)
        self.break_snapshot_set_ex = Operation(self._break_ex)

    def _called(self, call: Call, **more: bool) -> None:
        self.state = after(self.state, call, **more)
        try:
            self.machine.reach(call.value)
        except BaseException:
            if call in ASYNCHRONOUS:
                self.state = ended(self.state, succeeded=False)
            raise
        if call in ASYNCHRONOUS:
            self.state = ended(self.state, succeeded=True)

    def initialize_for_backup(self, document: str | None = None) -> None:
        self._called(Call.INITIALIZE_WITH_DOCUMENT if document else Call.INITIALIZE)
        if document:
            self.document = BackupComponentsDocument.parse(document)

    def set_context(self, context: int) -> None:
        mask = checked_context(context)
        self._called(Call.SET_CONTEXT, without_writers=not has_writers(mask))
        self.context = mask

    def set_backup_state(
        self, select_components: bool, bootable: bool, backup_type: BackupType
    ) -> None:
        self._called(Call.SET_BACKUP_STATE)
        self.document.set_backup_state(
            BackupState(
                select_components=select_components,
                bootable_system_state=bootable,
                backup_type=backup_type,
            )
        )

    def gather_writer_metadata(self) -> list[ExaminedWriter]:
        self._called(Call.GATHER_WRITER_METADATA)
        return self.writer_metadata()

    def writer_metadata(self) -> list[ExaminedWriter]:
        self._called(Call.GET_WRITER_METADATA)
        found = []
        for one in self.machine.writers:
            text = build(one).to_xml()
            metadata = table.WriterMetadata(
                instance_id=one.instance_id,
                writer_id=one.writer_id,
                name=one.name,
                document=text,
            )
            document = WriterMetadataDocument.parse(text)
            found.append(ExaminedWriter(metadata=metadata, document=document))
        return found

    def add_component(self, writer: ExaminedWriter, component: ComponentInfo) -> None:
        self._called(Call.ADD_COMPONENT)
        self.document.add_component(
            writer_id=writer.metadata.writer_id,
            instance_id=writer.metadata.instance_id,
            component_type=component.component_type,
            logical_path=component.logical_path,
            component_name=component.name,
        )

    def start_snapshot_set(self) -> SnapshotSetId:
        self._called(Call.START_SNAPSHOT_SET)
        self.set_id = SnapshotSetId(uuid4())
        self.document.snapshot_set_id = self.set_id
        return self.set_id

    def is_volume_supported(self, volume: str, provider: ProviderId | None = None) -> bool:
        self._called(Call.IS_VOLUME_SUPPORTED)
        self._volume(volume)
        return provider in (None, ARRAY_PROVIDER_ID)

    def add_to_snapshot_set(self, volume: str, provider: ProviderId | None = None) -> SnapshotId:
        self._called(Call.ADD_TO_SNAPSHOT_SET)
        self.pending.append((SnapshotId(uuid4()), self._volume(volume), provider))
        return self.pending[-1][0]

    def _volume(self, name: str) -> Volume:
        for one in self.machine.volumes:
            if name in (one.name, *one.letters):
                return one
        raise ObjectNotFound(f"no volume {name} on this host", item=name)

    def _prepare(self) -> Hresult:
        self._called(Call.PREPARE_FOR_BACKUP)
        return Hresult.VSS_S_ASYNC_FINISHED

    def _create(self) -> Hresult:
        self._called(Call.DO_SNAPSHOT_SET)
        assert self.set_id is not None
        transportable = bool(self.context & Attribute.TRANSPORTABLE)
        held = HeldSet(copies=[], luns={}, is_here=not transportable, holder=None)
        for number, (copy, origin, provider) in enumerate(self.pending):
            held.copies.append(self._properties(copy, origin, provider, transportable))
            held.luns[copy] = f"{number:02x}{copy.hex[2:]}"
        self._place(self.set_id, held)
        if transportable:
            self.document.set_snapshot_set_description(self._description(held))
        if self.machine.writer_failure is not Hresult.S_OK:
            self.machine.writer_state = WriterState.FAILED_AT_POST_SNAPSHOT
        else:
            self.machine.writer_state = WriterState.WAITING_FOR_BACKUP_COMPLETE
        self.machine.reach("after DoSnapshotSet")
        return Hresult.VSS_S_ASYNC_FINISHED

    def _properties(
        self, copy: SnapshotId, origin: Volume, provider: ProviderId | None, transportable: bool
    ) -> SnapshotProperties:
        assert self.set_id is not None
        return SnapshotProperties(
            snapshot_id=copy,
            snapshot_set_id=self.set_id,
            snapshots_count=len(self.pending),
            device_object="" if transportable else self.machine.next_device(),
            original_volume_name=origin.name,
            originating_machine="systemOne",
            service_machine="systemOne",
            provider_id=provider or ARRAY_PROVIDER_ID,
            attributes=Attribute(self.context) | Attribute.HARDWARE_ASSISTED,
            creation_timestamp=132_463_098_400_000_000 + len(self.machine.sets),
        )

    def _description(self, held: HeldSet) -> SnapshotSetDescription:
        assert self.set_id is not None
        return SnapshotSetDescription(
            snapshot_set_id=self.set_id,
            context=self.context,
            snapshots=tuple(
                SnapshotDescription(
                    properties=copy,
                    luns=(
                        LunMapping(
                            source=lun_record("6a" * 16),
                            destination=lun_record(held.luns[copy.snapshot_id]),
                            extents=(EXTENT,),
                        ),
                    ),
                )
                for copy in held.copies
            ),
        )

    def _place(self, set_id: SnapshotSetId, held: HeldSet) -> None:
        if not self.context & Attribute.NO_AUTO_RELEASE:
            held.holder = self
        self.machine.sets[set_id] = held
        if held.is_here:
            hidden = GptFlags.SHADOW_COPY | GptFlags.HIDDEN | GptFlags.READ_ONLY
            for lun in held.luns.values():
                self.machine.volumes.append(volume(uuid4(), None, lun, hidden))

    def gather_writer_status(self) -> list[WriterStatus]:
        self._called(Call.GATHER_WRITER_STATUS)
        return [
            WriterStatus(
                instance_id=one.instance_id,
                writer_id=one.writer_id,
                name=one.name,
                state=self.machine.writer_state,
                failure=self.machine.writer_failure,
            )
            for one in self.machine.writers
        ]

    def save_as_xml(self) -> str:
        self._called(Call.SAVE_AS_XML)
        return self.document.to_xml()

    def _import(self) -> Hresult:
        self._called(Call.IMPORT_SNAPSHOTS)
        description = self.document.snapshot_set_description()
        set_id = description.snapshot_set_id
        if (before := self.machine.sets.get(set_id)) is not None and before.is_here:
            raise ObjectAlreadyExists(f"ImportSnapshots({set_id}): the set is on this host")
        chosen = description.snapshots[self.machine.lose_at_import :]
        held = HeldSet(copies=[], luns={}, is_here=True, holder=None)
        for one in chosen:
            arrived = replace(
                one.properties,
                device_object=self.machine.next_device(),
                attributes=one.properties.attributes | Attribute.IMPORTED,
                service_machine="systemTwo",
            )
            held.copies.append(arrived)
            naa = one.luns[0].destination.naa
            assert naa is not None
            held.luns[arrived.snapshot_id] = naa.removeprefix("naa.")
        self.context = description.context
        self._place(set_id, held)
        if self.machine.lose_at_import:
            return Hresult.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED
        return Hresult.VSS_S_ASYNC_FINISHED

    def get_snapshot_properties(self, snapshot_id: SnapshotId) -> SnapshotProperties:
        self._called(Call.GET_SNAPSHOT_PROPERTIES)
        return next(c for c in self.machine.copies() if c.snapshot_id == snapshot_id)

    def get_snapshot_luns(self, snapshot_id: SnapshotId) -> list[LunInformation]:
        self._called(Call.GET_SNAPSHOT_PROPERTIES)
        held = next(h for h in self.machine.sets.values() if snapshot_id in h.luns)
        return [lun_record(held.luns[snapshot_id])]

    def query(self) -> list[SnapshotProperties]:
        self._called(Call.QUERY)
        assert self.context == Context.ALL
        return self.machine.copies()

    def query_providers(self) -> list[ProviderProperties]:
        self._called(Call.QUERY_PROVIDERS)
        return [
            ProviderProperties(
                provider_id=ARRAY_PROVIDER_ID,
                name="vssemu array provider",
                type=ProviderType.HARDWARE,
                version="1.0",
                version_id=UUID(int=1),
                class_id=UUID(int=2),
            )
        ]

    def delete_snapshots(self, source_id: UUID, kind: ObjectType, force: bool) -> table.Deleted:
        self._called(Call.DELETE_SNAPSHOTS)
        doomed = [
            copy
            for copy in self.machine.copies()
            if source_id
            == (copy.snapshot_set_id if kind is ObjectType.SNAPSHOT_SET else copy.snapshot_id)
        ]
        if not doomed:
            raise ObjectNotFound("DeleteSnapshots: nothing of that id is on this host")
        for copy in doomed:
            held = self.machine.sets[copy.snapshot_set_id]
            held.copies.remove(copy)
            if not held.copies:
                del self.machine.sets[copy.snapshot_set_id]
        return table.Deleted(deleted=len(doomed))

    def _break_ex(self, snapshot_set_id: SnapshotSetId, flags: HardwareOptions) -> Hresult:
        self._called(Call.BREAK_SNAPSHOT_SET_EX)
        held = self.machine.sets[snapshot_set_id]
        freed = {f"naa.{lun}" for lun in held.luns.values()}
        if flags == HardwareOptions.MASK_LUNS:
            held.is_here = False
            kept = [v for v in self.machine.volumes if v.luns[0].lun_id not in freed]
            self.machine.volumes = kept
            return Hresult.VSS_S_ASYNC_FINISHED
        del self.machine.sets[snapshot_set_id]
        left = GptFlags.NONE if flags == HardwareOptions.MAKE_READ_WRITE else GptFlags.READ_ONLY
        self.machine.volumes = [
            replace(v, flags=v.flags & left) if v.luns[0].lun_id in freed else v
            for v in self.machine.volumes
        ]
        return Hresult.VSS_S_ASYNC_FINISHED

    def expose_snapshot(
        self, snapshot_id: SnapshotId, path: str | None, attributes: Attribute, place: str
    ) -> str:
        self._called(Call.EXPOSE_SNAPSHOT)
        name = f"{place.upper()}\\" if place.endswith(":") else place
        self._change(snapshot_id, exposed_name=name)
        return name

    def unexpose_snapshot(self, snapshot_id: SnapshotId) -> None:
        self._called(Call.UNEXPOSE_SNAPSHOT)
        self._change(snapshot_id, exposed_name=None)

    def _change(self, snapshot_id: SnapshotId, **values: Any) -> None:
        for held in self.machine.sets.values():
            for number, copy in enumerate(held.copies):
                if copy.snapshot_id == snapshot_id and held.is_here:
                    held.copies[number] = replace(copy, **values)
                    return
        raise ObjectNotFound(f"shadow copy {{{snapshot_id}}} is not on this host")

    def set_backup_succeeded(
        self, writer: ExaminedWriter, component: ComponentInfo, succeeded: bool
    ) -> None:
        self._called(Call.SET_BACKUP_SUCCEEDED)
        self.machine.log.append(f"{writer.name}:{component.full_path} {succeeded}")

    def _complete(self) -> Hresult:
        self._called(Call.BACKUP_COMPLETE)
        return Hresult.VSS_S_ASYNC_FINISHED

    def abort_backup(self) -> None:
        self._called(Call.ABORT_BACKUP)

    def release(self) -> None:
        self._called(Call.RELEASE)
        for set_id, held in list(self.machine.sets.items()):
            if held.holder is self:
                del self.machine.sets[set_id]
