from collections.abc import Callable

import pytest

from tests.unit.vss.documents.samples import (
    MAIL_INSTANCE,
    SET_ID,
    STOCK_INSTANCE,
    backup_document,
    bcd_errors,
    set_description,
)
from vssemu.vss.documents.bcd import BackupComponentsDocument, BackupState
from vssemu.vss.documents.component import (
    Component,
    ComponentFailure,
    DifferencedFile,
    PartialFile,
)
from vssemu.vss.enums import BackupType, ComponentType
from vssemu.vss.errors import (
    BadState,
    InvalidArgument,
    InvalidXmlDocument,
    ObjectAlreadyExists,
    VssError,
)


def service_document() -> BackupComponentsDocument:
    document = backup_document()
    document.snapshot_set_id = SET_ID
    document.components(STOCK_INSTANCE)[0].previous_backup_stamp = "old"
    document.set_snapshot_set_description(set_description())
    return document


def shown(document: BackupComponentsDocument) -> tuple[BackupComponentsDocument, Component]:
    part = BackupComponentsDocument.parse(document.writer_part(STOCK_INSTANCE))
    return part, part.components(STOCK_INSTANCE)[0]


def test_a_writer_sees_the_state_and_its_own_components_alone() -> None:
    document = service_document()
    text = document.writer_part(STOCK_INSTANCE)
    assert bcd_errors(text) == ""
    part = BackupComponentsDocument.parse(text)
    assert part.backup_state == document.backup_state
    assert part.snapshot_set_id == SET_ID
    assert [w.instance_id for w in part.writers()] == [STOCK_INSTANCE]
    assert not part.is_transportable
    assert part.components(STOCK_INSTANCE)[0].previous_backup_stamp == "old"


def test_what_a_writer_may_set_is_taken_over() -> None:
    document = service_document()
    part, ledger = shown(document)
    ledger.backup_stamp = "new"
    ledger.set_backup_metadata("private")
    ledger.partial_files = [PartialFile(path="F:\\", filename="a", ranges="0:1")]
    ledger.differenced_files = [DifferencedFile(path="F:\\", filespec="*", recursive=False)]
    ledger.failure = ComponentFailure(hresult=0x800423F4, application_hresult=7, message="no")
    ledger.post_snapshot_failure_message = "m"
    document.merge_writer_part(STOCK_INSTANCE, part.to_xml(), read_only=False)
    mine = document.components(STOCK_INSTANCE)[0]
    assert mine.backup_stamp == "new"
    assert mine.backup_metadata == "private"
    assert mine.partial_files == ledger.partial_files
    assert mine.differenced_files == ledger.differenced_files
    assert mine.failure == ledger.failure
    assert mine.post_snapshot_failure_message == "m"
    assert mine.previous_backup_stamp == "old"
    assert bcd_errors(document.to_xml()) == ""
    assert document.snapshot_set_description() == set_description()


def test_an_unchanged_part_changes_nothing_also_when_only_reading() -> None:
    document = service_document()
    before = document.to_xml()
    for read_only in (True, False):
        for instance in (STOCK_INSTANCE, MAIL_INSTANCE):
            part = document.writer_part(instance)
            document.merge_writer_part(instance, part, read_only=read_only)
    assert document.to_xml() == before


def test_a_part_laid_out_anew_is_no_change() -> None:
    document = service_document()
    part = document.writer_part(STOCK_INSTANCE).replace("><", ">\n  <")
    document.merge_writer_part(STOCK_INSTANCE, part, read_only=True)


def test_a_read_only_event_takes_no_change() -> None:
    document = service_document()
    part, ledger = shown(document)
    ledger.backup_stamp = "late"
    with pytest.raises(BadState, match=r"COMPONENT\[1\]/@backupStamp"):
        document.merge_writer_part(STOCK_INSTANCE, part.to_xml(), read_only=True)
    assert document.components(STOCK_INSTANCE)[0].backup_stamp is None


def test_backup_metadata_is_set_once() -> None:
    document = service_document()
    part, ledger = shown(document)
    ledger.set_backup_metadata("one")
    document.merge_writer_part(STOCK_INSTANCE, part.to_xml(), read_only=False)
    before = document.to_xml()
    changed = document.writer_part(STOCK_INSTANCE).replace('"one"', '"two"')
    with pytest.raises(ObjectAlreadyExists, match="SetBackupMetadata"):
        document.merge_writer_part(STOCK_INSTANCE, changed, read_only=False)
    assert document.to_xml() == before


def forge_state(part: BackupComponentsDocument) -> None:
    part.set_backup_state(
        BackupState(
            select_components=False, bootable_system_state=False, backup_type=BackupType.COPY
        )
    )


def forge_component(part: BackupComponentsDocument) -> None:
    part.add_component(
        writer_id=part.writers()[0].writer_id,
        instance_id=STOCK_INSTANCE,
        component_type=ComponentType.FILEGROUP,
        logical_path=None,
        component_name="more",
    )


def forge_success(part: BackupComponentsDocument) -> None:
    part.components(STOCK_INSTANCE)[0].backup_succeeded = True


def forge_options(part: BackupComponentsDocument) -> None:
    part.components(STOCK_INSTANCE)[0].backup_options = "x"


def forge_set(part: BackupComponentsDocument) -> None:
    part.set_snapshot_set_description(set_description())


@pytest.mark.parametrize(
    "forge", [forge_state, forge_component, forge_success, forge_options, forge_set]
)
def test_what_is_not_the_writers_is_refused_as_a_whole(
    forge: Callable[[BackupComponentsDocument], None],
) -> None:
    document = service_document()
    before = document.to_xml()
    part, ledger = shown(document)
    ledger.backup_stamp = "new"
    forge(part)
    with pytest.raises(InvalidArgument, match="not its own"):
        document.merge_writer_part(STOCK_INSTANCE, part.to_xml(), read_only=False)
    assert document.to_xml() == before


def test_a_writer_cannot_change_or_drop_another_writers_part() -> None:
    document = service_document()
    for text in (
        document.writer_part(MAIL_INSTANCE),
        document.to_xml(),
        BackupComponentsDocument.new().to_xml(),
    ):
        with pytest.raises(InvalidArgument, match="not its own"):
            document.merge_writer_part(STOCK_INSTANCE, text, read_only=False)


def test_a_value_refused_half_way_leaves_the_document_as_it_was() -> None:
    document = service_document()
    part, ledger = shown(document)
    ledger.backup_stamp = "new"
    ledger.partial_files = [PartialFile(path="F:\\", filename="a", ranges="0:1")]
    before = document.to_xml()
    for old, new in (('ranges="0:1"', 'ranges="?"'), ('filename="a"', 'filename="*"')):
        with pytest.raises(InvalidArgument, match="AddPartialFile"):
            document.merge_writer_part(
                STOCK_INSTANCE, part.to_xml().replace(old, new), read_only=False
            )
    with pytest.raises(InvalidXmlDocument, match="@path"):
        document.merge_writer_part(
            STOCK_INSTANCE, part.to_xml().replace(' path="F:\\"', ""), read_only=False
        )
    assert document.to_xml() == before


def test_rubbish_from_a_writer_is_a_vss_error() -> None:
    document = service_document()
    for text in ("", "<a/>", "<!DOCTYPE a><a/>", b"\xff\xfe\0"):
        with pytest.raises(VssError):
            document.merge_writer_part(STOCK_INSTANCE, text, read_only=False)
