"""The Backup Components Document: what a requester and its writers say of one backup.

The lxml tree is the document; this class is a typed view on it, so elements and attributes
that nobody here knows survive a load and a save. No file and no path is in it but what
writers add (partial and differenced files): files come from Writer Metadata.
"""

from dataclasses import dataclass
from typing import Self

from lxml import etree

from vssemu.vss.documents import items, merge, setdescription, words, xmltext
from vssemu.vss.documents.component import ATTRIBUTE_ORDER as COMPONENT_ORDER
from vssemu.vss.documents.component import ELEMENT as COMPONENT
from vssemu.vss.documents.component import Component, ComponentKey, full_path
from vssemu.vss.documents.merge import WRITER_COMPONENTS
from vssemu.vss.enums import BackupType, ComponentType
from vssemu.vss.errors import InvalidArgument, ObjectAlreadyExists, ObjectNotFound
from vssemu.vss.identity import SnapshotSetId, WriterId, WriterInstanceId
from vssemu.vss.snapshot import SnapshotSetDescription

NAME = "Backup Components Document"
ROOT = "BACKUP_COMPONENTS"
NAMESPACE = "x-schema:#VssComponentMetadata"
VERSION = "1.2"

_ROOT_ORDER = (
    "version",
    "bootableSystemStateBackup",
    "selectComponents",
    "backupType",
    "partialFileSupport",
    "snapshotSetId",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BackupState:
    """What IVssBackupComponents::SetBackupState sets and writers read."""

    select_components: bool
    bootable_system_state: bool
    backup_type: BackupType
    partial_file_support: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterComponents:
    """A writer with components in the document, and those components in document order."""

    writer_id: WriterId
    instance_id: WriterInstanceId
    instance_name: str | None
    backup_schema: int
    components: tuple[Component, ...]


class BackupComponentsDocument:
    """One Backup Components Document, new or loaded."""

    def __init__(self, root: etree._Element) -> None:
        self._root = root

    @classmethod
    def new(cls) -> Self:
        """Return the document that InitializeForBackup begins with."""
        nsmap: dict[str | None, str] = {None: NAMESPACE, "ve": xmltext.EXTENSION}
        root = xmltext.new_root(f"{{{NAMESPACE}}}{ROOT}", nsmap)
        root.set("version", VERSION)
        return cls(root)

    @classmethod
    def parse(cls, source: str | bytes, *, limit: int = xmltext.MAX_CHARACTERS) -> Self:
        """Return a loaded document. bytes: a file, in any encoding that Windows writes.

        Raises InvalidXmlDocument for what is not well-formed, not this kind of document, or
        lacks or spoils an item of the state, of a writer or of a component.
        """
        root = xmltext.parse(source, root=ROOT, namespace=NAMESPACE, document=NAME, limit=limit)
        document = cls(root)
        document._read_all()
        return document

    def _read_all(self) -> None:
        """Read every item that is used later, so that a spoilt one is named at the load."""
        self.backup_state  # noqa: B018
        self.snapshot_set_id  # noqa: B018
        for writer in self.writers():
            for component in writer.components:
                component.key  # noqa: B018
                component.component_type  # noqa: B018

    def to_xml(self) -> str:
        """Return the document's text: one line for a document that was made here."""
        return xmltext.serialise(self._root)

    @property
    def backup_state(self) -> BackupState | None:
        """What SetBackupState set; None when it was not called."""
        root = self._root
        if root.get("backupType") is None:
            return None
        return BackupState(
            select_components=items.read_yes_no(root, "selectComponents", default=False),
            bootable_system_state=items.read_yes_no(
                root, "bootableSystemStateBackup", default=False
            ),
            backup_type=items.read_word(root, "backupType", words.BACKUP_TYPE_OF),
            partial_file_support=items.read_yes_no(root, "partialFileSupport", default=False),
        )

    def set_backup_state(self, state: BackupState) -> None:
        """Set the four state attributes. Raises InvalidArgument for VSS_BT_UNDEFINED."""
        if state.backup_type not in words.BACKUP_TYPE:
            raise InvalidArgument(
                f"SetBackupState: {state.backup_type!r} is no backup type",
                hint="give a VSS_BT_* value other than UNDEFINED",
                item=str(int(state.backup_type)),
            )
        values = {
            "bootableSystemStateBackup": items.write_yes_no(state.bootable_system_state),
            "selectComponents": items.write_yes_no(state.select_components),
            "backupType": words.BACKUP_TYPE[state.backup_type],
            "partialFileSupport": items.write_yes_no(state.partial_file_support),
        }
        for name, value in values.items():
            items.put(self._root, name, value, _ROOT_ORDER)

    @property
    def snapshot_set_id(self) -> SnapshotSetId | None:
        """The shadow copy set of this backup; None before StartSnapshotSet."""
        if self._root.get("snapshotSetId") is None:
            return None
        return SnapshotSetId(items.read_guid(self._root, "snapshotSetId"))

    @snapshot_set_id.setter
    def snapshot_set_id(self, set_id: SnapshotSetId | None) -> None:
        value = None if set_id is None else str(set_id)
        items.put(self._root, "snapshotSetId", value, _ROOT_ORDER)

    def writers(self) -> tuple[WriterComponents, ...]:
        """Return the writers with components, in the order in which they were added."""
        return tuple(
            WriterComponents(
                writer_id=WriterId(items.read_guid(element, "writerId")),
                instance_id=WriterInstanceId(items.read_guid(element, "instanceId")),
                instance_name=element.get("instanceName"),
                backup_schema=items.read_number(element, "backupSchema", default=0),
                components=tuple(Component(c) for c in items.children(element, COMPONENT)),
            )
            for element in items.children(self._root, WRITER_COMPONENTS)
        )

    def components(self, instance_id: WriterInstanceId) -> tuple[Component, ...]:
        """Return a writer's components; an empty tuple for a writer without any."""
        return tuple(
            component
            for writer in self.writers()
            if writer.instance_id == instance_id
            for component in writer.components
        )

    def component(self, key: ComponentKey) -> Component:
        """Return the component of that key. Raises ObjectNotFound."""
        for component in self.components(key.instance_id):
            if component.key == key:
                return component
        raise ObjectNotFound(
            f"component {key.full_path} of writer instance {key.instance_id} is not in the"
            " document",
            hint="add it with AddComponent first; implicitly included components are not in it",
            item=key.full_path,
        )

    def add_component(
        self,
        *,
        writer_id: WriterId,
        instance_id: WriterInstanceId,
        component_type: ComponentType,
        logical_path: str | None,
        component_name: str,
        instance_name: str | None = None,
        backup_schema: int = 0,
    ) -> Component:
        """Add a component of a writer, at the end, and return it.

        instance_name, backup_schema: the writer's, from its metadata.
        Raises ObjectAlreadyExists for a second one of this path and name, InvalidArgument.
        Source: IVssBackupComponents::AddComponent.
        """
        key = ComponentKey(
            instance_id=instance_id, logical_path=logical_path, component_name=component_name
        )
        _check_new(key, component_type)
        if any(component.key == key for component in self.components(instance_id)):
            raise ObjectAlreadyExists(
                f"AddComponent({key.full_path}): the writer instance {instance_id} has it in"
                " the document",
                hint="path and name identify a component, its type does not",
                item=key.full_path,
            )
        element = etree.Element(f"{{{NAMESPACE}}}{COMPONENT}")
        values = {
            "logicalPath": logical_path,
            "componentName": component_name,
            "componentType": words.COMPONENT_TYPE[component_type],
        }
        for name, value in values.items():
            items.put(element, name, value, COMPONENT_ORDER)
        writer = self._writer_element(writer_id, instance_id, instance_name, backup_schema)
        writer.append(element)
        return Component(element)

    def _writer_element(
        self,
        writer_id: WriterId,
        instance_id: WriterInstanceId,
        instance_name: str | None,
        backup_schema: int,
    ) -> etree._Element:
        found = merge.writer_element(self._root, instance_id)
        if found is not None:
            if items.read_guid(found, "writerId") != writer_id:
                raise InvalidArgument(
                    f"AddComponent: instance {instance_id} belongs to writer"
                    f" {items.read_guid(found, 'writerId')}, not to {writer_id}",
                    item=str(writer_id),
                )
            return found
        element = etree.Element(f"{{{NAMESPACE}}}{WRITER_COMPONENTS}")
        items.put(element, "instanceId", str(instance_id))
        items.put(element, "writerId", str(writer_id))
        items.put(element, "instanceName", instance_name)
        items.put(element, "backupSchema", str(int(backup_schema)))
        description = items.child(self._root, setdescription.ELEMENT)
        if description is None:
            self._root.append(element)
        else:
            description.addprevious(element)
        return element

    def writer_part(self, instance_id: WriterInstanceId) -> str:
        """Return what one writer is shown: the state, the set id and its own components."""
        return xmltext.serialise(merge.part_of(self._root, instance_id))

    def merge_writer_part(
        self, instance_id: WriterInstanceId, text: str | bytes, *, read_only: bool
    ) -> None:
        """Take over what a writer changed in its part; all of it or nothing.

        read_only: the event lets writers only read, so any change is refused.
        Raises InvalidXmlDocument for a text that is no such document, BadState for a change
        in a read-only event, InvalidArgument for a change that is not a writer's to make,
        ObjectAlreadyExists for backup metadata set twice.
        """
        changed = type(self).parse(text)
        merge.take_over(self._root, changed._root, instance_id, read_only=read_only)

    def set_snapshot_set_description(self, description: SnapshotSetDescription) -> None:
        """Write the description of a transportable set, in place of an earlier one."""
        setdescription.write(self._root, description)

    def snapshot_set_description(self) -> SnapshotSetDescription:
        """Return the transportable set that the document describes, for an import.

        Raises NonTransportableBcd when it describes none, InvalidXmlDocument when LUN
        information or another needed item is missing.
        """
        return setdescription.read(self._root)

    @property
    def is_transportable(self) -> bool:
        """True when the document has a snapshot set description, complete or not."""
        return items.child(self._root, setdescription.ELEMENT) is not None


def _check_new(key: ComponentKey, component_type: ComponentType) -> None:
    if component_type not in words.COMPONENT_TYPE:
        raise InvalidArgument(
            f"AddComponent({key.full_path}): {component_type!r} is no component type",
            hint="give VSS_CT_FILEGROUP or VSS_CT_DATABASE",
            item=key.full_path,
        )
    if not key.component_name or "\\" in key.component_name:
        raise InvalidArgument(
            f"AddComponent({full_path(key.logical_path, key.component_name)}): a component"
            " has a name, and a name has no backslash",
            hint="levels belong into the logical path",
            item=key.component_name,
        )
