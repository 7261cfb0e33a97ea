"""io.vssemu.Requester, served: IVssBackupComponents over the wire.

Thin: finds the session, checks the state table, and hands over to the module that knows how.
Rights are checked before any method runs (`access`).
"""

from collections.abc import Awaitable, Callable
from uuid import uuid4

import trio

from vssemu.api.requester import Deleted, OperationStatus, WriterMetadata
from vssemu.linux.credentials import PeerCredentials
from vssemu.rpc.caller import Caller
from vssemu.service import (
    breaking,
    components,
    copies,
    deletion,
    ending,
    exposing,
    importing,
    openset,
)
from vssemu.service.creation import Creation
from vssemu.service.openset import CreationSlot, OpenSet
from vssemu.service.operations import Operations
from vssemu.service.participants import Participants
from vssemu.service.parts import Parts
from vssemu.service.recording import Recorder, keep, requester_of
from vssemu.service.sessions import Session, Sessions
from vssemu.service.trace import Trace
from vssemu.vss.attributes import (
    Attribute,
    checked_context,
    creation_context,
    has_writers,
)
from vssemu.vss.documents.bcd import BackupComponentsDocument, BackupState
from vssemu.vss.enums import BackupType, ComponentType, HardwareOptions, ObjectType
from vssemu.vss.errors import BadState, VolumeNotSupported, VolumeNotSupportedByProvider
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import (
    ProviderId,
    SnapshotId,
    SnapshotSetId,
    WriterId,
    WriterInstanceId,
    braced,
)
from vssemu.vss.lifecycle.requester import Call
from vssemu.vss.lun import LunInformation
from vssemu.vss.snapshot import ProviderProperties, SnapshotProperties
from vssemu.vss.steps import CREATION, CreationStep
from vssemu.vss.writer import WriterStatus

_DONE = Hresult.VSS_S_ASYNC_FINISHED


