r"""io.vssemu.Requester: IVssBackupComponents and its extensions, over varlink.

The one table of requester methods: the service implements it, the blocking and the trio
client are made from it. Names are those of the COM methods in snake_case. `scoped` methods
carry the session that `open` returned; a session ends with the connection that opened it.
Source: IVssBackupComponents, IVssBackupComponentsEx, ...Ex2, ...Ex3; IVssAsync.
"""

from dataclasses import dataclass

from vssemu.rpc.interface import Declared, Interface
from vssemu.vss.attributes import Attribute
from vssemu.vss.enums import BackupType, ComponentType, HardwareOptions, ObjectType
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import (
    ProviderId,
    SnapshotId,
    SnapshotSetId,
    WriterId,
    WriterInstanceId,
)
from vssemu.vss.lun import LunInformation
from vssemu.vss.snapshot import ProviderProperties, SnapshotProperties
from vssemu.vss.writer import WriterStatus

requester = Interface("io.vssemu.Requester", __doc__, scope=("session", str))


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterMetadata:
    """One gathered writer: its instance and its Writer Metadata Document."""

    instance_id: WriterInstanceId
    writer_id: WriterId
    name: str
    document: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Deleted:
    """Result of DeleteSnapshots. hresult: S_OK, or why it stopped at first_undeleted."""

    deleted: int
    first_undeleted: SnapshotId | None = None
    hresult: int = Hresult.S_OK
    fact: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class OperationStatus:
    """How an asynchronous operation stands.

    hresult: VSS_S_ASYNC_PENDING, _FINISHED or _CANCELLED, or the success or error code that
    the operation ended with. fact, hint, item: of an error.
    """

    hresult: int
    fact: str = ""
    hint: str | None = None
    item: str | None = None


@requester.method(returns="session", scoped=False)
def open() -> str:  # noqa: A001  (the pinned name of the method)
    """Open a session, that is an IVssBackupComponents object, and return its name."""
    raise Declared


@requester.method()
def release() -> None:
    """Release the object: auto-release copies that it holds end here, writers are told."""
    raise Declared


@requester.method(scoped=False)
def wait(operation: str, timeout_ms: int | None = None) -> OperationStatus:
    """Wait for an operation (IVssAsync::Wait); None waits for ever."""
    raise Declared


@requester.method(scoped=False)
def query_status(operation: str) -> OperationStatus:
    """Return how an operation stands (IVssAsync::QueryStatus)."""
    raise Declared


@requester.method(scoped=False)
def cancel(operation: str) -> OperationStatus:
    """Cancel an operation (IVssAsync::Cancel): S_OK, or how it stood already."""
    raise Declared


@requester.method()
def initialize_for_backup(document: str | None = None) -> None:
    """Begin. document: the Backup Components Document of a transportable set to import."""
    raise Declared


@requester.method()
def set_context(context: int) -> None:
    """Set the context, once, and before the calls that depend on it."""
    raise Declared


@requester.method()
def set_backup_state(
    select_components: bool,
    bootable: bool,
    backup_type: BackupType,
    partial_files: bool = False,
) -> None:
    """Say what kind of backup this is; writers can read it."""
    raise Declared


@requester.method(operation=True)
def gather_writer_metadata() -> None:
    """Ask every writer to identify itself."""
    raise Declared


@requester.method(returns="writers")
def writer_metadata() -> list[WriterMetadata]:
    """Return what was gathered, in the order of GetWriterMetadata."""
    raise Declared


@requester.method()
def add_component(
    instance_id: WriterInstanceId,
    writer_id: WriterId,
    component_type: ComponentType,
    logical_path: str | None,
    component_name: str,
) -> None:
    """Include a component explicitly."""
    raise Declared


@requester.method(returns="snapshot_set_id")
def start_snapshot_set() -> SnapshotSetId:
    """Open a new, empty set and take the host's one creation slot."""
    raise Declared


