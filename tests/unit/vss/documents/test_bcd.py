from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from tests.unit.vss.documents.samples import (
    MAIL,
    MAIL_INSTANCE,
    SET_ID,
    STOCK,
    STOCK_INSTANCE,
    backup_document,
    bcd_errors,
    set_description,
)
from vssemu.vss.documents.bcd import BackupComponentsDocument, BackupState
from vssemu.vss.documents.component import (
    Component,
    ComponentFailure,
    ComponentKey,
    DifferencedFile,
    PartialFile,
)
from vssemu.vss.enums import BackupType, ComponentType
from vssemu.vss.errors import (
    InvalidArgument,
    InvalidXmlDocument,
    NonTransportableBcd,
    ObjectAlreadyExists,
    ObjectNotFound,
)

NS = 'xmlns="x-schema:#VssComponentMetadata"'
XML_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=60)

LEDGER = ComponentKey(
    instance_id=STOCK_INSTANCE, logical_path="Stock\\North", component_name="ledger"
)


def filled() -> BackupComponentsDocument:
    """Return a document as it is at the end of a transportable backup."""
    document = backup_document()
    document.snapshot_set_id = SET_ID
    ledger = document.component(LEDGER)
    ledger.previous_backup_stamp = "lsn:31"
    ledger.backup_options = "verify=1"
    ledger.backup_stamp = "lsn:4F"
    ledger.set_backup_metadata("format=3;\n\tend")
    ledger.partial_files = [
        PartialFile(path="F:\\stock", filename="ledger.dat", ranges="0:4096, 0x100000:65536")
    ]
    ledger.differenced_files = [
        DifferencedFile(path="F:\\stock", filespec="*.bin", recursive=True, last_modify_time=2**63)
    ]
    ledger.backup_succeeded = True
    ledger.failure = ComponentFailure(hresult=0x800423F3, message="later")
    ledger.prepare_for_backup_failure_message = ""
    ledger.post_snapshot_failure_message = "post"
    document.set_snapshot_set_description(set_description())
    return document


def test_a_new_document_is_valid_and_one_line() -> None:
    text = BackupComponentsDocument.new().to_xml()
    assert text == (f'<BACKUP_COMPONENTS {NS} xmlns:ve="urn:vss-emulation:ext:1" version="1.2"/>')
    assert bcd_errors(text) == ""


def test_a_filled_document_is_valid_and_says_the_same_when_read_again() -> None:
    text = filled().to_xml()
    assert bcd_errors(text) == ""
    assert "\n" not in text
    assert "format=3;&#10;&#9;end" in text
    again = BackupComponentsDocument.parse(text)
    assert again.to_xml() == text
    ledger = again.component(LEDGER)
    assert ledger.backup_stamp == "lsn:4F"
    assert ledger.previous_backup_stamp == "lsn:31"
    assert ledger.backup_options == "verify=1"
    assert ledger.backup_metadata == "format=3;\n\tend"
    assert ledger.backup_succeeded
    assert ledger.failure == ComponentFailure(hresult=0x800423F3, message="later")
    assert ledger.prepare_for_backup_failure_message == ""
    assert ledger.post_snapshot_failure_message == "post"
    assert ledger.partial_files[0].ranges == "0:4096, 0x100000:65536"
    assert ledger.differenced_files[0].last_modify_time == 2**63
    assert again.snapshot_set_description() == set_description()
    assert again.snapshot_set_id == SET_ID


def test_backup_metadata_stands_in_no_namespace() -> None:
    assert '<BACKUP_METADATA xmlns="" metadata="' in filled().to_xml()


def test_backup_metadata_is_read_in_either_namespace() -> None:
    text = filled().to_xml().replace('<BACKUP_METADATA xmlns="" ', "<BACKUP_METADATA ")
    assert BackupComponentsDocument.parse(text).component(LEDGER).backup_metadata


