"""Which components CREATE includes, and what SET VERBOSE ON tells of that. Pure.

The rules of selection are `vssemu.vss.documents.selection`'s; this module applies the WRITER
commands to them. Source: tools.md A.5 (writer, create), B.9.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vssemu.api.plans import ExaminedWriter
from vssemu.tools.diskshadow.hostvolumes import HostVolumes
from vssemu.tools.diskshadow.requests import WriterRule
from vssemu.vss.documents.selection import (
    LeftOut,
    Selection,
    ancestors,
    check_included,
    select,
)
from vssemu.vss.documents.writer import ComponentInfo, WriterMetadata
from vssemu.vss.errors import ObjectNotFound
from vssemu.vss.identity import braced


@dataclass(frozen=True, kw_only=True, slots=True)
class Included:
    """What goes into the backup, and the lines that tell of it."""

    components: tuple[tuple[ExaminedWriter, ComponentInfo], ...]
    lines: tuple[str, ...]


def choose(
    writers: Sequence[ExaminedWriter],
    rules: Sequence[WriterRule],
    host: HostVolumes,
    in_set: Collection[str],
) -> Included:
    """Return the components to include.

    in_set: GUID names of the volumes of the set. Raises ObjectNotFound for a WRITER VERIFY
    that is not met.
    """
    chosen: list[tuple[ExaminedWriter, Selection | None]] = []
    for writer in writers:
        metadata = writer.document.metadata
        own = [rule for rule in rules if rule.is_excluded and _names(rule, metadata)]
        if any(rule.component is None for rule in own):
            chosen.append((writer, None))
            continue
        selection = select(
            metadata,
            is_in_set=lambda path: host.guid_name_of(path) in in_set,
            excluded=[rule.component for rule in own if rule.component is not None],
        )
        chosen.append((writer, selection))
    for rule in rules:
        if not rule.is_excluded:
            _verify(rule, chosen)
    left = [line for writer, s in chosen for line in _left_out_lines(writer.name, s, host)]
    taken = [line for _, s in chosen if s is not None for line in _included_lines(s)]
    return Included(
        components=tuple((w, c) for w, s in chosen if s is not None for c in s.explicit),
        lines=(*left, *taken),
    )


def _names(rule: WriterRule, writer: WriterMetadata) -> bool:
    wanted = rule.writer.lower()
    ids = (braced(writer.writer_id), braced(writer.instance_id))
    return wanted in (writer.name.lower(), *ids)


def _verify(rule: WriterRule, chosen: Sequence[tuple[ExaminedWriter, Selection | None]]) -> None:
    """Raise ObjectNotFound unless one writer that the rule names is included as it demands."""
    failure: ObjectNotFound | None = None
    for writer, selection in chosen:
        if not _names(rule, writer.document.metadata):
            continue
        try:
            if selection is None:
                raise ObjectNotFound(f"writer {writer.name!r} is excluded", item=writer.name)
            check_included(selection, rule.component)
        except ObjectNotFound as error:
            failure = failure or error
        else:
            return
    raise failure or ObjectNotFound(
        f"writer {rule.writer!r} is not on this computer",
        hint="LIST WRITERS shows those that are",
        item=rule.writer,
    )


def _left_out_lines(name: str, selection: Selection | None, host: HostVolumes) -> list[str]:
    if selection is None:
        return [f'Excluding writer "{name}", because it is excluded by WRITER EXCLUDE.']
    lines: list[str] = []
    for out in selection.left_out:
        path = out.component.full_path
        lines += [
            f'Component "{path}" from writer "{name}" is excluded from backup,',
            f"because {_reason(out, host)}.",
        ]
    if selection.is_included:
        return lines
    everything = selection.writer.components
    for out in selection.left_out:
        if not out.component.selectable and not ancestors(out.component, everything):
            return [
                *lines,
                f'The writer "{name}" is now entirely excluded from the backup because the'
                " top-level",
                f'non selectable component "{out.component.full_path}" is excluded.',
            ]
    why = "all of its components have been excluded" if everything else "it has no components"
    return [*lines, f'Excluding writer "{name}", because {why}.']


def _reason(out: LeftOut, host: HostVolumes) -> str:
    if out.path is None:
        return out.reason
    volume = host.shown_name_of(out.path)
    if volume is None:
        return f"the volume of {out.path} cannot be found on this system"
    return f"it requires volume {volume} which is not in the shadow copy set"


def _included_lines(selection: Selection) -> list[str]:
    if not selection.is_included:
        return []
    added = (f"\t+ Adding component: {c.full_path}" for c in selection.explicit)
    return ["", f'* Including writer "{selection.writer.name}":', *added]
