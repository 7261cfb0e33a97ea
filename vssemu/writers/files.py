r"""A writer for files that need no freezing: it names them, so that they are backed up.

Each group is a FILE_GROUP component. The backup stamp is the time of the shadow copy as a
FILETIME (100 ns units since 1601-01-01 UTC), decimal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from vssemu.vss import drives
from vssemu.vss.documents.wmdbuilder import WriterMetadataBuilder
from vssemu.vss.documents.writer import ComponentInfo, ExcludedFiles, FileSpec, RestoreInfo
from vssemu.vss.enums import BackupSchema, ComponentType, RestoreMethod, WriterRestore
from vssemu.vss.errors import InvalidArgument, WriterErrorInconsistentSnapshot
from vssemu.vss.identity import WriterId, parse_guid
from vssemu.vss.snapshot import filetime
from vssemu.writers.base import Writer
from vssemu.writers.components import Components


@dataclass(frozen=True, kw_only=True, slots=True)
class Excluded:
    r"""Files of a group that are left out. path: `F:\docs\tmp` or a Linux path."""

    path: str
    filespec: str = "*"
    recursive: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class FileGroup:
    r"""Files that belong together. path: their directory, `F:\docs` or a Linux path."""

    name: str
    path: str
    filespec: str = "*"
    recursive: bool = True
    logical_path: str | None = None
    caption: str | None = None
    excludes: tuple[Excluded, ...] = ()


class FilesWriter(Writer):
    """Names groups of files.

    Raises InvalidArgument for no group, two of one name, or a path that is not absolute.
    """

    writer_id = WriterId(UUID("0e4c7d83-6f35-4c0e-8f0a-8a6a1f2b7c55"))
    name = "Files Writer"

    def __init__(self, groups: Sequence[FileGroup], *, instance_name: str | None = None) -> None:
        keys = {(group.logical_path or None, group.name) for group in groups}
        if not groups or len(keys) != len(groups):
            raise InvalidArgument(
                f"FilesWriter: {len(groups)} groups with {len(keys)} names",
                hint="give at least one group, each with a name of its own",
            )
        for group in groups:
            drives.linux_path(group.path)
        self.instance_name = instance_name
        self.groups = tuple(groups)
        self._chosen: tuple[FileGroup, ...] = ()
        self._stamp: str | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a writer made from a TOML table.

        Keys: group, a list of tables with the fields of FileGroup (their `excludes` a list of
        tables with the fields of Excluded); instance_name, writer_id.
        """
        table = dict(config)
        writer_id = table.pop("writer_id", None)
        writer = cls([_group_of(one) for one in table.pop("group", ())], **table)
        if writer_id is not None:
            writer.writer_id = WriterId(parse_guid(writer_id))
        return writer

    def on_identify(self, metadata: WriterMetadataBuilder) -> None:
        """Describe one FILE_GROUP component for each group."""
        metadata.set_backup_schema(BackupSchema.COPY)
        metadata.set_restore_method(
            RestoreInfo(
                method=RestoreMethod.RESTORE_IF_CAN_REPLACE, writer_restore=WriterRestore.NEVER
            )
        )
        for group in self.groups:
            files = FileSpec(
                path=drives.windows_path(group.path),
                filespec=group.filespec,
                recursive=group.recursive,
            )
            metadata.add_component(
                ComponentInfo(
                    component_type=ComponentType.FILEGROUP,
                    logical_path=group.logical_path,
                    name=group.name,
                    caption=group.caption,
                    selectable=True,
                    selectable_for_restore=True,
                    file_sets=(files,),
                )
            )
            for excluded in group.excludes:
                metadata.add_exclude_files(
                    ExcludedFiles(
                        path=drives.windows_path(excluded.path),
                        filespec=excluded.filespec,
                        recursive=excluded.recursive,
                    )
                )

    def on_prepare_backup(self, components: Components | None) -> None:
        """Take note of which groups the backup is about."""
        self._stamp = None
        self._chosen = tuple(
            group
            for group in self.groups
            if components is not None and components.find(group.logical_path, group.name)
        )

    def on_prepare_snapshot(self) -> None:
        """Check that the chosen groups are on the set's volumes."""
        for group in self._chosen if self.are_components_selected else ():
            if not self.is_path_affected(drives.linux_path(group.path)):
                raise WriterErrorInconsistentSnapshot(
                    f"group {group.name}: {group.path} is not on a volume of the snapshot set",
                    hint="add its volume, or leave the component out",
                    item=group.path,
                )

    def on_freeze(self) -> None:
        """Take the time; these files are nobody's to stop."""
        self._stamp = str(filetime(datetime.now(tz=UTC)))

    def on_thaw(self) -> None:
        """Go on."""

    def on_abort(self) -> None:
        """Forget the time of the copy that was not made."""
        self._stamp = None

    def on_post_snapshot(self, components: Components | None) -> None:
        """Stamp the components with the time of the copy."""
        for component in components or ():
            if self._stamp is not None:
                component.backup_stamp = self._stamp


def _group_of(table: Mapping[str, Any]) -> FileGroup:
    excludes = tuple(Excluded(**one) for one in table.get("excludes", ()))
    return FileGroup(**{**table, "excludes": excludes})
