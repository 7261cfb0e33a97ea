r"""The metadata blocks of LIST WRITERS: what each writer says of itself. Pure.

The set of fields is VShadow's (tools.md B.8); the labels of DiskShadow are not documented.
"""

from collections.abc import Callable
from typing import Final

from vssemu.vss.documents.component import full_path
from vssemu.vss.documents.selection import ancestors, paths_of
from vssemu.vss.documents.writer import (
    ComponentInfo,
    FileSetKind,
    WriterMetadata,
)
from vssemu.vss.enums import RestoreMethod, WriterRestore
from vssemu.vss.identity import braced

VolumeOf = Callable[[str], str | None]
"""The volume, as users know it, of a path of this host; None for a path of none."""

_KINDS: Final = {
    FileSetKind.FILES: "File List",
    FileSetKind.DATABASE_FILES: "Database",
    FileSetKind.DATABASE_LOG_FILES: "Database Log",
}


def writer_metadata(
    writer: WriterMetadata, *, is_detailed: bool, volume_of: VolumeOf
) -> list[str]:
    """Return the block of one writer. is_detailed: every file specification too."""
    restore = writer.restore
    condition = WriterRestore.UNDEFINED if restore is None else restore.writer_restore
    method = RestoreMethod.UNDEFINED if restore is None else restore.method
    takes_part = condition in {WriterRestore.ALWAYS, WriterRestore.IF_REPLACE_FAILS}
    lines = [
        f"* WRITER {writer.name}",
        f"\t- Writer ID: {braced(writer.writer_id)}",
        f"\t- Instance ID: {braced(writer.instance_id)}",
        f"\t- Supports restore events = {_truth(takes_part)}",
        f"\t- Writer restore conditions = VSS_WRE_{condition.name}",
        f"\t- Restore method = VSS_RME_{method.name}",
        f"\t- Requires reboot after restore = "
        f"{_truth(restore is not None and restore.reboot_required)}",
        "\t- Excluded files:",
    ]
    lines += [
        f"\t\t- Exclude: Path = {each.path}, Filespec = {each.filespec}"
        + (", Recursive" if each.recursive else "")
        for each in writer.excludes
    ]
    for component in writer.components:
        lines += _component(writer, component, is_detailed, volume_of)
    return lines


def _component(
    writer: WriterMetadata, component: ComponentInfo, is_detailed: bool, volume_of: VolumeOf
) -> list[str]:
    is_top = not ancestors(component, writer.components)
    kind = component.component_type
    lines = [
        f'\t- Component "{writer.name}:{component.full_path}"',
        f"\t\t- Name: {component.name}",
        f"\t\t- Logical path: {component.logical_path or ''}",
        f"\t\t- Full path: {component.full_path}",
        f"\t\t- Caption: {component.caption or ''}",
        f"\t\t- Type: VSS_CT_{kind.name} [{kind.value}]",
        f"\t\t- Is selectable: {_truth(component.selectable)}",
        f"\t\t- Is top level: {_truth(is_top)}",
        f"\t\t- Notify on backup complete: {_truth(component.notify_on_backup_complete)}",
    ]
    if is_detailed:
        lines.append("\t\t- File specifications:")
        lines += [
            f"\t\t\t- {_KINDS[files.kind]}: Path = {files.path}, Filespec = {files.filespec}"
            + (", Recursive" if files.recursive else "")
            + (f", Alternate Location = {files.alternate_path}" if files.alternate_path else "")
            for files in component.file_sets
        ]
    paths = sorted(paths_of(component, writer.components))
    volumes = sorted({volume_of(path) or "[Not valid for local machine]" for path in paths})
    lines += ["\t\t- Affected paths:", *(f"\t\t\t- {path}" for path in paths)]
    lines += ["\t\t- Affected volumes:", *(f"\t\t\t- {volume}" for volume in volumes)]
    lines.append("\t\t- Component dependencies:")
    lines += [
        f'\t\t\t- Dependency to "{braced(other.writer_id)}:'
        f'{full_path(other.logical_path, other.component_name)}"'
        for other in component.dependencies
    ]
    return lines


def _truth(value: bool) -> str:
    return "TRUE" if value else "FALSE"
