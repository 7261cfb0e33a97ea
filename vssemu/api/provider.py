"""io.vssemu.Provider: a hardware provider out of process.

The provider listens (systemd socket activation), the service connects, several times when
calls overlap. A failure is the error Failed with a provider code. Shapes and duties:
`vssemu.vss.provider`.
"""

from vssemu.rpc.interface import Declared, Interface
from vssemu.vss.enums import LunStateChange
from vssemu.vss.identity import SnapshotId, SnapshotSetId
from vssemu.vss.lun import Lun, LunInformation
from vssemu.vss.provider import HostIdentity, Supported

provider = Interface("io.vssemu.Provider", __doc__)


@provider.method()
def on_load(host: HostIdentity, config: dict[str, str]) -> None:
    """Initialise."""
    raise Declared


@provider.method(returns="idle")
def on_unload(force: bool) -> bool:
    """Settle pending work; false only when not forced."""
    raise Declared


@provider.method()
def are_luns_supported(context: int, luns: list[Lun]) -> Supported:
    """Tell whether every LUN can be copied under the context."""
    raise Declared


@provider.method(returns="luns")
def begin_prepare_snapshot(
    set_id: SnapshotSetId, snapshot_id: SnapshotId, context: int, luns: list[Lun]
) -> list[Lun]:
    """Start preparing the copy of one volume; return quickly."""
    raise Declared


@provider.method()
def end_prepare_snapshots(set_id: SnapshotSetId) -> None:
    """Wait until all preparation is done."""
    raise Declared


@provider.method()
def pre_commit_snapshots(set_id: SnapshotSetId) -> None:
    """Make the last preparation; writers are frozen."""
    raise Declared


@provider.method()
def commit_snapshots(set_id: SnapshotSetId) -> None:
    """Take the point in time; all writes are held."""
    raise Declared


@provider.method()
def post_commit_snapshots(set_id: SnapshotSetId, count: int) -> None:
    """Clean up what had to wait; writes are released, writers still frozen."""
    raise Declared


@provider.method()
def pre_final_commit_snapshots(set_id: SnapshotSetId) -> None:
    """Let writers change the copies."""
    raise Declared


@provider.method()
def post_final_commit_snapshots(set_id: SnapshotSetId) -> None:
    """Take note that the copies are read-only until broken."""
    raise Declared


@provider.method()
def abort_snapshots(set_id: SnapshotSetId) -> None:
    """Drop the set's copies and free everything."""
    raise Declared


@provider.method(returns="luns")
def get_target_luns(sources: list[Lun]) -> list[LunInformation]:
    """Return the identity of each new LUN, in the order of the sources."""
    raise Declared


@provider.method()
def locate_luns(luns: list[LunInformation]) -> None:
    """Unmask the copies' LUNs to this host, without a rescan."""
    raise Declared


@provider.method()
def fill_in_lun_info(lun: Lun) -> Supported:
    """Mend the record of an arrived LUN; unsupported for a foreign one."""
    raise Declared


@provider.method()
def on_lun_empty(lun: Lun) -> None:
    """The last copy on the LUN was deleted: reclaim it."""
    raise Declared


@provider.method()
def on_lun_state_change(
    snapshots: list[LunInformation], originals: list[LunInformation], flags: LunStateChange
) -> None:
    """Take note of, or carry out, a change of the LUNs' state."""
    raise Declared


@provider.method(more=True, returns="percent")
def resync_luns(sources: list[LunInformation], targets: list[LunInformation]) -> int:
    """Copy sources over targets inside the array; stream the progress, 0 to 100."""
    raise Declared
