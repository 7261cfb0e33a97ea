from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vss.documents.samples import STOCK, STOCK_INSTANCE, stock_metadata, wmd_errors
from vssemu.vss.documents import words, xmltext
from vssemu.vss.documents.wmd import WriterMetadataDocument
from vssemu.vss.documents.wmdbuilder import WriterMetadataBuilder, build
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
    ComponentType,
    FileSpecBackupType,
    RestoreMethod,
    SourceType,
    UsageType,
    WriterRestore,
)
from vssemu.vss.errors import (
    InvalidArgument,
    InvalidXmlDocument,
    ObjectAlreadyExists,
    ObjectNotFound,
)
from vssemu.vss.identity import WriterId, WriterInstanceId

NS = 'xmlns="x-schema:#VssWriterMetadataInfo"'


def builder() -> WriterMetadataBuilder:
    return WriterMetadataBuilder(
        writer_id=STOCK,
        instance_id=STOCK_INSTANCE,
        name="Stock Writer",
        usage=UsageType.USERDATA,
        source=SourceType.OTHER,
    )


def test_facts_survive_a_document() -> None:
    document = build(stock_metadata())
    assert document.metadata == stock_metadata()
    assert wmd_errors(document.to_xml()) == ""
    assert "\n" not in document.to_xml()
    assert WriterMetadataDocument.parse(document.to_xml()).metadata == stock_metadata()


def test_the_smallest_document_is_valid() -> None:
    text = builder().document().to_xml()
    assert wmd_errors(text) == ""
    assert "<BACKUP_LOCATIONS/>" in text
    assert "backupSchema" not in text
    assert "RESTORE_METHOD" not in text


def test_the_order_of_the_calls_is_the_order_in_the_document() -> None:
    made = builder()
    made.add_exclude_files(ExcludedFiles(path="F:\\a", filespec="*"))
    made.add_component(ComponentInfo(component_type=ComponentType.FILEGROUP, name="g"))
    made.add_exclude_files_from_snapshot(ExcludedFiles(path="F:\\b", filespec="*"))
    made.add_files(None, "g", FileSpec(path="F:\\c", filespec="*"))
    made.set_restore_method(
        RestoreInfo(method=RestoreMethod.CUSTOM, writer_restore=WriterRestore.NEVER)
    )
    made.set_backup_schema(BackupSchema.COPY)
    text = made.document().to_xml()
    assert wmd_errors(text) == ""
    places = [
        text.index(f"<{name}")
        for name in (
            "IDENTIFICATION",
            "RESTORE_METHOD",
            "BACKUP_LOCATIONS",
            "EXCLUDE_FILES ",
            "FILE_GROUP",
            "FILE_LIST",
            "EXCLUDE_FILES_FROM_SNAPSHOT",
        )
    ]
    assert places == sorted(places)


def test_recursive_is_written_only_where_real_documents_have_it() -> None:
    made = builder()
    made.add_component(
        ComponentInfo(
            component_type=ComponentType.FILEGROUP,
            name="g",
            file_sets=(
                FileSpec(path="a", filespec="flat"),
                FileSpec(path="a", filespec="deep", recursive=True),
            ),
        )
    )
    made.add_exclude_files(ExcludedFiles(path="a", filespec="x"))
    text = made.document().to_xml()
    assert 'filespec="flat" filespecBackupType="3855"/>' in text
    assert 'filespec="deep" recursive="yes" filespecBackupType="3855"/>' in text
    assert '<EXCLUDE_FILES path="a" filespec="x" recursive="no"/>' in text


