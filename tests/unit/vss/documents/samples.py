"""Documents and facts that the tests of this directory share."""

from pathlib import Path
from uuid import UUID

from lxml import etree

from vssemu.vss.attributes import Attribute
from vssemu.vss.documents.bcd import BackupComponentsDocument, BackupState
from vssemu.vss.documents.writer import (
    AlternateLocationMapping,
    ComponentInfo,
    Dependency,
    ExcludedFiles,
    FileSetKind,
    FileSpec,
    RestoreInfo,
    WriterMetadata,
)
from vssemu.vss.enums import (
    BackupSchema,
    BackupType,
    ComponentFlags,
    ComponentType,
    FileSpecBackupType,
    RestoreMethod,
    SourceType,
    UsageType,
    WriterRestore,
)
from vssemu.vss.identity import (
    ProviderId,
    SnapshotId,
    SnapshotSetId,
    WriterId,
    WriterInstanceId,
)
from vssemu.vss.lun import Extent, Interconnect, LunInformation, StorageIdentifier
from vssemu.vss.snapshot import (
    LunMapping,
    SnapshotDescription,
    SnapshotProperties,
    SnapshotSetDescription,
)

GRAMMARS = Path(__file__).parents[3] / "data" / "grammars"

SET_ID = SnapshotSetId(UUID("4c1d0e6f-8b41-4b2d-8c66-1e3c8d2f0a12"))
COPY_ID = SnapshotId(UUID("88b2d1ef-3c55-4d9f-a7e4-706f5e4d3c2c"))
PROVIDER = ProviderId(UUID("6f1e9a52-70c1-4e0b-9d6e-0a5c31d7b2f4"))
STOCK = WriterId(UUID("d4e2b2f1-6b6f-4c70-8e2d-3f809b1c2d3e"))
STOCK_INSTANCE = WriterInstanceId(UUID("1b704fad-206c-4e1f-9f4f-402050b6c7d8"))
MAIL = WriterId(UUID("2e3d4c5b-6a79-4887-96a5-b4c3d2e1f0aa"))
MAIL_INSTANCE = WriterInstanceId(UUID("af9e8d7c-6b5a-4948-b736-261423021f0e"))
VOLUME = "\\\\?\\Volume{2a3f4e5d-0000-0000-0000-100000000000}\\"


def bcd_errors(text: str) -> str:
    """Return what the grammar finds wrong with a Backup Components Document."""
    return _errors("bcd.rng", text)


def wmd_errors(text: str) -> str:
    """Return what the grammar finds wrong with a Writer Metadata Document."""
    return _errors("wmd.rng", text)


def _errors(grammar: str, text: str) -> str:
    schema = etree.RelaxNG(etree.parse(str(GRAMMARS / grammar)))
    return "" if schema.validate(etree.fromstring(text)) else str(schema.error_log)


def lun(serial: str, *, unit: int) -> LunInformation:
    return LunInformation(
        bus_type=9,
        vendor_id="VSSEMU",
        product_id="Virtual LUN",
        product_revision=None,
        serial_number=serial,
        disk_signature=UUID(int=unit),
        identifiers=(
            StorageIdentifier(code_set=1, type=3, identifier=bytes([0x60, *[0] * 14, unit])),
            StorageIdentifier(code_set=2, type=10, identifier=b"<xml a='1'>" * 100),
            StorageIdentifier(code_set=1, type=0, identifier=b""),
        ),
        interconnects=(Interconnect(address_type=77, port=b"\0\xff", address=b""),),
    )


def copy_properties(device_object: str = "") -> SnapshotProperties:
    return SnapshotProperties(
        snapshot_id=COPY_ID,
        snapshot_set_id=SET_ID,
        snapshots_count=1,
        device_object=device_object,
        original_volume_name=VOLUME,
        originating_machine="one.example.test",
        service_machine="one.example.test",
        provider_id=PROVIDER,
        attributes=Attribute.PERSISTENT
        | Attribute.NO_AUTO_RELEASE
        | Attribute.TRANSPORTABLE
        | Attribute.DIFFERENTIAL,
        creation_timestamp=134_001_234_567_890_123,
    )


