from dataclasses import replace

import pytest

from tests.unit.vss.documents.samples import (
    STOCK,
    STOCK_INSTANCE,
    backup_document,
    copy_properties,
    stock_metadata,
)
from vssemu.vss.documents.bcd import BackupComponentsDocument, BackupState
from vssemu.vss.documents.wmdbuilder import build
from vssemu.vss.documents.writer import (
    ComponentInfo,
    ExcludedFiles,
    FileSpec,
    WriterMetadata,
)
from vssemu.vss.enums import BackupSchema, BackupType, ComponentType, FileSpecBackupType
from vssemu.vss.files import FileList, Missing, files_to_back_up
from vssemu.vss.identity import WriterInstanceId
from vssemu.vss.paths import CopiedVolume, copied_volume

DEVICE = "/dev/copy1"
COPY = copied_volume(copy_properties(DEVICE), letter="F")


def listed(
    metadata: WriterMetadata | None = None,
    *,
    copies: tuple[CopiedVolume, ...] = (COPY,),
    document: BackupComponentsDocument | None = None,
) -> FileList:
    return files_to_back_up(document or backup_document(), [metadata or stock_metadata()], copies)


def test_explicit_components_bring_their_subcomponents() -> None:
    found = [(f.component, f.is_explicit, f.path, f.filespec) for f in listed().files]
    ledger = "\\Stock\\North\\ledger"
    assert found == [
        (ledger, True, "/dev/copy1/stock/data", "ledger.dat"),
        (ledger, True, "/dev/copy1/stock/log", "ledger*.log"),
        (f"{ledger}\\attachments", False, "/dev/copy1/stock/attach", "*.bin"),
        (f"{ledger}\\attachments", False, "/dev/copy1/staged", "*"),
    ]


def test_documents_that_travelled_give_the_same_list() -> None:
    document = BackupComponentsDocument.parse(backup_document().to_xml())
    metadata = build(stock_metadata()).metadata
    assert listed(metadata, document=document) == listed()


def test_what_cannot_be_copied_is_reported() -> None:
    found = {(m.component, m.original_path, m.reason) for m in listed().missing}
    assert found == {
        ("\\Stock\\North\\ledger\\attachments", "%ProgramData%\\Stock", Missing.UNPLACED),
        ("\\Settings & more", None, Missing.NO_METADATA),
    }
    elsewhere = listed(copies=())
    assert not elsewhere.files
    assert [m.reason for m in elsewhere.missing].count(Missing.NOT_COPIED) == 4


def test_an_explicit_subcomponent_is_listed_once() -> None:
    document = backup_document()
    document.add_component(
        writer_id=STOCK,
        instance_id=STOCK_INSTANCE,
        component_type=ComponentType.FILEGROUP,
        logical_path="Stock\\North\\ledger",
        component_name="attachments",
    )
    files = listed(document=document).files
    assert len(files) == 4
    assert all(f.is_explicit for f in files)


def test_a_component_that_the_metadata_lacks_is_reported() -> None:
    found = listed(replace(stock_metadata(), components=()))
    assert ("\\Stock\\North\\ledger", Missing.NO_COMPONENT) in {
        (m.component, m.reason) for m in found.missing
    }


def test_metadata_fits_by_writer_and_instance_name_after_a_restart() -> None:
    other = WriterInstanceId(COPY_INSTANCE)
    restarted = replace(stock_metadata(), instance_id=other)
    assert listed(restarted).files == listed().files
    namesake = replace(restarted, instance_name="stock-2")
    assert not listed(namesake).files


COPY_INSTANCE = copy_properties().snapshot_id


def with_masks(schema: int) -> WriterMetadata:
    sets = tuple(
        FileSpec(path=f"F:\\{mask}", filespec="*", backup_type=FileSpecBackupType(mask))
        for mask in (1, 2, 4, 8, 0xF0F, 0xF00)
    )
    component = ComponentInfo(
        component_type=ComponentType.FILEGROUP,
        logical_path="Stock\\North",
        name="ledger",
        file_sets=sets,
    )
    return replace(stock_metadata(), components=(component,), backup_schema=BackupSchema(schema))


