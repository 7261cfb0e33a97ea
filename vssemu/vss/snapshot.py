"""Properties of a shadow copy and of a provider, as requesters see them.

Source: VSS_SNAPSHOT_PROP, VSS_PROVIDER_PROP.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from vssemu.vss.attributes import Attribute
from vssemu.vss.enums import ProviderType, SnapshotState
from vssemu.vss.identity import ProviderId, SnapshotId, SnapshotSetId
from vssemu.vss.lun import Extent, LunInformation

MAXIMUM_VOLUMES = 64
"""Volumes in one set. Source: IVssBackupComponents::AddToSnapshotSet."""

_FILETIME_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotProperties:
    """VSS_SNAPSHOT_PROP.

    snapshots_count: volumes in the set at its creation. device_object: no trailing slash;
    empty while the copy is not on this host. creation_timestamp: 100 ns units since
    1601-01-01 UTC.
    """

    snapshot_id: SnapshotId
    snapshot_set_id: SnapshotSetId
    snapshots_count: int
    device_object: str
    original_volume_name: str
    originating_machine: str
    service_machine: str
    exposed_name: str | None = None
    exposed_path: str | None = None
    provider_id: ProviderId
    attributes: Attribute
    creation_timestamp: int
    status: SnapshotState = SnapshotState.CREATED


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderProperties:
    """VSS_PROVIDER_PROP."""

    provider_id: ProviderId
    name: str
    type: ProviderType
    version: str
    version_id: UUID
    class_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class LunMapping:
    """One LUN under a copied volume: the original, its copy, and where the volume lies."""

    source: LunInformation
    destination: LunInformation
    extents: tuple[Extent, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotDescription:
    """One shadow copy of a transportable set, as the document carries it.

    original_names: other names of the original volume (drive letter, mount points) are not
    in the document; the requester's own records (the DiskShadow manifest) hold them.
    """

    properties: SnapshotProperties
    luns: tuple[LunMapping, ...] = field(default=())


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotSetDescription:
    """A transportable set: enough to import it anywhere the array reaches."""

    snapshot_set_id: SnapshotSetId
    context: int
    snapshots: tuple[SnapshotDescription, ...]


def filetime(moment: datetime) -> int:
    """Return a moment (time zone aware) in 100 ns units since 1601-01-01 UTC."""
    return (moment - _FILETIME_EPOCH) // timedelta(microseconds=1) * 10


def from_filetime(ticks: int) -> datetime:
    """Return the moment (UTC) of 100 ns units since 1601-01-01 UTC."""
    return _FILETIME_EPOCH + timedelta(microseconds=ticks // 10)