EXPRESS = (
    f'<?xml version="1.0"?>\r\n<WRITER_METADATA {NS}\r\n\tversion="1.2">\r\n'
    '\t<IDENTIFICATION writerId="75DFB225-e2e4-4D39-9ac9-FFAFF65DDF06"\r\n'
    f'\t\tinstanceId="{STOCK}" friendlyName="Express" usage="SOMETHING_NEW"\r\n'
    '\t\tdataSource="WHO_KNOWS" majorVersion="0" minorVersion="0"/>\r\n'
    '\t<BACKUP_LOCATIONS>\r\n\t\t<FILE_GROUP componentName="c" caption="two\r\nlines\r\n"\r\n'
    '\t\t\tselectable="no"><FILE_LIST path="%windir%\\x\\" filespec="*" recursive="no"/>\r\n'
    '\t\t</FILE_GROUP>\r\n\t</BACKUP_LOCATIONS>\r\n\t<RESTORE_METHOD method="NEW_WORD"\r\n'
    '\t\twriterRestore="perhaps" rebootRequired="no"/>\r\n</WRITER_METADATA>'
)


def test_a_loaded_document_is_returned_verbatim() -> None:
    assert WriterMetadataDocument.parse(EXPRESS).to_xml() == EXPRESS
    assert WriterMetadataDocument.parse(EXPRESS + "\r\n").to_xml() == EXPRESS + "\r\n"
    data = xmltext.encode_vshadow(EXPRESS)
    assert WriterMetadataDocument.parse(data).to_xml() == EXPRESS


def test_a_document_with_unknown_words_is_read() -> None:
    metadata = WriterMetadataDocument.parse(EXPRESS).metadata
    assert metadata.writer_id == UUID("75dfb225-e2e4-4d39-9ac9-ffaff65ddf06")
    assert (metadata.usage, metadata.source) == (UsageType.UNDEFINED, SourceType.UNDEFINED)
    assert metadata.restore == RestoreInfo(
        method=RestoreMethod.UNDEFINED, writer_restore=WriterRestore.UNDEFINED
    )
    (component,) = metadata.components
    assert component.caption is not None
    assert component.logical_path is None
    assert component.file_sets == (FileSpec(path="%windir%\\x\\", filespec="*"),)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("<IDENTIFICATION", "<ID", "IDENTIFICATION of the writer is missing"),
        (' friendlyName="Express"', "", "IDENTIFICATION.1./@friendlyName, line"),
        (' componentName="c"', "", "BACKUP_LOCATIONS.1./FILE_GROUP.1./@componentName"),
        (' filespec="*"', "", "FILE_GROUP.1./FILE_LIST.1./@filespec"),
        ('recursive="no"', 'recursive="true"', "FILE_LIST.1./@recursive.*'true'"),
        ('selectable="no"', 'selectable=""', "@selectable"),
        (f'instanceId="{STOCK}"', 'instanceId="x"', "@instanceId.*not a GUID"),
        ('majorVersion="0"', 'majorVersion="one"', "@majorVersion.*not a number"),
    ],
)
def test_a_missing_or_spoilt_item_is_named_by_its_path(old: str, new: str, place: str) -> None:
    assert old in EXPRESS
    with pytest.raises(InvalidXmlDocument, match=place):
        WriterMetadataDocument.parse(EXPRESS.replace(old, new))


def test_a_big_writer_is_read_quickly() -> None:
    sets = tuple(FileSpec(path=f"F:\\d{n}", filespec="*.dll") for n in range(20_000))
    big = ComponentInfo(component_type=ComponentType.FILEGROUP, name="all", file_sets=sets)
    document = build(replace(stock_metadata(), components=(big,)))
    assert len(document.metadata.components[0].file_sets) == 20_000


def test_a_second_component_of_one_path_and_name_exists_already() -> None:
    made = builder()
    made.add_component(ComponentInfo(component_type=ComponentType.FILEGROUP, name="a"))
    with pytest.raises(ObjectAlreadyExists):
        made.add_component(
            ComponentInfo(component_type=ComponentType.DATABASE, logical_path="", name="a")
        )


@pytest.mark.parametrize(
    "files",
    [
        FileSpec(path="F:\\*", filespec="*"),
        FileSpec(path="F:\\a?", filespec="*"),
        FileSpec(path="", filespec="*"),
        FileSpec(path="F:\\", filespec=""),
        FileSpec(path="F:\\", filespec="a\\b"),
        FileSpec(path="F:\\", filespec="*", kind=FileSetKind.DATABASE_FILES),
        FileSpec(path="F:\\\0", filespec="*"),
    ],
)
def test_file_sets_that_no_writer_could_give_are_refused(files: FileSpec) -> None:
    made = builder()
    made.add_component(ComponentInfo(component_type=ComponentType.FILEGROUP, name="g"))
    with pytest.raises(InvalidArgument):
        made.add_files(None, "g", files)


