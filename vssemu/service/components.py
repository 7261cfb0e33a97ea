"""Components of a backup: what AddComponent takes, and SetBackupSucceeded.

Source: IVssBackupComponents::AddComponent, SetBackupSucceeded; working with selectability.
"""

from dataclasses import dataclass

from vssemu.service.participants import Participants
from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.documents.component import ComponentKey
from vssemu.vss.documents.selection import may_be_added
from vssemu.vss.documents.writer import ComponentInfo, WriterMetadata
from vssemu.vss.enums import ComponentType
from vssemu.vss.errors import InvalidArgument, ObjectNotFound
from vssemu.vss.identity import WriterId, WriterInstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """How a requester names a component."""

    instance_id: WriterInstanceId
    writer_id: WriterId
    component_type: ComponentType
    logical_path: str | None
    component_name: str

    @property
    def key(self) -> ComponentKey:
        """What names it in the document."""
        return ComponentKey(
            instance_id=self.instance_id,
            logical_path=self.logical_path,
            component_name=self.component_name,
        )


def add(document: BackupComponentsDocument, writers: Participants, name: Name) -> None:
    """Add a component of a gathered writer to the document.

    Raises ObjectNotFound for a writer or component that was not gathered, InvalidArgument for
    one that comes with another only, ObjectAlreadyExists.
    """
    member = writers.find(name.instance_id)
    if (
        member is None
        or member.metadata is None
        or (member.instance.identity.writer_id != name.writer_id)
    ):
        raise ObjectNotFound(
            f"AddComponent: no writer {name.writer_id} with instance {name.instance_id} was"
            " gathered",
            hint="take both ids from the gathered metadata",
            item=str(name.instance_id),
        )
    metadata = member.metadata.metadata
    component = _described(metadata, name)
    if not may_be_added(component, metadata.components):
        raise InvalidArgument(
            f"AddComponent({name.key.full_path}): it is not selectable and comes with the"
            " component above it",
            hint="add that one",
            item=name.key.full_path,
        )
    document.add_component(
        writer_id=name.writer_id,
        instance_id=name.instance_id,
        component_type=name.component_type,
        logical_path=name.logical_path,
        component_name=name.component_name,
        instance_name=member.instance.identity.instance_name,
        backup_schema=int(metadata.backup_schema),
    )


def set_succeeded(document: BackupComponentsDocument, name: Name, *, succeeded: bool) -> None:
    """Record whether a component was backed up. Raises ObjectNotFound."""
    component = document.component(name.key)
    if (component.writer_id, component.component_type) != (name.writer_id, name.component_type):
        raise ObjectNotFound(
            f"SetBackupSucceeded({name.key.full_path}): writer or type are not the component's",
            item=name.key.full_path,
        )
    component.backup_succeeded = succeeded


def _described(metadata: WriterMetadata, name: Name) -> ComponentInfo:
    for component in metadata.components:
        same = (component.logical_path or None) == (name.logical_path or None)
        if same and (component.name, component.component_type) == (
            name.component_name,
            name.component_type,
        ):
            return component
    raise ObjectNotFound(
        f"AddComponent({name.key.full_path}): writer {metadata.name} has no such component",
        item=name.key.full_path,
    )