def test_attributes_keep_the_pinned_order_whatever_the_order_of_calls() -> None:
    document = BackupComponentsDocument.new()
    document.snapshot_set_id = SET_ID
    document.set_backup_state(
        BackupState(
            select_components=True, bootable_system_state=True, backup_type=BackupType.COPY
        )
    )
    assert (
        'version="1.2" bootableSystemStateBackup="yes" selectComponents="yes" backupType="copy"'
        f' partialFileSupport="no" snapshotSetId="{SET_ID}"/>'
    ) in document.to_xml()


def test_the_state_is_none_before_it_is_set_and_undefined_is_refused() -> None:
    document = BackupComponentsDocument.new()
    assert document.backup_state is None
    with pytest.raises(InvalidArgument, match="backup type"):
        document.set_backup_state(
            BackupState(
                select_components=True,
                bootable_system_state=True,
                backup_type=BackupType.UNDEFINED,
            )
        )


def test_writers_stand_in_the_order_in_which_they_were_added() -> None:
    stock, mail = backup_document().writers()
    assert (stock.writer_id, stock.instance_name, stock.backup_schema) == (STOCK, "stock-1", 99)
    assert (mail.writer_id, mail.instance_name, mail.backup_schema) == (MAIL, None, 0)
    assert [c.full_path for c in stock.components] == ["\\Stock\\North\\ledger"]
    assert mail.components[0].component_type is ComponentType.FILEGROUP
    assert mail.components[0].logical_path is None


def test_writers_stand_before_the_description_also_when_added_late() -> None:
    document = BackupComponentsDocument.new()
    document.set_snapshot_set_description(set_description())
    add(document, "late")
    text = document.to_xml()
    assert text.index("<WRITER_COMPONENTS") < text.index("<SNAPSHOT_SET_DESCRIPTION")
    assert bcd_errors(text) == ""


def add(
    document: BackupComponentsDocument,
    name: str,
    path: str | None = None,
    component_type: ComponentType = ComponentType.FILEGROUP,
) -> Component:
    return document.add_component(
        writer_id=MAIL,
        instance_id=MAIL_INSTANCE,
        component_type=component_type,
        logical_path=path,
        component_name=name,
    )


def test_a_second_component_of_one_path_and_name_exists_already() -> None:
    document = BackupComponentsDocument.new()
    add(document, "a", "p")
    add(document, "a", "q")
    before = document.to_xml()
    with pytest.raises(ObjectAlreadyExists, match=r"\\p\\a"):
        add(document, "a", "p", ComponentType.DATABASE)
    assert document.to_xml() == before


def test_bad_components_are_refused_and_change_nothing() -> None:
    document = backup_document()
    before = document.to_xml()
    for name, path in (("", None), ("a\\b", None), ("a\0", None), ("a", "\x01")):
        with pytest.raises(InvalidArgument):
            add(document, name, path)
    with pytest.raises(InvalidArgument, match="component type"):
        add(document, "x", None, ComponentType.UNDEFINED)
    with pytest.raises(InvalidArgument, match="belongs to writer"):
        document.add_component(
            writer_id=STOCK,
            instance_id=MAIL_INSTANCE,
            component_type=ComponentType.FILEGROUP,
            logical_path=None,
            component_name="x",
        )
    assert document.to_xml() == before


def test_a_component_that_was_not_added_is_not_found() -> None:
    key = ComponentKey(instance_id=MAIL_INSTANCE, logical_path=None, component_name="no")
    with pytest.raises(ObjectNotFound, match=r"\\no"):
        backup_document().component(key)


def test_an_unset_value_is_none_and_an_empty_one_is_empty() -> None:
    document = backup_document()
    ledger = document.component(LEDGER)
    assert ledger.backup_stamp is None
    ledger.backup_stamp = ""
    assert ' backupStamp=""' in document.to_xml()
    ledger.backup_stamp = None
    assert "backupStamp" not in document.to_xml()


