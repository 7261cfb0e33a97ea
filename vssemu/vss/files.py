"""The list of files that a requester must copy from shadow copies.

Components in the Backup Components Document are explicit; their subcomponents come from
Writer Metadata. Both documents travel to the importing host, so the list is the same there.
Not in the list, and reported: file sets on volumes that were not copied, paths with
environment variables (only the originating host knows their values), components that no
metadata describes. Ranges of partial files are the requester's business: the list has whole
files, and `Component.partial_files` the ranges.
No file is opened here: whoever walks a directory asks `FilesToCopy.takes`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from vssemu.vss.documents.bcd import BackupComponentsDocument, WriterComponents
from vssemu.vss.documents.component import full_path
from vssemu.vss.documents.selection import descendants
from vssemu.vss.documents.writer import ComponentInfo, ExcludedFiles, FileSpec, WriterMetadata
from vssemu.vss.enums import BackupSchema, BackupType, FileSpecBackupType
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.identity import WriterId
from vssemu.vss.paths import CopiedVolume, copied_volume, copy_of, matches, path_in

__all__ = [
    "CopiedVolume",
    "Exclusion",
    "FileList",
    "FilesToCopy",
    "Missing",
    "MissingFiles",
    "copied_volume",
    "copy_of",
    "files_to_back_up",
    "matches",
    "path_in",
]

_REQUIRED: Mapping[BackupType, FileSpecBackupType] = {
    BackupType.INCREMENTAL: FileSpecBackupType.INCREMENTAL_BACKUP_REQUIRED,
    BackupType.DIFFERENTIAL: FileSpecBackupType.DIFFERENTIAL_BACKUP_REQUIRED,
    BackupType.LOG: FileSpecBackupType.LOG_BACKUP_REQUIRED,
}
_SCHEMA: Mapping[BackupType, BackupSchema] = {
    BackupType.INCREMENTAL: BackupSchema.INCREMENTAL,
    BackupType.DIFFERENTIAL: BackupSchema.DIFFERENTIAL,
    BackupType.LOG: BackupSchema.LOG,
}


class Missing(Enum):
    """Why files are not in the list."""

    NOT_COPIED = "its volume is not among the shadow copies"
    UNPLACED = "its path has an environment variable or is not absolute"
    MADE_DURING_BACKUP = "the writer makes it during the backup, so no shadow copy has it"
    NO_METADATA = "no metadata of its writer was given"
    NO_COMPONENT = "its writer's metadata does not describe the component"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusion:
    """Files that the writer leaves out. path: below the device object."""

    path: str
    filespec: str
    recursive: bool

    def takes(self, directory: str, name: str) -> bool:
        """Tell whether the file `name` in `directory` is left out."""
        return _takes(self.path, self.filespec, self.recursive, directory, name)


@dataclass(frozen=True, kw_only=True, slots=True)
class FilesToCopy:
    r"""One file set to copy.

    component: full path `\logical path\name`. path: the directory to read, below the device
    object. original_path: the directory as the writer named it. excludes: what to leave out.
    """

    writer: str
    writer_id: WriterId
    component: str
    is_explicit: bool
    path: str
    original_path: str
    filespec: str
    recursive: bool
    excludes: tuple[Exclusion, ...] = ()

    def takes(self, directory: str, name: str) -> bool:
        """Tell whether the file `name` in `directory` (below the device object) is copied."""
        if not _takes(self.path, self.filespec, self.recursive, directory, name):
            return False
        return not any(exclusion.takes(directory, name) for exclusion in self.excludes)


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingFiles:
    """A file set, or a whole component (path and filespec None), that cannot be copied."""

    writer: str
    component: str
    original_path: str | None
    filespec: str | None
    reason: Missing


@dataclass(frozen=True, kw_only=True, slots=True)
class FileList:
    """What to copy, what cannot be copied, and the excludes that could not be placed."""

    files: tuple[FilesToCopy, ...]
    missing: tuple[MissingFiles, ...]
    unplaced_excludes: tuple[ExcludedFiles, ...]


def files_to_back_up(
    document: BackupComponentsDocument,
    writer_metadata: Iterable[WriterMetadata],
    copies: Sequence[CopiedVolume],
) -> FileList:
    """Return the file sets of a backup, writer by writer in the document's order.

    writer_metadata: of the writers that took part; others do no harm. copies: the shadow
    copies on this host, each with the names of its original volume.
    """
    known = tuple(writer_metadata)
    state = document.backup_state
    backup_type = BackupType.FULL if state is None else state.backup_type
    files: list[FilesToCopy] = []
    missing: list[MissingFiles] = []
    unplaced: list[ExcludedFiles] = []
    for writer in document.writers():
        metadata = _metadata_of(writer, known)
        if metadata is None:
            missing += _whole_writer(writer)
            continue
        excludes, rest = _excludes(metadata, copies)
        unplaced += rest
        required = _required(backup_type, metadata.backup_schema)
        for component, is_explicit in _components(writer, metadata, missing):
            for files_of in component.file_sets:
                if not files_of.backup_type & required:
                    continue
                entry = _entry(metadata, component, files_of, copies, excludes, is_explicit)
                if isinstance(entry, MissingFiles):
                    missing.append(entry)
                else:
                    files.append(entry)
    return FileList(files=tuple(files), missing=tuple(missing), unplaced_excludes=tuple(unplaced))


def _metadata_of(
    writer: WriterComponents, known: Sequence[WriterMetadata]
) -> WriterMetadata | None:
    """Return a writer's metadata: by instance, else by instance name, else the only one.

    Instance ids change whenever a writer starts, so they decide only when they fit.
    """
    same = [m for m in known if m.writer_id == writer.writer_id]
    for metadata in same:
        if metadata.instance_id == writer.instance_id:
            return metadata
    named = [m for m in same if m.instance_name == writer.instance_name]
    return named[0] if len(named) == 1 else None


def _whole_writer(writer: WriterComponents) -> Iterator[MissingFiles]:
    for component in writer.components:
        yield MissingFiles(
            writer=writer.instance_name or str(writer.writer_id),
            component=component.full_path,
            original_path=None,
            filespec=None,
            reason=Missing.NO_METADATA,
        )


def _required(backup_type: BackupType, schema: BackupSchema) -> FileSpecBackupType:
    """Return the mask bit that a file set needs; a type the writer lacks counts as full."""
    if backup_type in _SCHEMA and not schema & _SCHEMA[backup_type]:
        return FileSpecBackupType.FULL_BACKUP_REQUIRED
    return _REQUIRED.get(backup_type, FileSpecBackupType.FULL_BACKUP_REQUIRED)


def _components(
    writer: WriterComponents, metadata: WriterMetadata, missing: list[MissingFiles]
) -> Iterator[tuple[ComponentInfo, bool]]:
    """Yield the writer's components, each once, explicit ones with what is below them."""
    explicit = {c.full_path for c in writer.components}
    seen: set[str] = set()
    for added in writer.components:
        component = metadata.component(added.logical_path, added.name)
        if component is None:
            missing.append(
                MissingFiles(
                    writer=metadata.name,
                    component=full_path(added.logical_path, added.name),
                    original_path=None,
                    filespec=None,
                    reason=Missing.NO_COMPONENT,
                )
            )
            continue
        yield component, True
        for below in descendants(component, metadata.components):
            if below.full_path not in explicit | seen:
                seen.add(below.full_path)
                yield below, False