def test_a_database_is_not_recursive() -> None:
    files = FileSpec(path="F:\\", filespec="*", recursive=True, kind=FileSetKind.DATABASE_FILES)
    database = ComponentInfo(component_type=ComponentType.DATABASE, name="d", file_sets=(files,))
    with pytest.raises(InvalidArgument, match="recursive"):
        builder().add_component(database)


def test_calls_out_of_order_say_what_is_missing() -> None:
    mapping = AlternateLocationMapping(path="a", filespec="*", recursive=False, alternate_path="b")
    with pytest.raises(ObjectNotFound, match="restore method"):
        builder().add_alternate_location_mapping(mapping)
    with pytest.raises(ObjectNotFound, match=r"\\no"):
        builder().add_files(None, "no", FileSpec(path="a", filespec="*"))
    with pytest.raises(ObjectNotFound, match=r"\\no"):
        builder().add_component_dependency(
            None, "no", Dependency(writer_id=STOCK, logical_path=None, component_name="x")
        )


def test_undefined_values_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        build(replace(stock_metadata(), usage=UsageType.UNDEFINED))
    with pytest.raises(InvalidArgument):
        builder().set_restore_method(
            RestoreInfo(method=RestoreMethod.UNDEFINED, writer_restore=WriterRestore.NEVER)
        )
    with pytest.raises(InvalidArgument):
        builder().add_component(ComponentInfo(component_type=ComponentType.UNDEFINED, name="a"))


@pytest.mark.parametrize(
    ("table", "members"),
    [
        (words.USAGE, UsageType),
        (words.SOURCE, SourceType),
        (words.RESTORE_METHOD, RestoreMethod),
        (words.WRITER_RESTORE, WriterRestore),
        (words.COMPONENT_TYPE, ComponentType),
    ],
)
def test_every_enumerator_but_undefined_has_one_word(
    table: dict[object, str], members: type[UsageType]
) -> None:
    assert set(table) == {member for member in members if member.name != "UNDEFINED"}
    assert len(set(table.values())) == len(table)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20)
NAMES = TEXT.filter(lambda text: text and "\\" not in text)
DIRECTORIES = TEXT.filter(lambda text: text and not set(text) & set("*?"))
SPECS = NAMES.filter(lambda text: "/" not in text)
FILES = st.builds(
    FileSpec,
    path=DIRECTORIES,
    filespec=SPECS,
    recursive=st.booleans(),
    backup_type=st.integers(0, 0x1FFFF).map(FileSpecBackupType),
    alternate_path=st.none() | TEXT,
)
COMPONENTS = st.builds(
    ComponentInfo,
    component_type=st.just(ComponentType.FILEGROUP),
    logical_path=st.none() | TEXT,
    name=NAMES,
    caption=st.none() | TEXT,
    selectable=st.booleans(),
    selectable_for_restore=st.booleans(),
    icon=st.none() | st.binary(max_size=20),
    file_sets=st.lists(FILES, max_size=3).map(tuple),
)


@given(
    st.builds(
        WriterMetadata,
        writer_id=st.uuids().map(WriterId),
        instance_id=st.uuids().map(WriterInstanceId),
        instance_name=st.none() | TEXT,
        name=TEXT,
        usage=st.sampled_from(sorted(words.USAGE)),
        source=st.sampled_from(sorted(words.SOURCE)),
        backup_schema=st.integers(0, 0xFFFF).map(BackupSchema),
        components=st.lists(
            COMPONENTS, max_size=4, unique_by=lambda c: (c.logical_path or None, c.name)
        ).map(tuple),
    )
)
def test_any_facts_survive_a_document_and_it_is_valid(metadata: WriterMetadata) -> None:
    document = build(metadata)
    assert document.metadata == metadata
    assert wmd_errors(document.to_xml()) == ""