@requester.method(returns="snapshot_id")
def add_to_snapshot_set(volume: str, provider: ProviderId | None = None) -> SnapshotId:
    """Add a volume (trailing separator required); None lets VSS choose the provider."""
    raise Declared


@requester.method(returns="supported")
def is_volume_supported(volume: str, provider: ProviderId | None = None) -> bool:
    """Tell whether a shadow copy of the volume is possible in principle."""
    raise Declared


@requester.method(operation=True)
def prepare_for_backup() -> None:
    """Hand the document to the writers and let them prepare."""
    raise Declared


@requester.method(operation=True)
def do_snapshot_set() -> None:
    """Create all shadow copies of the set at one instant."""
    raise Declared


@requester.method(operation=True)
def gather_writer_status() -> None:
    """Ask for the state of every writer that identified itself."""
    raise Declared


@requester.method(returns="status")
def writer_status() -> list[WriterStatus]:
    """Return the states gathered last."""
    raise Declared


@requester.method(returns="document")
def save_as_xml() -> str:
    """Return the Backup Components Document."""
    raise Declared


@requester.method(operation=True)
def import_snapshots() -> None:
    """Import the transportable set of the document given to initialize_for_backup."""
    raise Declared


@requester.method(returns="properties")
def get_snapshot_properties(snapshot_id: SnapshotId) -> SnapshotProperties:
    """Return VSS_SNAPSHOT_PROP of a created or imported copy."""
    raise Declared


@requester.method(returns="luns")
def get_snapshot_luns(snapshot_id: SnapshotId) -> list[LunInformation]:
    """Return the LUNs that a created or imported copy lies on; an extension of vssemu's."""
    raise Declared


@requester.method(returns="snapshots")
def query() -> list[SnapshotProperties]:
    """Return the completed copies of the context, all of them under VSS_CTX_ALL."""
    raise Declared


@requester.method(returns="providers")
def query_providers() -> list[ProviderProperties]:
    """Return the registered providers."""
    raise Declared


@requester.method()
def delete_snapshots(source_id: SnapshotId, source_type: ObjectType, force: bool) -> Deleted:
    """Delete a copy (SNAPSHOT) or a set (SNAPSHOT_SET), one by one, until one fails."""
    raise Declared


@requester.method()
def break_snapshot_set(snapshot_set_id: SnapshotSetId) -> None:
    """Let VSS forget an imported hardware set; its LUNs stay, read-only, as plain LUNs."""
    raise Declared


@requester.method(operation=True)
def break_snapshot_set_ex(snapshot_set_id: SnapshotSetId, flags: HardwareOptions) -> None:
    """Break a set as `break_snapshot_set` does, with options.

    MASK_LUNS goes alone: its LUNs leave this host, the array keeps the copies, and the
    document imports them again, here or elsewhere. MAKE_READ_WRITE: the volumes can be
    written, and their device objects end. REVERT_IDENTITY_ALL is not implemented (E_NOTIMPL).
    """
    raise Declared


@requester.method(returns="exposed")
def expose_snapshot(
    snapshot_id: SnapshotId,
    path_from_root: str | None,
    attributes: Attribute,
    expose: str | None,
) -> str:
    """Expose a persistent copy at a letter (`X:`) or an empty folder; return the name."""
    raise Declared


@requester.method()
def unexpose_snapshot(snapshot_id: SnapshotId) -> None:
    """Take the letter or folder of an exposed copy away."""
    raise Declared


@requester.method()
def set_backup_succeeded(
    instance_id: WriterInstanceId,
    writer_id: WriterId,
    component_type: ComponentType,
    logical_path: str | None,
    component_name: str,
    succeeded: bool,
) -> None:
    """Record whether an explicitly included component was backed up."""
    raise Declared


@requester.method(operation=True)
def backup_complete() -> None:
    """Tell the writers that the backup is complete; only now they may truncate logs."""
    raise Declared


@requester.method()
def abort_backup() -> None:
    """End the backup; writers get Abort. Without anything under way it does nothing."""
    raise Declared