def _entry(
    metadata: WriterMetadata,
    component: ComponentInfo,
    files: FileSpec,
    copies: Sequence[CopiedVolume],
    excludes: Sequence[Exclusion],
    is_explicit: bool,
) -> FilesToCopy | MissingFiles:
    reason: Missing | None = None
    copy: CopiedVolume | None = None
    if files.backup_type & FileSpecBackupType.CREATED_DURING_BACKUP:
        reason = Missing.MADE_DURING_BACKUP
    else:
        try:
            copy = copy_of(copies, files.source_path)
        except InvalidArgument:
            reason = Missing.UNPLACED
    if copy is None:
        return MissingFiles(
            writer=metadata.name,
            component=component.full_path,
            original_path=files.source_path,
            filespec=files.filespec,
            reason=reason or Missing.NOT_COPIED,
        )
    path = path_in(copy, files.source_path)
    return FilesToCopy(
        writer=metadata.name,
        writer_id=metadata.writer_id,
        component=component.full_path,
        is_explicit=is_explicit,
        path=path,
        original_path=files.source_path,
        filespec=files.filespec,
        recursive=files.recursive,
        excludes=tuple(e for e in excludes if _meet(e, path, files.recursive)),
    )


def _excludes(
    metadata: WriterMetadata, copies: Sequence[CopiedVolume]
) -> tuple[list[Exclusion], list[ExcludedFiles]]:
    r"""Return a writer's exclude list as placed in the copies, and what could not be placed.

    A path without a drive (`\System Volume Information`) means every volume.
    """
    placed: list[Exclusion] = []
    unplaced: list[ExcludedFiles] = []
    for files in metadata.excludes:
        is_driveless = files.path.startswith("\\") and not files.path.startswith("\\\\")
        try:
            if is_driveless:
                paths = [_below_root(copy, files.path) for copy in copies]
            else:
                found = copy_of(copies, files.path)
                paths = [] if found is None else [path_in(found, files.path)]
        except InvalidArgument:
            unplaced.append(files)
            continue
        placed += [
            Exclusion(path=path, filespec=files.filespec, recursive=files.recursive)
            for path in paths
        ]
    return placed, unplaced


def _below_root(copy: CopiedVolume, driveless: str) -> str:
    """Return a path without a drive as it lies in a copy, by giving the copy a drive."""
    return path_in(
        CopiedVolume(names=("A:\\",), device_object=copy.device_object), "A:" + driveless
    )


def _meet(exclusion: Exclusion, path: str, recursive: bool) -> bool:
    """Tell whether an exclusion can touch a directory, or one below it."""
    if exclusion.path == path:
        return True
    if exclusion.recursive and path.startswith(exclusion.path + "/"):
        return True
    return recursive and exclusion.path.startswith(path + "/")


def _takes(path: str, filespec: str, recursive: bool, directory: str, name: str) -> bool:
    directory = directory.rstrip("/")
    is_inside = directory == path or (recursive and directory.startswith(path + "/"))
    return is_inside and matches(filespec, name)