@given(stamp=XML_TEXT, metadata=XML_TEXT, options=XML_TEXT)
def test_opaque_strings_survive_unchanged(stamp: str, metadata: str, options: str) -> None:
    document = backup_document()
    ledger = document.component(LEDGER)
    ledger.backup_stamp = stamp
    ledger.backup_options = options
    ledger.set_backup_metadata(metadata)
    again = BackupComponentsDocument.parse(document.to_xml())
    assert again.to_xml() == document.to_xml()
    read = again.component(LEDGER)
    assert (read.backup_stamp, read.backup_options) == (stamp, options)
    assert read.backup_metadata == metadata


def test_characters_that_xml_cannot_carry_are_refused_and_change_nothing() -> None:
    document = backup_document()
    before = document.to_xml()
    ledger = document.component(LEDGER)
    with pytest.raises(InvalidArgument, match="backupStamp"):
        ledger.backup_stamp = "\0"
    with pytest.raises(InvalidArgument):
        ledger.set_backup_metadata("\ud800")
    assert document.to_xml() == before


@pytest.mark.parametrize(
    ("filename", "ranges"),
    [("*.dat", "0:1"), ("a\\b", "0:1"), ("", "0:1"), ("a", "zero"), ("a", ""), ("a", "1:2;3:4")],
)
def test_partial_files_without_one_name_and_ranges_are_refused(filename: str, ranges: str) -> None:
    with pytest.raises(InvalidArgument, match="AddPartialFile"):
        backup_document().component(LEDGER).partial_files = [
            PartialFile(path="F:\\", filename=filename, ranges=ranges)
        ]


def test_a_ranges_file_is_taken_as_it_is() -> None:
    ledger = backup_document().component(LEDGER)
    file = PartialFile(path="F:\\", filename="a", ranges="F:\\r.bin", metadata="m")
    ledger.partial_files = [file]
    assert ledger.partial_files == (file,)


def test_unknown_items_survive_a_load_and_a_save() -> None:
    text = (
        f'<BACKUP_COMPONENTS {NS} version="1.2" futureFlag="yes" xmlns:x="urn:x" x:a="1">'
        f'<WRITER_COMPONENTS {NS} instanceId="{STOCK_INSTANCE}" writerId="{STOCK}"'
        ' backupSchema="0" odd="1"><COMPONENT componentName="a" componentType="filegroup"'
        ' componentCaption=""><NEW b="&#10;"><x:y>text</x:y></NEW></COMPONENT>'
        "</WRITER_COMPONENTS><!-- kept --><FUTURE/></BACKUP_COMPONENTS>"
    )
    document = BackupComponentsDocument.parse(text)
    assert etree.canonicalize(document.to_xml()) == etree.canonicalize(text)
    assert "<!-- kept -->" in document.to_xml()
    document.components(STOCK_INSTANCE)[0].backup_stamp = "s"
    changed = document.to_xml()
    assert 'xmlns:ve="urn:vss-emulation:ext:1"' not in changed
    for kept in ('futureFlag="yes"', 'x:a="1"', 'odd="1"', "<x:y>text</x:y>", "<FUTURE/>"):
        assert kept in changed


BASE = filled().to_xml()


def without(start: str) -> Callable[[str], str]:
    def cut(text: str) -> str:
        at = text.index(start)
        end = text.index('"', text.index('="', at) + 2) + 1
        return text[:at] + text[end:]

    return cut


