"""The Writer Metadata Document: read, and written from facts.

A document that was loaded keeps its text and gives it back verbatim, for a round through an
XML parser would change line breaks in attributes and the layout of express writers' files.
Words that no table knows do not make a document unreadable: some real ones are not known.
"""

from collections.abc import Mapping
from typing import Final, Self, TypeVar

from lxml import etree

from vssemu.vss.documents import items, words, xmltext
from vssemu.vss.documents.items import ve
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
    ComponentFlags,
    FileSpecBackupType,
    RestoreMethod,
    SourceType,
    UsageType,
    WriterRestore,
)
from vssemu.vss.identity import WriterId, WriterInstanceId

NAME = "Writer Metadata Document"
ROOT = "WRITER_METADATA"
NAMESPACE = "x-schema:#VssWriterMetadataInfo"
VERSION = "1.2"
LOCATIONS = "BACKUP_LOCATIONS"
EXCLUDE = "EXCLUDE_FILES"
EXCLUDE_FROM_SNAPSHOT = "EXCLUDE_FILES_FROM_SNAPSHOT"

_KINDS: Final = {kind.value: kind for kind in FileSetKind}

T = TypeVar("T")


class WriterMetadataDocument:
    """One Writer Metadata Document: its text, and the facts in it."""

    def __init__(self, text: str, metadata: WriterMetadata) -> None:
        self._text = text
        self.metadata = metadata

    @classmethod
    def parse(cls, source: str | bytes, *, limit: int = xmltext.MAX_CHARACTERS) -> Self:
        """Return a loaded document. bytes: a file, in any encoding that Windows writes.

        Raises InvalidXmlDocument for what is not well-formed, not this kind of document, or
        lacks or spoils an item.
        """
        if isinstance(source, bytes):
            source = xmltext.decode(source, document=NAME, limit=limit)
        root = xmltext.parse(source, root=ROOT, namespace=NAMESPACE, document=NAME, limit=limit)
        return cls(source, _read(root))

    def to_xml(self) -> str:
        """Return the text, verbatim when the document was loaded."""
        return self._text


def _read(root: etree._Element) -> WriterMetadata:
    identity = items.child(root, "IDENTIFICATION")
    if identity is None:
        raise items.invalid(root, "the IDENTIFICATION of the writer is missing")
    locations = items.child(root, LOCATIONS)
    entries = [] if locations is None else list(items.elements(locations))
    method = items.child(root, "RESTORE_METHOD")
    return WriterMetadata(
        writer_id=WriterId(items.read_guid(identity, "writerId")),
        instance_id=WriterInstanceId(items.read_guid(identity, "instanceId")),
        instance_name=identity.get("instanceName"),
        name=items.required(identity, "friendlyName"),
        usage=_word(identity, "usage", words.USAGE_OF, UsageType.UNDEFINED),
        source=_word(identity, "dataSource", words.SOURCE_OF, SourceType.UNDEFINED),
        major_version=items.read_number(identity, "majorVersion", default=0),
        minor_version=items.read_number(identity, "minorVersion", default=0),
        backup_schema=BackupSchema(items.read_number(root, "backupSchema", default=0)),
        restore=None if method is None else _read_restore(method),
        components=tuple(
            _read_component(entry)
            for entry in entries
            if items.local_name(entry) in words.COMPONENT_OF_ELEMENT
        ),
        excludes=_read_excludes(entries, EXCLUDE),
        excludes_from_snapshot=_read_excludes(entries, EXCLUDE_FROM_SNAPSHOT),
    )


def _word(element: etree._Element, name: str, table: Mapping[str, T], unknown: T) -> T:
    return table.get(items.required(element, name), unknown)


def _read_restore(element: etree._Element) -> RestoreInfo:
    return RestoreInfo(
        method=_word(element, "method", words.RESTORE_METHOD_OF, RestoreMethod.UNDEFINED),
        writer_restore=_word(
            element, "writerRestore", words.WRITER_RESTORE_OF, WriterRestore.UNDEFINED
        ),
        reboot_required=items.read_yes_no(element, "rebootRequired", default=False),
        service=element.get(ve("service")),
        user_procedure=element.get(ve("userProcedure")),
        mappings=tuple(
            AlternateLocationMapping(
                path=items.required(mapping, "path"),
                filespec=items.required(mapping, "filespec"),
                recursive=items.read_yes_no(mapping, "recursive", default=False),
                alternate_path=items.required(mapping, "alternatePath"),
            )
            for mapping in items.children(element, ve("alternateLocationMapping"))
        ),
    )


def _read_component(element: etree._Element) -> ComponentInfo:
    icon = element.get(ve("icon"))
    return ComponentInfo(
        component_type=words.COMPONENT_OF_ELEMENT[items.local_name(element)],
        logical_path=element.get("logicalPath"),
        name=items.required(element, "componentName"),
        caption=element.get("caption"),
        restore_metadata=items.read_yes_no(element, "restoreMetadata", default=False),
        notify_on_backup_complete=items.read_yes_no(
            element, "notifyOnBackupComplete", default=False
        ),
        selectable=items.read_yes_no(element, "selectable", default=False),
        selectable_for_restore=items.read_yes_no(element, "selectableForRestore", default=False),
        component_flags=ComponentFlags(items.read_number(element, "componentFlags", default=0)),
        icon=None if icon is None else items.read_base64(element, icon, ve("icon")),
        file_sets=tuple(
            _read_file_set(entry)
            for entry in items.elements(element)
            if items.local_name(entry) in _KINDS
        ),
        dependencies=tuple(
            Dependency(
                writer_id=WriterId(items.read_guid(dependency, "writerId")),
                logical_path=dependency.get("logicalPath"),
                component_name=items.required(dependency, "componentName"),
            )
            for dependency in items.children(element, ve("dependency"))
        ),
    )


def _read_file_set(element: etree._Element) -> FileSpec:
    mask = items.read_number(
        element, "filespecBackupType", default=int(FileSpecBackupType.DEFAULT)
    )
    return FileSpec(
        path=items.required(element, "path"),
        filespec=items.required(element, "filespec"),
        recursive=items.read_yes_no(element, "recursive", default=False),
        backup_type=FileSpecBackupType(mask),
        alternate_path=element.get(ve("alternatePath")),
        kind=_KINDS[items.local_name(element)],
    )


def _read_excludes(entries: list[etree._Element], name: str) -> tuple[ExcludedFiles, ...]:
    return tuple(
        ExcludedFiles(
            path=items.required(entry, "path"),
            filespec=items.required(entry, "filespec"),
            recursive=items.read_yes_no(entry, "recursive", default=False),
        )
        for entry in entries
        if items.local_name(entry) == name
    )
