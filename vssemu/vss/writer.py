"""What the service tells writers and what writers answer.

The base class that developers subclass is `vssemu.writers.Writer`; this module holds the
facts that travel. Source: CVssWriter::Initialize and its On... callbacks.
"""

from dataclasses import dataclass
from enum import Enum

from vssemu.vss.enums import ApplicationLevel, BackupType, SourceType, UsageType, WriterState
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import WriterId, WriterInstanceId

FREEZE_LIMIT_MS = 60_000
"""Freeze to Thaw; a writer may ask for less. Source: CVssWriter::Initialize."""


class EventKind(Enum):
    """The writer events of a backup, named after the CVssWriter callbacks without On."""

    IDENTIFY = "Identify"
    PREPARE_BACKUP = "PrepareBackup"
    PREPARE_SNAPSHOT = "PrepareSnapshot"
    FREEZE = "Freeze"
    THAW = "Thaw"
    POST_SNAPSHOT = "PostSnapshot"
    ABORT = "Abort"
    BACKUP_COMPLETE = "BackupComplete"
    BACKUP_SHUTDOWN = "BackupShutdown"


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterIdentity:
    """What a writer says of itself when it subscribes. freeze_limit_ms: at most 60,000."""

    writer_id: WriterId
    name: str
    instance_name: str | None = None
    usage: UsageType = UsageType.USERDATA
    source: SourceType = SourceType.OTHER
    level: ApplicationLevel = ApplicationLevel.FRONT_END
    freeze_limit_ms: int = FREEZE_LIMIT_MS


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotVolume:
    """A volume of the set.

    device_name: the copy's device object, set only in PostSnapshot and only for a copy that
    is on this host.
    """

    volume: str
    device_name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterEvent:
    """One event for one writer instance.

    event_id: names the event in the answer; empty in the first event of a subscription,
    which only tells the writer its instance id and wants no answer. set_id: None where
    CVssWriter sees NULL. document: the writer's part of the Backup Components Document, None
    when components are not selected or none of the writer's was added. deadline_ms: time the
    writer has to answer.
    """

    event_id: str
    kind: EventKind
    instance_id: WriterInstanceId
    set_id: str | None = None
    context: int = 0
    volumes: tuple[SnapshotVolume, ...] = ()
    deadline_ms: int = FREEZE_LIMIT_MS
    document: str | None = None
    select_components: bool = False
    bootable_system_state: bool = False
    backup_type: BackupType = BackupType.UNDEFINED
    partial_file_support: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterFailure:
    """What SetWriterFailure(Ex) sets; hresult is one of VSS_E_WRITERERROR_*."""

    hresult: Hresult
    application_hresult: int = 0
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterStatus:
    """One row of GatherWriterStatus: who, VSS_WRITER_STATE and the failure code.

    Source: IVssBackupComponents::GetWriterStatus, IVssBackupComponentsEx3::GetWriterStatusEx.
    """

    instance_id: WriterInstanceId
    writer_id: WriterId
    name: str
    state: WriterState
    failure: Hresult = Hresult.S_OK
    application_failure: int = 0
    message: str = ""


WRITER_FAILURES = frozenset(
    {
        Hresult.VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT,
        Hresult.VSS_E_WRITERERROR_OUTOFRESOURCES,
        Hresult.VSS_E_WRITERERROR_TIMEOUT,
        Hresult.VSS_E_WRITERERROR_RETRYABLE,
        Hresult.VSS_E_WRITERERROR_NONRETRYABLE,
        Hresult.VSS_E_WRITERERROR_PARTIAL_FAILURE,
    }
)
"""The codes a writer may set. Source: CVssWriter::SetWriterFailure(Ex)."""
