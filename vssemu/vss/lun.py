"""LUN information: what identifies a LUN to hosts, providers and documents.

Source: VDS_LUN_INFORMATION, VDS_STORAGE_DEVICE_ID_DESCRIPTOR, VDS_STORAGE_IDENTIFIER,
VDS_INTERCONNECT; IVssHardwareSnapshotProvider::GetTargetLuns and FillInLunInfo.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from uuid import UUID

from vssemu.vss.identity import GUID_NULL, LunId

LUN_INFORMATION_VERSION = 1
"""VER_VDS_LUN_INFORMATION."""


class BusType(IntEnum):
    """VDS_STORAGE_BUS_TYPE; unknown numbers are kept as they come."""

    UNKNOWN = 0
    SCSI = 1
    ATAPI = 2
    ATA = 3
    IEEE1394 = 4
    SSA = 5
    FIBRE = 6
    USB = 7
    RAID = 8
    ISCSI = 9
    SAS = 0xA
    SATA = 0xB
    VIRTUAL = 0xE
    FILE_BACKED_VIRTUAL = 0xF


class CodeSet(IntEnum):
    """VDS_STORAGE_IDENTIFIER_CODE_SET."""

    RESERVED = 0
    BINARY = 1
    ASCII = 2
    UTF8 = 3


class IdentifierType(IntEnum):
    """VDS_STORAGE_IDENTIFIER_TYPE."""

    VENDOR_SPECIFIC = 0
    VENDOR_ID = 1
    EUI64 = 2
    FCPH_NAME = 3
    PORT_RELATIVE = 4
    TARGET_PORT_GROUP = 5
    LOGICAL_UNIT_GROUP = 6
    MD5_LOGICAL_UNIT_IDENTIFIER = 7
    SCSI_NAME_STRING = 8


UNIQUE_TYPES = frozenset(
    {
        IdentifierType.VENDOR_ID,
        IdentifierType.EUI64,
        IdentifierType.FCPH_NAME,
        IdentifierType.SCSI_NAME_STRING,
    }
)
"""The identifier types of which a LUN needs one that nobody else has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageIdentifier:
    """One page 0x83 identifier of the device (association 0)."""

    code_set: int
    type: int
    identifier: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Interconnect:
    """One path to the LUN; a provider must hand it on unchanged."""

    address_type: int
    port: bytes
    address: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class LunInformation:
    """VDS_LUN_INFORMATION, every member; a string is None when the device has none."""

    version: int = LUN_INFORMATION_VERSION
    device_type: int = 0
    device_type_modifier: int = 0
    command_queueing: bool = True
    bus_type: int = BusType.SCSI
    vendor_id: str | None = None
    product_id: str | None = None
    product_revision: str | None = None
    serial_number: str | None = None
    disk_signature: UUID = GUID_NULL
    device_id_version: int = 1
    identifiers: tuple[StorageIdentifier, ...] = ()
    interconnects: tuple[Interconnect, ...] = ()

    @property
    def unique_identifiers(self) -> frozenset[StorageIdentifier]:
        """The identifiers of a type that must be unique to the LUN."""
        return frozenset(i for i in self.identifiers if i.type in UNIQUE_TYPES)

    @property
    def naa(self) -> LunId | None:
        """`naa.` and the hex digits of the first binary NAA identifier, or None."""
        for identifier in self.identifiers:
            if identifier.type == IdentifierType.FCPH_NAME:
                return LunId(f"naa.{identifier.identifier.hex()}")
        return None

    def describe(self) -> str:
        """Return what names this LUN in a message: NAA id, else the serial, else `unnamed`."""
        return self.naa or self.serial_number or "unnamed LUN"


@dataclass(frozen=True, kw_only=True, slots=True)
class Lun:
    """A LUN as a provider is handed it: the host's device name and the LUN's information."""

    device_name: str
    information: LunInformation


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """A run of bytes on a LUN that belongs to a volume; offset and length in bytes."""

    offset: int
    length: int


def is_same_lun(expected: LunInformation, found: LunInformation) -> bool:
    """True when two records describe one LUN, by the rule of the import.

    Everything is compared but bus type, disk signature and interconnects: the first two are
    documented as ignored, the last belongs to the path, not to the LUN.
    Source: IVssHardwareSnapshotProvider::GetTargetLuns, FillInLunInfo.
    """
    return _comparable(expected) == _comparable(found)


def _comparable(record: LunInformation) -> LunInformation:
    return replace(record, bus_type=0, disk_signature=GUID_NULL, interconnects=())