def put(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (without(" componentName="), r"WRITER_COMPONENTS\[1\]/COMPONENT\[1\]/@componentName"),
        (without(" componentType="), r"COMPONENT\[1\]/@componentType, line 1"),
        (without(" instanceId="), r"WRITER_COMPONENTS\[1\]/@instanceId"),
        (without(" writerId="), r"WRITER_COMPONENTS\[1\]/@writerId"),
        (put('backupType="full"', 'backupType="x"'), r"BACKUP_COMPONENTS/@backupType.*'x'"),
        (put('selectComponents="yes"', 'selectComponents="1"'), r"@selectComponents, line 1: '1'"),
        (put('backupSchema="99"', 'backupSchema="٣"'), r"@backupSchema.*'٣' is not a number"),
        (put('backupSchema="99"', 'backupSchema="4294967296"'), "32 bits"),
        (put(f'instanceId="{MAIL_INSTANCE}"', 'instanceId="5"'), r"WRITER_COMPONENTS\[2\]"),
        (put(f'snapshotSetId="{SET_ID}"', 'snapshotSetId=""'), "'' is not a GUID"),
    ],
)
def test_a_missing_or_spoilt_item_is_named_by_its_path(
    change: Callable[[str], str], place: str
) -> None:
    with pytest.raises(InvalidXmlDocument, match=place) as caught:
        BackupComponentsDocument.parse(change(BASE))
    assert caught.value.item
    assert caught.value.hint


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (without(" ve:context="), r"SNAPSHOT_SET_DESCRIPTION\[1\]/@ve:context.*context"),
        (without(" snapshotId="), r"SNAPSHOT_DESCRIPTION\[1\]/@snapshotId"),
        (without(" providerId="), r"ve:snapshot\[1\]/@providerId"),
        (without(" startingOffset="), r"ve:extent\[1\]/@startingOffset"),
        (put("<ve:sourceLun", "<ve:other"), "well-formed"),
        (put('type="3">', 'type="3">!!'), r"ve:identifier\[1\].*base64"),
        (put('busType="9"', 'busType="-9"'), r"ve:lun\[1\]/@busType"),
        (put('deviceType="0"', 'deviceType="256"'), "8 bits"),
    ],
)
def test_an_import_names_the_item_that_it_misses(change: Callable[[str], str], place: str) -> None:
    with pytest.raises(InvalidXmlDocument, match=place):
        BackupComponentsDocument.parse(change(BASE)).snapshot_set_description()


def test_a_document_without_a_set_description_is_not_transportable() -> None:
    document = BackupComponentsDocument.parse(backup_document().to_xml())
    assert not document.is_transportable
    with pytest.raises(NonTransportableBcd, match="SNAPSHOT_SET_DESCRIPTION"):
        document.snapshot_set_description()


WINDOWS = (
    f'<BACKUP_COMPONENTS {NS} version="1.2" snapshotSetId="{SET_ID}">'
    f'<SNAPSHOT_SET_DESCRIPTION snapshotSetId="{SET_ID}">'
    f'<SNAPSHOT_DESCRIPTION snapshotId="{MAIL}"><LUN_MAPPING>'
    f'<SOURCE><LUN_INFORMATION diskSignature="{STOCK}"/></SOURCE>'
    f'<DESTINATION_LUN><LUN_INFORMATION diskSignature="{MAIL}"/></DESTINATION_LUN>'
    "</LUN_MAPPING></SNAPSHOT_DESCRIPTION></SNAPSHOT_SET_DESCRIPTION></BACKUP_COMPONENTS>"
)


def test_a_transportable_document_of_windows_lacks_the_lun_information() -> None:
    document = BackupComponentsDocument.parse(WINDOWS)
    assert document.is_transportable
    with pytest.raises(InvalidXmlDocument, match="LUN") as caught:
        document.snapshot_set_description()
    assert "Windows" in (caught.value.hint or "")


def test_the_source_lun_may_stand_in_any_sibling() -> None:
    text = BASE.replace("<ve:sourceLun ", "<ORIGINAL_LUN><LUN_INFORMATION ").replace(
        "</ve:sourceLun>", "</LUN_INFORMATION></ORIGINAL_LUN>"
    )
    assert BackupComponentsDocument.parse(text).snapshot_set_description() == set_description()


def test_a_second_description_takes_the_place_of_the_first() -> None:
    document = filled()
    document.set_snapshot_set_description(set_description())
    assert document.to_xml() == BASE


def test_the_same_shadow_copy_twice_is_refused() -> None:
    begin = BASE.index("<SNAPSHOT_DESCRIPTION")
    end = BASE.index("</SNAPSHOT_SET_DESCRIPTION>")
    twice = BASE[:end] + BASE[begin:end] + BASE[end:]
    with pytest.raises(InvalidXmlDocument, match="twice"):
        BackupComponentsDocument.parse(twice).snapshot_set_description()
