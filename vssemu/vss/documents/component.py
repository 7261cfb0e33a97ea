"""One COMPONENT of a Backup Components Document: typed access to what is known of it.

`Component` is a view on the tree, like IVssComponent: it holds no state of its own, so what
it does not know stays in the document. Who may call what, and when, is the service's rule;
`vssemu.vss.documents.merge` decides what a writer may change.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lxml import etree

from vssemu.vss.documents import items, words
from vssemu.vss.documents.items import ve
from vssemu.vss.enums import ComponentType
from vssemu.vss.errors import InvalidArgument, ObjectAlreadyExists
from vssemu.vss.identity import WriterId, WriterInstanceId

ELEMENT = "COMPONENT"
METADATA = "BACKUP_METADATA"

ATTRIBUTE_ORDER = (
    "logicalPath",
    "componentName",
    "componentType",
    "backupStamp",
    *(
        ve(name)
        for name in (
            "previousBackupStamp",
            "backupOptions",
            "backupSucceeded",
            "prepareForBackupFailureMsg",
            "postSnapshotFailureMsg",
            "failureHr",
            "failureApplicationHr",
            "failureMessage",
        )
    ),
)

_RANGE = r"(?:0[xX][0-9A-Fa-f]+|[0-9]+)"
_RANGES = re.compile(rf"{_RANGE}:{_RANGE}(?:, ?{_RANGE}:{_RANGE})*")


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentKey:
    """What names a component in a document: writer instance, logical path and name.

    The type is not part of it. logical_path: None and an empty one are the same key.
    """

    instance_id: WriterInstanceId
    logical_path: str | None
    component_name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "logical_path", self.logical_path or None)

    @property
    def full_path(self) -> str:
        r"""`\logical path\name`, as the tools print and take it."""
        return full_path(self.logical_path, self.component_name)


def full_path(logical_path: str | None, component_name: str) -> str:
    r"""Return `\logical path\name`; `\name` without a logical path."""
    inner = (logical_path or "").strip("\\")
    return f"\\{inner}\\{component_name}" if inner else f"\\{component_name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialFile:
    """A file of which only ranges are backed up. Source: IVssComponent::AddPartialFile.

    path: directory; filename: no wildcards; ranges: `offset:length, ...` in bytes, decimal or
    hexadecimal, or the full path of a ranges file.
    """

    path: str
    filename: str
    ranges: str
    metadata: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DifferencedFile:
    """Files to be compared with the last backup by date.

    last_modify_time: 100 ns units since 1601-01-01 UTC. lsn: opaque.
    Source: IVssComponent::AddDifferencedFilesByLastModifyTime.
    """

    path: str
    filespec: str
    recursive: bool
    last_modify_time: int | None = None
    lsn: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentFailure:
    """What IVssComponentEx2::SetFailure says of one component."""

    hresult: int
    application_hresult: int = 0
    message: str | None = None


class Component:
    """A component that a requester added explicitly."""

    def __init__(self, element: etree._Element) -> None:
        self.element = element

    @property
    def logical_path(self) -> str | None:
        """None when the document gives none."""
        return self.element.get("logicalPath")

    @property
    def name(self) -> str:
        """The component's name. Raises InvalidXmlDocument when it has none."""
        return items.required(self.element, "componentName")

    @property
    def component_type(self) -> ComponentType:
        """VSS_CT_FILEGROUP or VSS_CT_DATABASE."""
        return items.read_word(self.element, "componentType", words.COMPONENT_TYPE_OF)

    @property
    def full_path(self) -> str:
        r"""`\logical path\name`."""
        return full_path(self.logical_path, self.name)

    @property
    def instance_id(self) -> WriterInstanceId:
        """The writer instance under which the component stands."""
        return WriterInstanceId(items.read_guid(self._writer(), "instanceId"))

    @property
    def writer_id(self) -> WriterId:
        """The writer class under which the component stands."""
        return WriterId(items.read_guid(self._writer(), "writerId"))

    def _writer(self) -> etree._Element:
        writer = self.element.getparent()
        assert writer is not None, "a COMPONENT stands in a WRITER_COMPONENTS"
        return writer

    @property
    def key(self) -> ComponentKey:
        """What names the component in its document."""
        return ComponentKey(
            instance_id=self.instance_id,
            logical_path=self.logical_path,
            component_name=self.name,
        )

    @property
    def backup_stamp(self) -> str | None:
        """The writer's stamp for this backup; opaque."""
        return self.element.get("backupStamp")

    @backup_stamp.setter
    def backup_stamp(self, stamp: str | None) -> None:
        self._put("backupStamp", stamp)

    @property
    def previous_backup_stamp(self) -> str | None:
        """The stamp of the backup that this one builds on; opaque."""
        return self.element.get(ve("previousBackupStamp"))

    @previous_backup_stamp.setter
    def previous_backup_stamp(self, stamp: str | None) -> None:
        self._put(ve("previousBackupStamp"), stamp)

    @property
    def backup_options(self) -> str | None:
        """The requester's options for the writer; opaque."""
        return self.element.get(ve("backupOptions"))

    @backup_options.setter
    def backup_options(self, options: str | None) -> None:
        self._put(ve("backupOptions"), options)

    @property
    def backup_succeeded(self) -> bool:
        """What SetBackupSucceeded said; False when it was not called."""
        return items.read_yes_no(self.element, ve("backupSucceeded"), default=False)

    @backup_succeeded.setter
    def backup_succeeded(self, succeeded: bool) -> None:
        self._put(ve("backupSucceeded"), items.write_yes_no(succeeded))

    @property
    def prepare_for_backup_failure_message(self) -> str | None:
        """IVssComponent::SetPrepareForBackupFailureMsg."""
        return self.element.get(ve("prepareForBackupFailureMsg"))

    @prepare_for_backup_failure_message.setter
    def prepare_for_backup_failure_message(self, message: str | None) -> None:
        self._put(ve("prepareForBackupFailureMsg"), message)

    @property
    def post_snapshot_failure_message(self) -> str | None:
        """IVssComponent::SetPostSnapshotFailureMsg."""
        return self.element.get(ve("postSnapshotFailureMsg"))

    @post_snapshot_failure_message.setter
    def post_snapshot_failure_message(self, message: str | None) -> None:
        self._put(ve("postSnapshotFailureMsg"), message)

    @property
    def failure(self) -> ComponentFailure | None:
        """What SetFailure said of this component; None when it was not called."""
        if self.element.get(ve("failureHr")) is None:
            return None
        return ComponentFailure(
            hresult=items.read_number(self.element, ve("failureHr")),
            application_hresult=items.read_number(
                self.element, ve("failureApplicationHr"), default=0
            ),
            message=self.element.get(ve("failureMessage")),
        )

    @failure.setter
    def failure(self, failure: ComponentFailure | None) -> None:
        self._put(ve("failureHr"), None if failure is None else _hex32(failure.hresult))
        self._put(
            ve("failureApplicationHr"),
            None if failure is None else _hex32(failure.application_hresult),
        )
        self._put(ve("failureMessage"), None if failure is None else failure.message)

    @property
    def backup_metadata(self) -> str | None:
        """The writer's private data; None when it set none."""
        element = items.child(self.element, METADATA)
        return None if element is None else items.required(element, "metadata")

    def set_backup_metadata(self, metadata: str) -> None:
        """Store the writer's private data, once.

        Raises ObjectAlreadyExists the second time.
        Source: IVssComponent::SetBackupMetadata.
        """
        if items.child(self.element, METADATA) is not None:
            raise ObjectAlreadyExists(
                f"SetBackupMetadata({self.full_path}): the component has backup metadata",
                hint="set it once only",
                item=self.full_path,
            )
        # Real documents have this element in no namespace. One that is made, not parsed,
        # would be written without xmlns="" and change its namespace at the next reading.
        element = etree.fromstring(f'<{METADATA} xmlns=""/>')
        self.element.insert(0, element)
        try:
            items.put(element, "metadata", metadata)
        except InvalidArgument:
            self.element.remove(element)
            raise

    @property
    def partial_files(self) -> tuple[PartialFile, ...]:
        """In the order in which the writer added them."""
        return tuple(
            PartialFile(
                path=items.required(file, "path"),
                filename=items.required(file, "filename"),
                ranges=items.required(file, "ranges"),
                metadata=file.get("metadata"),
            )
            for file in items.children(self.element, ve("partialFile"))
        )

    @partial_files.setter
    def partial_files(self, files: Iterable[PartialFile]) -> None:
        files = tuple(files)
        for file in files:
            _check_partial_file(file)
        self._clear(ve("partialFile"))
        for file in files:
            attributes = {
                "path": file.path,
                "filename": file.filename,
                "ranges": file.ranges,
                "metadata": file.metadata,
            }
            items.add(self.element, ve("partialFile"), attributes)

    @property
    def differenced_files(self) -> tuple[DifferencedFile, ...]:
        """In the order in which the writer added them."""
        return tuple(
            DifferencedFile(
                path=items.required(file, "path"),
                filespec=items.required(file, "filespec"),
                recursive=items.read_yes_no(file, "recursive"),
                last_modify_time=None
                if file.get("lastModifyTime") is None
                else items.read_number(file, "lastModifyTime", bits=64),
                lsn=file.get("lsn"),
            )
            for file in items.children(self.element, ve("differencedFile"))
        )

    @differenced_files.setter
    def differenced_files(self, files: Iterable[DifferencedFile]) -> None:
        files = tuple(files)
        self._clear(ve("differencedFile"))
        for file in files:
            time = file.last_modify_time
            attributes = {
                "path": file.path,
                "filespec": file.filespec,
                "recursive": items.write_yes_no(file.recursive),
                "lsn": file.lsn,
                "lastModifyTime": None if time is None else str(time),
            }
            items.add(self.element, ve("differencedFile"), attributes)

    def _put(self, name: str, value: str | None) -> None:
        items.put(self.element, name, value, ATTRIBUTE_ORDER)

    def _clear(self, name: str) -> None:
        for old in list(items.children(self.element, name)):
            self.element.remove(old)


def _check_partial_file(file: PartialFile) -> None:
    if not file.filename or set(file.filename) & set("*?\\"):
        raise InvalidArgument(
            f"AddPartialFile({file.path}, {file.filename}): not the name of one file",
            hint="give a name without wildcards and without a path",
            item=file.filename,
        )
    is_ranges_file = "\\" in file.ranges or file.ranges.startswith("/")
    if not is_ranges_file and not _RANGES.fullmatch(file.ranges):
        raise InvalidArgument(
            f"AddPartialFile({file.filename}): {file.ranges[:80]!r} is no list of ranges",
            hint="give offset:length, comma-separated, or the path of a ranges file",
            item=file.ranges[:80],
        )


def _hex32(number: int) -> str:
    return f"0x{number & 0xFFFF_FFFF:08x}"
