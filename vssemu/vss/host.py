"""The host as the VSS service sees it: volumes, the hold, arrival, device objects.

`host` implements HostPort on Linux; `service` and the conformance kit use it.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import Protocol
from uuid import UUID

from vssemu.vss.identity import LunId, SnapshotId, SnapshotSetId
from vssemu.vss.lun import Extent, Lun, LunInformation


class GptFlags(IntFlag):
    """Attribute bits of a basic-data partition, or of a file system on a whole LUN.

    Source: PARTITION_INFORMATION_GPT.
    """

    NONE = 0
    READ_ONLY = 1 << 60
    SHADOW_COPY = 1 << 61
    HIDDEN = 1 << 62
    NO_DRIVE_LETTER = 1 << 63


SHADOW_FLAGS = (
    GptFlags.READ_ONLY | GptFlags.SHADOW_COPY | GptFlags.HIDDEN | GptFlags.NO_DRIVE_LETTER
)
"""What the service sets on the source LUNs so that their copies come up quietly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LunExtents:
    """Where a volume lies on one LUN."""

    lun: Lun
    lun_id: LunId
    extents: tuple[Extent, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume:
    r"""A volume of this host.

    guid: of its partition, or its LUN's own when it takes all of it.
    name: `\\\\?\\Volume{guid}\\`. letters and mount_points: where it is mounted, e.g. `F:\\`
    and `/mnt/F`. filesystem: `ext4`, ... or None. size: bytes.
    flags: a mask of GptFlags; a plain number, because bit 63 fits into no signed word.
    """

    guid: UUID
    name: str
    letters: tuple[str, ...]
    mount_points: tuple[str, ...]
    filesystem: str | None
    label: str | None
    size: int
    flags: int
    luns: tuple[LunExtents, ...]


class DiskStatus(Enum):
    """How a LUN stands on this host."""

    ONLINE = "online"
    HIDDEN = "hidden"
    IMPORT_FAILED = "import-failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """A LUN on this host. size: bytes."""

    lun: Lun
    lun_id: LunId
    size: int
    status: DiskStatus
    disk_guid: UUID | None
    volumes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyToSurface:
    """A shadow copy whose LUNs are on this host: which volume of them is to be shown."""

    snapshot_id: SnapshotId
    luns: tuple[LunInformation, ...]
    extents: tuple[tuple[Extent, ...], ...]
    properties_json: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceObject:
    """A shadow copy's device object: its number and its path, without a trailing slash."""

    number: int
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldVolume:
    """When a volume was frozen and thawed, by trio's clock; None: never, or not by the hold."""

    volume: str
    frozen: float | None
    thawed: float | None


@dataclass(kw_only=True, slots=True)
class Held:
    """A hold.

    seconds: how long writes were held, from the first freeze to the last thaw; 0.0 until its
    end. began: when the first freeze began, by trio's clock; None before. windows: each
    volume's part of it, known at its end.
    """

    volumes: tuple[str, ...]
    seconds: float = 0.0
    began: float | None = None
    windows: tuple[HeldVolume, ...] = ()


class HostPort(Protocol):
    """What the service asks of its host. Volumes are named by their `Volume.name`.

    Failures are VssErrors; an OSError never leaves the host room.
    """

    def machine(self) -> str:
        """Return the machine's name."""
        ...

    async def volumes(self) -> Sequence[Volume]:
        """Return the volumes of this host, shadow copies' ones not among them."""
        ...

    async def volume(self, name: str) -> Volume:
        """Return the volume that a letter, a volume GUID path or a mount point names.

        Raises ObjectNotFound, also for a name without its trailing separator.
        """
        ...

    async def check_can_hold(self, volume: Volume) -> None:
        """Raise VolumeNotSupported unless the volume's file system can be held safely.

        Refused: a file system that fails the FIFREEZE probe; a volume that carries the
        service's own catalog, journal, log or pool.
        """
        ...

    async def set_flags(self, volumes: Sequence[Volume], flags: GptFlags) -> None:
        """Replace the attribute bits 60 to 63 of the volumes."""
        ...

    def hold(self, volumes: Sequence[Volume], limit: float) -> AbstractAsyncContextManager[Held]:
        """Hold all writes to the volumes while the block runs, for `limit` seconds at most.

        Raises FlushWritesTimeout, HoldWritesTimeout. Whatever happens, even to this process,
        no volume stays frozen longer than `limit`.
        """
        ...

    async def rescan(self) -> None:
        """Take note of LUNs that came or went."""
        ...

    async def wait_arrival(
        self, expected: Sequence[LunInformation], limit: float
    ) -> Sequence[Lun]:
        """Return the LUNs that arrived of the expected ones, at once when all are there.

        One that was removed and is still unmasked to this host comes back, and with it the
        device objects that were not retired.
        """
        ...

    async def give_new_identity(self, luns: Sequence[Lun]) -> None:
        """Rewrite disk and partition GUIDs of arrived copies so that nothing is there twice."""
        ...

    async def surface(self, copy: CopyToSurface) -> DeviceObject:
        """Make the copy's device object. Its tree is mounted at the first look-up.

        Raises MissingVolume when no volume on the LUNs has the extents, VolumeNotSupported for
        one in several parts.
        """
        ...

    async def update_properties(self, snapshot_id: SnapshotId, properties_json: str) -> None:
        """Replace what the Properties view shows of a copy."""
        ...

    async def retire(self, snapshot_id: SnapshotId) -> None:
        """Take the copy's names, mounts and devices away for good; idempotent."""
        ...

    async def release(self, snapshot_id: SnapshotId) -> None:
        """Turn a copy into a plain read-only volume of this host; its device object stays."""
        ...

    async def make_read_write(self, snapshot_id: SnapshotId) -> None:
        """Make the volume of a released copy writable; its device object ends."""
        ...

    async def remove(self, luns: Sequence[LunInformation]) -> None:
        """Detach LUNs from this host, dismounting what is on them; idempotent."""
        ...

    async def expose(self, snapshot_id: SnapshotId, target: str) -> str:
        """Mount a copy read-only at a letter (`X:`) or an empty folder; return its name."""
        ...

    async def unexpose(self, snapshot_id: SnapshotId) -> None:
        """Undo `expose`. Raises ObjectNotFound when the copy is not exposed."""
        ...

    async def mark_import_failed(
        self, luns: Sequence[LunInformation], set_id: SnapshotSetId
    ) -> None:
        """List LUNs of a failed import under the set's id until the clean-up verb."""
        ...
