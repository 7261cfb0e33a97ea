"""What a writer sees of the Backup Components Document: its own components, and no more.

A view on `vssemu.vss.documents`; where the event lets writers only read, every setter raises
BadState. What may be changed at all is decided by the service when it takes the part back.
Source: IVssWriterComponents, IVssComponent.
"""

from collections.abc import Iterator

from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.documents.component import (
    Component,
    ComponentFailure,
    DifferencedFile,
    PartialFile,
)
from vssemu.vss.enums import ComponentType
from vssemu.vss.errors import BadState, InvalidArgument
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import WriterInstanceId
from vssemu.vss.writer import WRITER_FAILURES


class WriterComponent:
    """One component that the requester added explicitly."""

    def __init__(self, component: Component, *, is_read_only: bool) -> None:
        self._component = component
        self._is_read_only = is_read_only

    @property
    def logical_path(self) -> str | None:
        """None when the component has none."""
        return self._component.logical_path

    @property
    def name(self) -> str:
        """The component's name."""
        return self._component.name

    @property
    def full_path(self) -> str:
        r"""`\\logical path\\name`."""
        return self._component.full_path

    @property
    def component_type(self) -> ComponentType:
        """VSS_CT_DATABASE or VSS_CT_FILEGROUP."""
        return self._component.component_type

    @property
    def backup_succeeded(self) -> bool:
        """What the requester reported with SetBackupSucceeded; False when it did not."""
        return self._component.backup_succeeded

    @property
    def backup_options(self) -> str | None:
        """The requester's options for this writer; opaque to VSS."""
        return self._component.backup_options

    @property
    def previous_backup_stamp(self) -> str | None:
        """The stamp of the backup that this one builds on."""
        return self._component.previous_backup_stamp

    @property
    def backup_stamp(self) -> str | None:
        """The writer's stamp for this backup; settable in PrepareBackup and PostSnapshot."""
        return self._component.backup_stamp

    @backup_stamp.setter
    def backup_stamp(self, stamp: str) -> None:
        self._writable("SetBackupStamp").backup_stamp = stamp

    @property
    def backup_metadata(self) -> str | None:
        """The writer's private data; None when it set none."""
        return self._component.backup_metadata

    def set_backup_metadata(self, metadata: str) -> None:
        """Store private data, once. Raises ObjectAlreadyExists the second time, BadState."""
        self._writable("SetBackupMetadata").set_backup_metadata(metadata)

    @property
    def partial_files(self) -> tuple[PartialFile, ...]:
        """The files of which only ranges are backed up."""
        return self._component.partial_files

    def add_partial_file(self, file: PartialFile) -> None:
        """Have only ranges of a file backed up. Raises BadState, InvalidArgument."""
        component = self._writable("AddPartialFile")
        component.partial_files = (*component.partial_files, file)

    @property
    def differenced_files(self) -> tuple[DifferencedFile, ...]:
        """The files that are backed up only when they changed since a time."""
        return self._component.differenced_files

    def add_differenced_files(self, files: DifferencedFile) -> None:
        """Have files backed up only when they changed since a time. Raises BadState."""
        component = self._writable("AddDifferencedFilesByLastModifyTime")
        component.differenced_files = (*component.differenced_files, files)

    def set_failure(
        self, hresult: Hresult, application_hresult: int = 0, message: str | None = None
    ) -> None:
        """Report that this component failed; the writer then sets PARTIAL_FAILURE.

        Raises BadState, InvalidArgument for a code that writers may not set.
        Source: IVssComponentEx2::SetFailure.
        """
        if hresult not in WRITER_FAILURES:
            raise InvalidArgument(
                f"SetFailure({self.full_path}): {hresult} is none of a writer's codes",
                hint="give a VSS_E_WRITERERROR_* code",
                item=str(hresult),
            )
        self._writable("SetFailure").failure = ComponentFailure(
            hresult=hresult, application_hresult=application_hresult, message=message
        )

    def set_prepare_for_backup_failure_message(self, message: str) -> None:
        """Say why preparing this component failed. Raises BadState."""
        component = self._writable("SetPrepareForBackupFailureMsg")
        component.prepare_for_backup_failure_message = message

    def set_post_snapshot_failure_message(self, message: str) -> None:
        """Say why this component failed after the snapshot. Raises BadState."""
        self._writable("SetPostSnapshotFailureMsg").post_snapshot_failure_message = message

    def _writable(self, call: str) -> Component:
        if self._is_read_only:
            raise BadState(
                f"{call}({self.full_path}): the document is read-only in this event",
                hint="set stamps, metadata and files in OnPrepareBackup or OnPostSnapshot",
                item=self.full_path,
            )
        return self._component

    def __repr__(self) -> str:
        return f"<WriterComponent {self.full_path}>"


class Components:
    """The writer's part of one backup's document; iterate for its components.

    text: the part as it came. Raises InvalidXmlDocument when it is not such a document.
    """

    def __init__(self, text: str, instance_id: WriterInstanceId, *, is_read_only: bool) -> None:
        self._document = BackupComponentsDocument.parse(text)
        self._before = self._document.to_xml()
        self._components = tuple(
            WriterComponent(component, is_read_only=is_read_only)
            for component in self._document.components(instance_id)
        )

    def find(self, logical_path: str | None, name: str) -> WriterComponent | None:
        """Return the component of that logical path and name, None when it was not added."""
        for component in self._components:
            if (component.logical_path or None, component.name) == (logical_path or None, name):
                return component
        return None

    def changed(self) -> str | None:
        """Return the part as the writer changed it, None when it did not."""
        text = self._document.to_xml()
        return None if text == self._before else text

    def __iter__(self) -> Iterator[WriterComponent]:
        return iter(self._components)

    def __len__(self) -> int:
        return len(self._components)