def set_description() -> SnapshotSetDescription:
    mapping = LunMapping(
        source=lun("A0001", unit=1),
        destination=lun("A0002", unit=2),
        extents=(Extent(offset=1 << 20, length=7 << 30), Extent(offset=8 << 30, length=4096)),
    )
    return SnapshotSetDescription(
        snapshot_set_id=SET_ID,
        context=0x29,
        snapshots=(SnapshotDescription(properties=copy_properties(), luns=(mapping, mapping)),),
    )


def backup_document() -> BackupComponentsDocument:
    """Return a document with two writers, before anything was created."""
    document = BackupComponentsDocument.new()
    document.set_backup_state(
        BackupState(
            select_components=True, bootable_system_state=False, backup_type=BackupType.FULL
        )
    )
    document.add_component(
        writer_id=STOCK,
        instance_id=STOCK_INSTANCE,
        instance_name="stock-1",
        backup_schema=99,
        component_type=ComponentType.DATABASE,
        logical_path="Stock\\North",
        component_name="ledger",
    )
    document.add_component(
        writer_id=MAIL,
        instance_id=MAIL_INSTANCE,
        component_type=ComponentType.FILEGROUP,
        logical_path=None,
        component_name="Settings & more",
    )
    return document


def stock_metadata() -> WriterMetadata:
    ledger = ComponentInfo(
        component_type=ComponentType.DATABASE,
        logical_path="Stock\\North",
        name="ledger",
        caption="Ledger <1>\nsecond line",
        selectable=True,
        selectable_for_restore=True,
        component_flags=ComponentFlags.BACKUP_RECOVERY,
        icon=b"\0icon",
        file_sets=(
            FileSpec(
                path="F:\\stock\\data", filespec="ledger.dat", kind=FileSetKind.DATABASE_FILES
            ),
            FileSpec(
                path="F:\\stock\\log",
                filespec="ledger*.log",
                kind=FileSetKind.DATABASE_LOG_FILES,
            ),
        ),
        dependencies=(Dependency(writer_id=MAIL, logical_path=None, component_name="Settings"),),
    )
    attachments = ComponentInfo(
        component_type=ComponentType.FILEGROUP,
        logical_path="Stock\\North\\ledger",
        name="attachments",
        caption="",
        selectable_for_restore=True,
        file_sets=(
            FileSpec(path="F:\\stock\\attach\\", filespec="*.bin", recursive=True),
            FileSpec(
                path="%ProgramData%\\Stock",
                filespec="stock.ini",
                backup_type=FileSpecBackupType.FULL_BACKUP_REQUIRED,
            ),
            FileSpec(path="G:\\elsewhere", filespec="*", alternate_path="F:\\staged"),
        ),
    )
    return WriterMetadata(
        writer_id=STOCK,
        instance_id=STOCK_INSTANCE,
        instance_name="stock-1",
        name="Stock Writer",
        usage=UsageType.USERDATA,
        source=SourceType.TRANSACTEDDB,
        major_version=1,
        minor_version=2,
        backup_schema=BackupSchema(99),
        restore=RestoreInfo(
            method=RestoreMethod.RESTORE_IF_CAN_REPLACE,
            writer_restore=WriterRestore.ALWAYS,
            service="stockd",
            mappings=(
                AlternateLocationMapping(
                    path="F:\\stock\\attach",
                    filespec="*.bin",
                    recursive=True,
                    alternate_path="E:\\back",
                ),
            ),
        ),
        components=(ledger, attachments),
        excludes=(
            ExcludedFiles(path="F:\\stock\\attach", filespec="*.tmp.bin", recursive=True),
            ExcludedFiles(path="\\lost+found", filespec="*", recursive=True),
        ),
        excludes_from_snapshot=(ExcludedFiles(path="F:\\stock\\cache", filespec="*"),),
    )
