"""Writes a Writer Metadata Document, call by call as a writer does in OnIdentify.

The order of the calls is the order in the document; readers see it through index-based
calls. `build` writes a document from facts, components before excludes.
Source: IVssCreateWriterMetadata, IVssCreateWriterMetadataEx.
"""

from lxml import etree

from vssemu.vss.documents import items, wmd, words, xmltext
from vssemu.vss.documents.component import full_path
from vssemu.vss.documents.items import ve, write_yes_no
from vssemu.vss.documents.wmd import NAMESPACE, WriterMetadataDocument
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
from vssemu.vss.enums import BackupSchema, ComponentType, SourceType, UsageType
from vssemu.vss.errors import InvalidArgument, ObjectAlreadyExists, ObjectNotFound
from vssemu.vss.identity import WriterId, WriterInstanceId

_KINDS_OF = {
    ComponentType.FILEGROUP: {FileSetKind.FILES},
    ComponentType.DATABASE: {FileSetKind.DATABASE_FILES, FileSetKind.DATABASE_LOG_FILES},
}


class WriterMetadataBuilder:
    """Collects a writer's answer to Identify."""

    def __init__(
        self,
        *,
        writer_id: WriterId,
        instance_id: WriterInstanceId,
        name: str,
        usage: UsageType,
        source: SourceType,
        instance_name: str | None = None,
        major_version: int = 0,
        minor_version: int = 0,
    ) -> None:
        if usage not in words.USAGE or source not in words.SOURCE:
            raise InvalidArgument(
                f"writer {name}: {usage!r} and {source!r} must be defined values",
                hint="give a VSS_UT_* and a VSS_ST_* value other than UNDEFINED",
                item=name,
            )
        nsmap: dict[str | None, str] = {None: NAMESPACE, "ve": xmltext.EXTENSION}
        self._root = xmltext.new_root(f"{{{NAMESPACE}}}{wmd.ROOT}", nsmap)
        self._root.set("version", wmd.VERSION)
        identity = {
            "writerId": str(writer_id),
            "instanceId": str(instance_id),
            "instanceName": instance_name,
            "friendlyName": name,
            "usage": words.USAGE[usage],
            "dataSource": words.SOURCE[source],
            "majorVersion": str(major_version),
            "minorVersion": str(minor_version),
        }
        self._identity = items.add(self._root, "IDENTIFICATION", identity)
        self._locations = items.add(self._root, wmd.LOCATIONS, {})
        self._components: dict[tuple[str | None, str], etree._Element] = {}

    def set_backup_schema(self, schema: BackupSchema) -> None:
        """Declare the backup types that the writer supports; 0 leaves the attribute out."""
        items.put(self._root, "backupSchema", str(int(schema)) if schema else None)

    def set_restore_method(self, restore: RestoreInfo) -> None:
        """Say how to restore, in place of an earlier word, with its location mappings."""
        if restore.method not in words.RESTORE_METHOD or (
            restore.writer_restore not in words.WRITER_RESTORE
        ):
            raise InvalidArgument(
                f"SetRestoreMethod: {restore.method!r}, {restore.writer_restore!r} must be"
                " defined values",
                hint="give VSS_RME_* and VSS_WRE_* values other than UNDEFINED",
            )
        old = items.child(self._root, "RESTORE_METHOD")
        if old is not None:
            self._root.remove(old)
        attributes = {
            "method": words.RESTORE_METHOD[restore.method],
            "writerRestore": words.WRITER_RESTORE[restore.writer_restore],
            "rebootRequired": write_yes_no(restore.reboot_required),
            ve("service"): restore.service,
            ve("userProcedure"): restore.user_procedure,
        }
        element = items.add(self._root, "RESTORE_METHOD", attributes)
        self._identity.addnext(element)
        for mapping in restore.mappings:
            self.add_alternate_location_mapping(mapping)

    def add_alternate_location_mapping(self, mapping: AlternateLocationMapping) -> None:
        """Add a mapping. Raises ObjectNotFound before set_restore_method."""
        element = items.child(self._root, "RESTORE_METHOD")
        if element is None:
            raise ObjectNotFound(
                f"AddAlternateLocationMapping({mapping.path}): no restore method is set",
                hint="call SetRestoreMethod first",
                item=mapping.path,
            )
        _check_files("AddAlternateLocationMapping", mapping.path, mapping.filespec)
        attributes = {
            "path": mapping.path,
            "filespec": mapping.filespec,
            "recursive": write_yes_no(mapping.recursive),
            "alternatePath": mapping.alternate_path,
        }
        items.add(element, ve("alternateLocationMapping"), attributes)

    def add_component(self, component: ComponentInfo) -> None:
        """Add a component with its file sets and dependencies.

        Raises ObjectAlreadyExists for a second one of this path and name, InvalidArgument.
        """
        key = (component.logical_path or None, component.name)
        _check_component(component)
        if key in self._components:
            raise ObjectAlreadyExists(
                f"AddComponent({component.full_path}): the writer has this component",
                hint="path and name identify a component, its type does not",
                item=component.full_path,
            )
        attributes = {
            "logicalPath": component.logical_path,
            "componentName": component.name,
            "caption": component.caption,
            "restoreMetadata": write_yes_no(component.restore_metadata),
            "notifyOnBackupComplete": write_yes_no(component.notify_on_backup_complete),
            "selectable": write_yes_no(component.selectable),
            "selectableForRestore": write_yes_no(component.selectable_for_restore),
            "componentFlags": str(int(component.component_flags)),
            ve("icon"): None if component.icon is None else items.write_base64(component.icon),
        }
        name = words.COMPONENT_ELEMENT[component.component_type]
        self._components[key] = items.add(self._locations, name, attributes)
        for files in component.file_sets:
            self.add_files(component.logical_path, component.name, files)
        for dependency in component.dependencies:
            self.add_component_dependency(component.logical_path, component.name, dependency)

    def add_files(self, logical_path: str | None, name: str, files: FileSpec) -> None:
        """Add a file set to a component; its kind must suit the component's type.

        Raises ObjectNotFound for an unknown component, InvalidArgument.
        Source: AddFilesToFileGroup, AddDatabaseFiles, AddDatabaseLogFiles.
        """
        element = self._component(logical_path, name)
        component_type = words.COMPONENT_OF_ELEMENT[items.local_name(element)]
        _check_files("AddFiles", files.path, files.filespec)
        _check_kind(full_path(logical_path, name), component_type, files)
        attributes = {
            "path": files.path,
            "filespec": files.filespec,
            "recursive": "yes" if files.recursive else None,
            "filespecBackupType": str(int(files.backup_type)),
            ve("alternatePath"): files.alternate_path,
        }
        items.add(element, files.kind.value, attributes)

    def add_component_dependency(
        self, logical_path: str | None, name: str, dependency: Dependency
    ) -> None:
        """Let a component depend on one of another writer. Raises ObjectNotFound."""
        attributes = {
            "writerId": str(dependency.writer_id),
            "logicalPath": dependency.logical_path,
            "componentName": dependency.component_name,
        }
        items.add(self._component(logical_path, name), ve("dependency"), attributes)

    def _component(self, logical_path: str | None, name: str) -> etree._Element:
        try:
            return self._components[logical_path or None, name]
        except KeyError:
            raise ObjectNotFound(
                f"component {full_path(logical_path, name)} was not added",
                hint="call AddComponent first",
                item=full_path(logical_path, name),
            ) from None

    def add_exclude_files(self, files: ExcludedFiles) -> None:
        """Leave files out of the backup, whatever component names them."""
        self._exclude(wmd.EXCLUDE, files)

    def add_exclude_files_from_snapshot(self, files: ExcludedFiles) -> None:
        """Let files be removed from the shadow copy."""
        self._exclude(wmd.EXCLUDE_FROM_SNAPSHOT, files)

    def _exclude(self, name: str, files: ExcludedFiles) -> None:
        _check_files(name, files.path, files.filespec)
        attributes = {
            "path": files.path,
            "filespec": files.filespec,
            "recursive": write_yes_no(files.recursive),
        }
        items.add(self._locations, name, attributes)

    def document(self) -> WriterMetadataDocument:
        """Return the document as it stands; it is read as any other document is."""
        return WriterMetadataDocument.parse(xmltext.serialise(self._root))