class RequesterService:
    """The implementation of io.vssemu.Requester. nursery: where operations run."""

    def __init__(self, parts: Parts, nursery: trio.Nursery) -> None:
        self._parts = parts
        self._nursery = nursery
        self._slot = CreationSlot()
        self._operations = Operations()
        self._sessions = Sessions(self._new_session)

    def _new_session(self, peer: PeerCredentials) -> Session:
        parts = self._parts
        writers = Participants(hub=parts.writers, limits=parts.limits.writer, log=parts.log)
        trace = Trace(name=CREATION, faults=parts.faults)
        recorder = Recorder(
            parts.traces,
            parts.log,
            host=parts.host.machine(),
            requester=requester_of(peer.pid, peer.uid),
        )
        return Session(uid=peer.uid, participants=writers, trace=trace, recorder=recorder)

    def _session(self, caller: Caller, key: str) -> Session:
        return self._sessions.find(key, caller.credentials.uid)

    def _begin(self, session: Session, call: Call, work: Callable[[], Awaitable[Hresult]]) -> str:
        return session.begin(call, work, self._operations, self._nursery).key

    async def _end(self, session: Session, why: str) -> None:
        await ending.end(
            session,
            why,
            parts=self._parts,
            slot=self._slot,
            sessions=self._sessions,
            operations=self._operations,
        )

    async def end_all(self, why: str) -> None:
        """End every session, all at once."""
        async with trio.open_nursery() as nursery:
            for session in self._sessions.all():
                nursery.start_soon(self._end, session, why)

    # -- the object and its operations -------------------------------------------------------

    async def open(self, caller: Caller) -> str:
        """Open a session that ends with the caller's connection."""
        session = self._sessions.open(caller.credentials)

        async def gone() -> None:
            # What the end brings may take longer than the connection's own end may.
            self._nursery.start_soon(self._end, session, "requester gone")

        caller.on_close(gone)
        return session.key

    async def release(self, caller: Caller, session: str) -> None:
        """Release; returns when everything that it brings is done. Again: nothing."""
        found = self._sessions.any(session, caller.credentials.uid)
        if found is not None:
            await self._end(found, "release")

    async def wait(
        self, caller: Caller, operation: str, timeout_ms: int | None
    ) -> OperationStatus:
        """Wait for an operation."""
        found = self._operations.find(operation, caller.credentials.uid)
        return await found.wait(timeout_ms)

    async def query_status(self, caller: Caller, operation: str) -> OperationStatus:
        """Return how an operation stands."""
        return self._operations.find(operation, caller.credentials.uid).status

    async def cancel(self, caller: Caller, operation: str) -> OperationStatus:
        """Cancel an operation; returns when it has been undone."""
        return await self._operations.find(operation, caller.credentials.uid).cancel()

    # -- set-up ------------------------------------------------------------------------------

    async def initialize_for_backup(
        self, caller: Caller, session: str, document: str | None
    ) -> None:
        """Begin, with a new document or with a transportable set's."""
        found = self._session(caller, session)
        call = Call.INITIALIZE_WITH_DOCUMENT if document else Call.INITIALIZE
        async with found.calling(call):
            if document:
                found.document = BackupComponentsDocument.parse(document)

    async def set_context(self, caller: Caller, session: str, context: int) -> None:
        """Set the context."""
        found = self._session(caller, session)
        found.check(Call.SET_CONTEXT)
        mask = checked_context(context)
        about = f"0x{mask:08x}"
        async with found.calling(Call.SET_CONTEXT, about, without_writers=not has_writers(mask)):
            found.context = mask

    async def set_backup_state(
        self,
        caller: Caller,
        session: str,
        select_components: bool,
        bootable: bool,
        backup_type: BackupType,
        partial_files: bool,
    ) -> None:
        """Write the state into the document."""
        found = self._session(caller, session)
        async with found.calling(Call.SET_BACKUP_STATE):
            found.document.set_backup_state(
                BackupState(
                    select_components=select_components,
                    bootable_system_state=bootable,
                    backup_type=backup_type,
                    partial_file_support=partial_files,
                )
            )

    async def gather_writer_metadata(self, caller: Caller, session: str) -> str:
        """Identify to all writers."""
        found = self._session(caller, session)

        async def work() -> Hresult:
            async with found.trace.step(CreationStep.IDENTIFY):
                await found.participants.identify()
            return _DONE

        return self._begin(found, Call.GATHER_WRITER_METADATA, work)

    async def writer_metadata(self, caller: Caller, session: str) -> list[WriterMetadata]:
        """Return what was gathered."""
        found = self._session(caller, session)
        found.check(Call.GET_WRITER_METADATA)
        return found.participants.metadata()

    async def add_component(
        self,
        caller: Caller,
        session: str,
        instance_id: WriterInstanceId,
        writer_id: WriterId,
        component_type: ComponentType,
        logical_path: str | None,
        component_name: str,
    ) -> None:
        """Include a component explicitly."""
        found = self._session(caller, session)
        about = component_name if logical_path is None else f"{logical_path}\\{component_name}"
        async with found.calling(Call.ADD_COMPONENT, about):
            name = components.Name(
                instance_id=instance_id,
                writer_id=writer_id,
                component_type=component_type,
                logical_path=logical_path,
                component_name=component_name,
            )
            components.add(found.document, found.participants, name)

    # -- creation ----------------------------------------------------------------------------

    async def start_snapshot_set(self, caller: Caller, session: str) -> SnapshotSetId:
        """Open a set and take the creation slot; no provider is told."""
        found = self._session(caller, session)
        async with found.calling(Call.START_SNAPSHOT_SET):
            context = int(creation_context(found.context))
            set_id = SnapshotSetId(uuid4())
            try:
                async with found.trace.step(CreationStep.START_SNAPSHOT_SET):
                    self._slot.take(found.key)
                    found.open_set = OpenSet(set_id=set_id, context=context)
            except BaseException:
                ending.drop_open_set(found, self._slot)
                raise
            found.document.snapshot_set_id = set_id
            found.trace.set_id = str(set_id)
            keep("creation", set_id, context)
            return set_id

    async def add_to_snapshot_set(
        self, caller: Caller, session: str, volume: str, provider: ProviderId | None
    ) -> SnapshotId:
        """Add a volume to the set."""
        found = self._session(caller, session)
        async with found.calling(Call.ADD_TO_SNAPSHOT_SET, volume):
            assert found.open_set is not None, "the state says that the set is open"
            return await openset.add_volume(
                self._parts, found.open_set, volume, provider, found.trace
            )

    async def is_volume_supported(
        self, caller: Caller, session: str, volume: str, provider: ProviderId | None
    ) -> bool:
        """Tell whether somebody would copy the volume under the session's context."""
        found = self._session(caller, session)
        found.check(Call.IS_VOLUME_SUPPORTED)
        known = await self._parts.host.volume(volume)
        try:
            await self._parts.host.check_can_hold(known)
            await openset.choose(self._parts, provider, found.context, known)
        except (VolumeNotSupported, VolumeNotSupportedByProvider):
            return False
        return True

    async def prepare_for_backup(self, caller: Caller, session: str) -> str:
        """PrepareForBackup to the writers."""
        found = self._session(caller, session)

        async def work() -> Hresult:
            async with found.trace.step(CreationStep.PREPARE_BACKUP):
                await found.participants.prepare_backup(found.occasion())
            return _DONE

        return self._begin(found, Call.PREPARE_FOR_BACKUP, work)

    async def do_snapshot_set(self, caller: Caller, session: str) -> str:
        """Create the set."""
        found = self._session(caller, session)
        found.check(Call.DO_SNAPSHOT_SET)
        assert found.open_set is not None, "the state says that the set is open"
        if not found.open_set.copies and not has_writers(found.context):
            raise BadState("DoSnapshotSet: the set is empty", hint="call AddToSnapshotSet first")
        making = Creation(
            self._parts,
            found.open_set,
            found.participants,
            found.document,
            found.key,
            found.trace,
        )

        async def work() -> Hresult:
            try:
                result = await making.run()
                found.created = making.open_set.set_id
                return result
            finally:
                ending.drop_open_set(found, self._slot)

        return self._begin(found, Call.DO_SNAPSHOT_SET, work)

    async def gather_writer_status(self, caller: Caller, session: str) -> str:
        """Note how the writers stand."""
        found = self._session(caller, session)

        async def work() -> Hresult:
            found.statuses = found.participants.statuses()
            return _DONE

        return self._begin(found, Call.GATHER_WRITER_STATUS, work)

    async def writer_status(self, caller: Caller, session: str) -> list[WriterStatus]:
        """Return the states gathered last."""
        found = self._session(caller, session)
        found.check(Call.GET_WRITER_STATUS)
        return found.statuses

    async def save_as_xml(self, caller: Caller, session: str) -> str:
        """Return the document."""
        found = self._session(caller, session)
        async with found.calling(Call.SAVE_AS_XML):
            return found.document.to_xml()

    # -- using, importing, ending ------------------------------------------------------------

    async def import_snapshots(self, caller: Caller, session: str) -> str:
        """Import the document's set."""
        found = self._session(caller, session)

        async def work() -> Hresult:
            return await importing.import_snapshots(self._parts, found.document, found.key)

        return self._begin(found, Call.IMPORT_SNAPSHOTS, work)

    async def get_snapshot_properties(
        self, caller: Caller, session: str, snapshot_id: SnapshotId
    ) -> SnapshotProperties:
        """Return a copy's properties."""
        self._session(caller, session).check(Call.GET_SNAPSHOT_PROPERTIES)
        _, copy = copies.find_copy(self._parts.catalog, snapshot_id, "GetSnapshotProperties")
        return copy.properties

    async def get_snapshot_luns(
        self, caller: Caller, session: str, snapshot_id: SnapshotId
    ) -> list[LunInformation]:
        """Return a copy's LUNs."""
        self._session(caller, session).check(Call.GET_SNAPSHOT_PROPERTIES)
        _, copy = copies.find_copy(self._parts.catalog, snapshot_id, "GetSnapshotLuns")
        return [mapping.destination for mapping in copy.luns]

    async def query(self, caller: Caller, session: str) -> list[SnapshotProperties]:
        """Return the copies of the context."""
        found = self._session(caller, session)
        found.check(Call.QUERY)
        return copies.visible(self._parts.catalog, found.context)

    async def query_providers(self, caller: Caller, session: str) -> list[ProviderProperties]:
        """Return the registered providers."""
        self._session(caller, session).check(Call.QUERY_PROVIDERS)
        return [provider.stored.properties for provider in self._parts.providers.all()]

    async def delete_snapshots(
        self,
        caller: Caller,
        session: str,
        source_id: SnapshotId,
        source_type: ObjectType,
        force: bool,
    ) -> Deleted:
        """Delete a copy or a set."""
        found = self._session(caller, session)
        is_set = source_type is ObjectType.SNAPSHOT_SET
        async with found.calling(Call.DELETE_SNAPSHOTS, braced(source_id)) as request:
            keep("deletion", SnapshotSetId(source_id) if is_set else None)
            deleted = await deletion.delete_snapshots(
                self._parts, source_id, source_type, force=force
            )
            if deleted.hresult:
                request.fail(Hresult(deleted.hresult), deleted.fact)
            return deleted

    async def break_snapshot_set(
        self, caller: Caller, session: str, snapshot_set_id: SnapshotSetId
    ) -> None:
        """Break a set."""
        found = self._session(caller, session)
        async with found.calling(Call.BREAK_SNAPSHOT_SET, braced(snapshot_set_id)):
            keep("break", snapshot_set_id)
            document = found.document
            own = document.snapshot_set_id if document.is_transportable else None
            await breaking.break_snapshot_set(self._parts, snapshot_set_id, own)

    async def break_snapshot_set_ex(
        self,
        caller: Caller,
        session: str,
        snapshot_set_id: SnapshotSetId,
        flags: HardwareOptions,
    ) -> str:
        """Break a set with options."""
        found = self._session(caller, session)
        document = found.document
        own = document.snapshot_set_id if document.is_transportable else None

        async def work() -> Hresult:
            keep("break", snapshot_set_id)
            await breaking.break_snapshot_set_ex(self._parts, snapshot_set_id, own, flags)
            return _DONE

        return self._begin(found, Call.BREAK_SNAPSHOT_SET_EX, work)

    async def expose_snapshot(
        self,
        caller: Caller,
        session: str,
        snapshot_id: SnapshotId,
        path_from_root: str | None,
        attributes: Attribute,
        expose: str | None,
    ) -> str:
        """Expose a copy."""
        found = self._session(caller, session)
        async with found.calling(Call.EXPOSE_SNAPSHOT):
            return await exposing.expose(
                self._parts, snapshot_id, path_from_root, attributes, expose
            )

    async def unexpose_snapshot(
        self, caller: Caller, session: str, snapshot_id: SnapshotId
    ) -> None:
        """Take an exposure back."""
        found = self._session(caller, session)
        async with found.calling(Call.UNEXPOSE_SNAPSHOT):
            await exposing.unexpose(self._parts, snapshot_id)

    async def set_backup_succeeded(
        self,
        caller: Caller,
        session: str,
        instance_id: WriterInstanceId,
        writer_id: WriterId,
        component_type: ComponentType,
        logical_path: str | None,
        component_name: str,
        succeeded: bool,
    ) -> None:
        """Record how a component's backup went."""
        found = self._session(caller, session)
        async with found.calling(Call.SET_BACKUP_SUCCEEDED):
            name = components.Name(
                instance_id=instance_id,
                writer_id=writer_id,
                component_type=component_type,
                logical_path=logical_path,
                component_name=component_name,
            )
            components.set_succeeded(found.document, name, succeeded=succeeded)

    async def backup_complete(self, caller: Caller, session: str) -> str:
        """BackupComplete to the writers."""
        found = self._session(caller, session)

        async def work() -> Hresult:
            async with found.trace.step(CreationStep.BACKUP_COMPLETE):
                await found.participants.backup_complete(found.occasion())
            return _DONE

        return self._begin(found, Call.BACKUP_COMPLETE, work)

    async def abort_backup(self, caller: Caller, session: str) -> None:
        """End the backup."""
        await ending.abort(self._session(caller, session), self._slot)
