"""A writer that records what happens to it, and events as a service sends them."""

import uuid
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from vssemu.vss.documents.bcd import BackupComponentsDocument, BackupState
from vssemu.vss.documents.writer import ComponentInfo, FileSpec
from vssemu.vss.enums import BackupType, ComponentType
from vssemu.vss.identity import WriterId, WriterInstanceId
from vssemu.vss.writer import EventKind, SnapshotVolume, WriterEvent, WriterFailure
from vssemu.writers.base import Writer
from vssemu.writers.dispatch import Dispatcher, Outcome

WRITER_ID = WriterId(UUID("11111111-2222-4333-8444-555555555555"))
INSTANCE_ID = WriterInstanceId(UUID("aaaaaaaa-2222-4333-8444-555555555555"))
SET_ID = "99999999-2222-4333-8444-555555555555"


class RecordingWriter(Writer):
    writer_id = WRITER_ID
    name = "Recording Writer"

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.answers: dict[str, Any] = {}

    def _note(self, name: Any) -> Any:
        self.seen.append(name)
        answer = self.answers.get(name)
        return answer() if callable(answer) else answer

    def on_start(self) -> Any:
        return self._note("start")

    def on_stop(self) -> Any:
        return self._note("stop")

    def on_identify(self, metadata: Any) -> Any:
        metadata.add_component(
            ComponentInfo(
                component_type=ComponentType.FILEGROUP,
                name="things",
                selectable=True,
                file_sets=(FileSpec(path="F:\\things", filespec="*"),),
            )
        )
        return self._note("identify")

    def on_prepare_snapshot(self) -> Any:
        return self._note("prepare_snapshot")

    def on_freeze(self) -> Any:
        return self._note("freeze")

    def on_thaw(self) -> Any:
        return self._note("thaw")

    def on_abort(self) -> Any:
        return self._note("abort")


def event(kind: EventKind, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "event_id": uuid.uuid4().hex,
        "kind": kind,
        "instance_id": INSTANCE_ID,
        "set_id": SET_ID,
        "volumes": (SnapshotVolume(volume="F:\\"),),
        "select_components": True,
        "backup_type": BackupType.FULL,
    }
    return WriterEvent(**(values | changes))


def document(
    *names: Any, backup_type: Any = BackupType.FULL, component_type: Any = ComponentType.FILEGROUP
) -> Any:
    """The document of a backup with components of the one writer."""
    made = BackupComponentsDocument.new()
    made.set_backup_state(
        BackupState(select_components=True, bootable_system_state=False, backup_type=backup_type)
    )
    for name in names:
        made.add_component(
            writer_id=WRITER_ID,
            instance_id=INSTANCE_ID,
            component_type=component_type,
            logical_path=None,
            component_name=name,
        )
    return made


@dataclass
class Backup:
    """Plays the service's side of one backup for a dispatcher, document included."""

    dispatcher: Dispatcher
    document: BackupComponentsDocument
    backup_type: BackupType = BackupType.FULL
    volumes: tuple[SnapshotVolume, ...] = (SnapshotVolume(volume="F:\\"),)
    outcomes: list[Outcome] = field(default_factory=list)

    async def send(self, kind: EventKind) -> Any:
        carries = kind in {
            EventKind.PREPARE_BACKUP,
            EventKind.POST_SNAPSHOT,
            EventKind.BACKUP_COMPLETE,
        }
        outcome = await self.dispatcher.deliver(
            event(
                kind,
                document=self.document.writer_part(INSTANCE_ID) if carries else None,
                backup_type=self.backup_type,
                volumes=self.volumes,
            )
        )
        if outcome.document is not None and kind is not EventKind.IDENTIFY:
            self.document.merge_writer_part(
                INSTANCE_ID, outcome.document, read_only=kind is EventKind.BACKUP_COMPLETE
            )
        self.outcomes.append(outcome)
        return outcome


def failure_of(outcome: Outcome) -> WriterFailure:
    """The failure of an outcome that has one."""
    assert outcome.failure is not None, outcome
    return outcome.failure