@pytest.mark.parametrize(
    ("backup_type", "schema", "masks"),
    [
        (BackupType.FULL, 0, [1, 0xF0F]),
        (BackupType.COPY, 0, [1, 0xF0F]),
        (BackupType.OTHER, 0, [1, 0xF0F]),
        (BackupType.DIFFERENTIAL, 1, [2, 0xF0F]),
        (BackupType.INCREMENTAL, 2, [4, 0xF0F]),
        (BackupType.LOG, 8, [8, 0xF0F]),
        (BackupType.INCREMENTAL, 1, [1, 0xF0F]),
        (BackupType.LOG, 0, [1, 0xF0F]),
    ],
)
def test_the_mask_decides_by_backup_type_and_a_lacking_schema_means_full(
    backup_type: BackupType, schema: int, masks: list[int]
) -> None:
    document = backup_document()
    document.set_backup_state(
        BackupState(select_components=True, bootable_system_state=False, backup_type=backup_type)
    )
    files = listed(with_masks(schema), document=document).files
    assert [f.original_path for f in files] == [f"F:\\{mask}" for mask in masks]


def test_files_made_during_the_backup_are_in_no_copy() -> None:
    mask = FileSpecBackupType.CREATED_DURING_BACKUP | FileSpecBackupType.DEFAULT
    component = ComponentInfo(
        component_type=ComponentType.FILEGROUP,
        logical_path="Stock\\North",
        name="ledger",
        file_sets=(FileSpec(path="F:\\x", filespec="*", backup_type=mask),),
    )
    found = listed(replace(stock_metadata(), components=(component,)))
    assert not found.files
    assert found.missing[0].reason is Missing.MADE_DURING_BACKUP


def test_a_file_set_takes_what_it_names_below_its_directory() -> None:
    data, _, attach, _ = listed().files
    assert data.takes("/dev/copy1/stock/data", "LEDGER.DAT")
    assert not data.takes("/dev/copy1/stock/data/sub", "ledger.dat")
    assert attach.takes("/dev/copy1/stock/attach/2024/", "a.bin")
    assert not attach.takes("/dev/copy1/stock/attachment", "a.bin")


def test_the_exclude_list_wins() -> None:
    data, _, attach, _ = listed().files
    assert not attach.takes("/dev/copy1/stock/attach/2024", "a.tmp.bin")
    assert not data.excludes
    assert [e.path for e in attach.excludes] == ["/dev/copy1/stock/attach"]


def test_an_exclude_without_a_drive_holds_on_every_copied_volume() -> None:
    metadata = replace(
        with_masks(0),
        excludes=(
            ExcludedFiles(path="\\1\\temp", filespec="*", recursive=True),
            ExcludedFiles(path="\\..\\x", filespec="*"),
            ExcludedFiles(path="%TEMP%", filespec="*"),
            ExcludedFiles(path="Z:\\not here", filespec="*"),
        ),
    )
    component = replace(
        metadata.components[0],
        file_sets=(FileSpec(path="F:\\1", filespec="*", recursive=True),),
    )
    found = listed(replace(metadata, components=(component,)))
    (files,) = found.files
    assert files.takes("/dev/copy1/1", "a")
    assert not files.takes("/dev/copy1/1/temp/deep", "a")
    assert [e.path for e in found.unplaced_excludes] == ["\\..\\x", "%TEMP%"]


def test_linux_paths_of_writers_are_listed_alike() -> None:
    component = ComponentInfo(
        component_type=ComponentType.FILEGROUP,
        logical_path="Stock\\North",
        name="ledger",
        file_sets=(FileSpec(path="/mnt/F/data", filespec="*", recursive=True),),
    )
    (files,) = listed(replace(stock_metadata(), components=(component,))).files
    assert files.path == "/dev/copy1/data"