def build(metadata: WriterMetadata) -> WriterMetadataDocument:
    """Return the document that says what `metadata` says.

    Raises InvalidArgument for facts that no writer could give through the calls.
    """
    builder = WriterMetadataBuilder(
        writer_id=metadata.writer_id,
        instance_id=metadata.instance_id,
        name=metadata.name,
        usage=metadata.usage,
        source=metadata.source,
        instance_name=metadata.instance_name,
        major_version=metadata.major_version,
        minor_version=metadata.minor_version,
    )
    builder.set_backup_schema(metadata.backup_schema)
    if metadata.restore is not None:
        builder.set_restore_method(metadata.restore)
    for component in metadata.components:
        builder.add_component(component)
    for files in metadata.excludes:
        builder.add_exclude_files(files)
    for files in metadata.excludes_from_snapshot:
        builder.add_exclude_files_from_snapshot(files)
    return builder.document()


def _check_component(component: ComponentInfo) -> None:
    if component.component_type not in words.COMPONENT_TYPE:
        raise InvalidArgument(
            f"AddComponent({component.full_path}): {component.component_type!r} is no"
            " component type",
            hint="give VSS_CT_FILEGROUP or VSS_CT_DATABASE",
            item=component.full_path,
        )
    if not component.name or "\\" in component.name:
        raise InvalidArgument(
            f"AddComponent({component.full_path}): a component has a name, and a name has no"
            " backslash",
            hint="levels belong into the logical path",
            item=component.name,
        )


def _check_files(call: str, path: str, filespec: str) -> None:
    if not path or set(path) & set("*") or "?" in path.removeprefix("\\\\?\\"):
        raise InvalidArgument(
            f"{call}({path}): the path of a file set is a directory without wildcards",
            hint="wildcards belong into the file specification",
            item=path,
        )
    if not filespec or set(filespec) & set("\\/"):
        raise InvalidArgument(
            f"{call}({path}, {filespec}): the file specification is a file name, with * and ?",
            hint="directories belong into the path",
            item=filespec,
        )


def _check_kind(component: str, component_type: ComponentType, files: FileSpec) -> None:
    if files.kind not in _KINDS_OF[component_type]:
        raise InvalidArgument(
            f"component {component}: a {component_type.name} has no {files.kind.value}",
            hint="file groups have files, databases have database files and log files",
            item=component,
        )
    is_database = component_type is ComponentType.DATABASE
    if is_database and (files.recursive or files.alternate_path is not None):
        raise InvalidArgument(
            f"component {component}: file sets of a database are neither recursive nor have"
            " an alternate path",
            hint="use a file group",
            item=component,
        )
