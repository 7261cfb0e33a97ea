"""The facts of Writer Metadata, as frozen values.

Owns the shapes only: `vssemu.vss.documents.wmd` reads and writes the document. Paths and file
specifications stay as the writer gave them: case, variables and trailing separators included.
Source: IVssCreateWriterMetadata, IVssExamineWriterMetadata, IVssWMComponent.
"""

from dataclasses import dataclass
from enum import Enum

from vssemu.vss.documents.component import full_path
from vssemu.vss.enums import (
    BackupSchema,
    ComponentFlags,
    ComponentType,
    FileSpecBackupType,
    RestoreMethod,
    SourceType,
    UsageType,
    WriterRestore,
)
from vssemu.vss.identity import WriterId, WriterInstanceId


class FileSetKind(Enum):
    """The element in which a file set stands."""

    FILES = "FILE_LIST"
    DATABASE_FILES = "DATABASE_FILES"
    DATABASE_LOG_FILES = "DATABASE_LOGFILES"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSpec:
    """A file set of a component.

    path: a directory as the writer's host sees it, no wildcards, variables unexpanded.
    filespec: a file name with `*` and `?`. backup_type: VSS_FILE_SPEC_BACKUP_TYPE.
    alternate_path: where to read from at backup, when that is not `path`.
    """

    path: str
    filespec: str
    recursive: bool = False
    backup_type: FileSpecBackupType = FileSpecBackupType.DEFAULT
    alternate_path: str | None = None
    kind: FileSetKind = FileSetKind.FILES

    @property
    def source_path(self) -> str:
        """The directory that a backup reads: the alternate path when there is one."""
        return self.alternate_path or self.path


@dataclass(frozen=True, kw_only=True, slots=True)
class ExcludedFiles:
    """Files that are left out; the exclude list wins over components."""

    path: str
    filespec: str
    recursive: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AlternateLocationMapping:
    """Where files of a file set are restored to when they cannot go back."""

    path: str
    filespec: str
    recursive: bool
    alternate_path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependency:
    """A component of another writer that must be backed up with this one."""

    writer_id: WriterId
    logical_path: str | None
    component_name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreInfo:
    """How the writer wants to be restored. Source: SetRestoreMethod.

    A word that no table knows reads as UNDEFINED.
    """

    method: RestoreMethod
    writer_restore: WriterRestore
    reboot_required: bool = False
    service: str | None = None
    user_procedure: str | None = None
    mappings: tuple[AlternateLocationMapping, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentInfo:
    """A component as its writer describes it. Source: VSS_COMPONENTINFO."""

    component_type: ComponentType
    logical_path: str | None = None
    name: str
    caption: str | None = None
    restore_metadata: bool = False
    notify_on_backup_complete: bool = False
    selectable: bool = False
    selectable_for_restore: bool = False
    component_flags: ComponentFlags = ComponentFlags.NONE
    icon: bytes | None = None
    file_sets: tuple[FileSpec, ...] = ()
    dependencies: tuple[Dependency, ...] = ()

    @property
    def full_path(self) -> str:
        r"""`\logical path\name`, as the tools print and take it."""
        return full_path(self.logical_path, self.name)

    def is_above(self, other: "ComponentInfo") -> bool:
        """True when `other` is a subcomponent, at any depth, of this component."""
        return other.full_path.startswith(self.full_path + "\\")


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterMetadata:
    """All that one writer says of itself in answer to Identify.

    usage, source: UNDEFINED for a word that no table knows.
    """

    writer_id: WriterId
    instance_id: WriterInstanceId
    instance_name: str | None = None
    name: str
    usage: UsageType
    source: SourceType
    major_version: int = 0
    minor_version: int = 0
    backup_schema: BackupSchema = BackupSchema.UNDEFINED
    restore: RestoreInfo | None = None
    components: tuple[ComponentInfo, ...] = ()
    excludes: tuple[ExcludedFiles, ...] = ()
    excludes_from_snapshot: tuple[ExcludedFiles, ...] = ()

    def component(self, logical_path: str | None, name: str) -> ComponentInfo | None:
        """Return the component of that logical path and name, None when there is none."""
        for component in self.components:
            if (component.logical_path or None, component.name) == (logical_path or None, name):
                return component
        return None
