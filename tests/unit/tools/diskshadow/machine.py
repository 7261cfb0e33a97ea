"""The machine under the service in memory: volumes, writers, sets, and what is to fail."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from vssemu.vss.documents.writer import (
    ComponentInfo,
    FileSpec,
    RestoreInfo,
    WriterMetadata,
)
from vssemu.vss.enums import (
    ComponentType,
    RestoreMethod,
    SourceType,
    UsageType,
    WriterRestore,
    WriterState,
)
from vssemu.vss.errors import ObjectNotFound, VssError
from vssemu.vss.host import GptFlags, LunExtents, Volume
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import (
    LunId,
    SnapshotId,
    SnapshotSetId,
    WriterId,
    WriterInstanceId,
    volume_guid_name,
)
from vssemu.vss.lun import Extent, IdentifierType, Lun, LunInformation, StorageIdentifier
from vssemu.vss.snapshot import (
    SnapshotProperties,
)

F_GUID = UUID("2a3f4e5d-0000-0000-0000-100000000000")
G_GUID = UUID("2a3f4e5d-0000-0000-0000-200000000000")
STOCK = WriterId(UUID("d4e2b2f1-6b6f-4c70-8e2d-3f809b1c2d3e"))
STOCK_INSTANCE = WriterInstanceId(UUID("1b704fad-206c-4e1f-9f4f-402050b6c7d8"))
EXTENT = Extent(offset=1 << 20, length=1 << 30)


def lun_record(naa: str) -> LunInformation:
    """Return the record of a LUN with this NAA id (32 hex digits)."""
    return LunInformation(
        serial_number=naa,
        identifiers=(
            StorageIdentifier(
                code_set=1, type=IdentifierType.FCPH_NAME, identifier=bytes.fromhex(naa)
            ),
        ),
    )


def volume(guid: UUID, letter: str | None, naa: str, flags: int = 0) -> Volume:
    """Return a volume on a LUN of its own."""
    return Volume(
        guid=guid,
        name=volume_guid_name(guid),
        letters=(f"{letter}:\\",) if letter else (),
        mount_points=(f"/mnt/{letter}",) if letter else (),
        filesystem="ext4",
        label=None,
        size=1 << 30,
        flags=GptFlags(flags),
        luns=(
            LunExtents(
                lun=Lun(device_name="", information=lun_record(naa)),
                lun_id=LunId(f"naa.{naa}"),
                extents=(EXTENT,),
            ),
        ),
    )


def component(name: str, path: str, **more: Any) -> ComponentInfo:
    """Return a component with one file set."""
    return ComponentInfo(
        component_type=ComponentType.FILEGROUP,
        name=name,
        selectable=True,
        file_sets=(FileSpec(path=path, filespec="*", recursive=True),),
        **more,
    )


def writer(*components: ComponentInfo, name: str = "Stock Writer") -> WriterMetadata:
    """Return what a writer says of itself."""
    return WriterMetadata(
        writer_id=STOCK,
        instance_id=STOCK_INSTANCE,
        name=name,
        usage=UsageType.USERDATA,
        source=SourceType.OTHER,
        restore=RestoreInfo(
            method=RestoreMethod.RESTORE_IF_CAN_REPLACE, writer_restore=WriterRestore.ALWAYS
        ),
        components=components,
    )


@dataclass
class HeldSet:
    """A set of the machine. holder: the object whose end it does not outlive, or None."""

    copies: list[SnapshotProperties]
    luns: dict[SnapshotId, str]
    is_here: bool
    holder: object | None


@dataclass
class Machine:
    """What outlives connections. fail: call name to error, raised when it is reached."""

    volumes: list[Volume] = field(
        default_factory=lambda: [volume(F_GUID, "F", "6a" * 16), volume(G_GUID, "G", "6b" * 16)]
    )
    writers: list[WriterMetadata] = field(default_factory=list)
    sets: dict[SnapshotSetId, HeldSet] = field(default_factory=dict)
    fail: dict[str, BaseException] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    writer_state: WriterState = WriterState.STABLE
    writer_failure: Hresult = Hresult.S_OK
    lose_at_import: int = 0
    last_number: int = 0

    def reach(self, name: str) -> None:
        """Note a call, and fail it when it is to fail."""
        self.log.append(name)
        if name in self.fail:
            raise self.fail[name]

    def copies(self) -> list[SnapshotProperties]:
        """Return the copies that are on this host."""
        return [copy for held in self.sets.values() if held.is_here for copy in held.copies]

    def next_device(self) -> str:
        """Return a new device object."""
        self.last_number += 1
        where = "/run/vssemu/GLOBALROOT/Device"
        return f"{where}/HarddiskVolumeShadowCopy{self.last_number}"


def refusing(error: type[VssError] = ObjectNotFound) -> VssError:
    """Return an error that a call can be made to fail with."""
    return error("the call was told to fail", hint="look elsewhere")
