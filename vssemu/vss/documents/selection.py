r"""Which components a requester adds to a backup of given volumes.

A component is *explicit* when the requester adds it, *implicit* when it comes with a component
above it (its full path begins with the other's and a backslash), else left out. Two rules
stand beside each other: what AddComponent takes (`may_be_added`), and what VShadow and
DiskShadow select by themselves (`select`). Dependencies on other writers are not followed.
Source: selectability pages of the VSS documentation; VShadow sample, component selection.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from vssemu.vss.documents.writer import ComponentInfo, WriterMetadata
from vssemu.vss.errors import ObjectNotFound


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A component that is not backed up, and why; path: the file set outside, or None."""

    component: ComponentInfo
    reason: str
    path: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What of one writer is backed up; each tuple in document order.

    writer_reason: why the whole writer is left out, None when it takes part.
    """

    writer: WriterMetadata
    explicit: tuple[ComponentInfo, ...]
    implicit: tuple[ComponentInfo, ...]
    left_out: tuple[LeftOut, ...]
    writer_reason: str | None = None

    @property
    def is_included(self) -> bool:
        """True when the writer takes part in the backup."""
        return self.writer_reason is None


def ancestors(
    component: ComponentInfo, components: Sequence[ComponentInfo]
) -> tuple[ComponentInfo, ...]:
    """Return the components above `component`."""
    return tuple(other for other in components if other.is_above(component))


def descendants(
    component: ComponentInfo, components: Sequence[ComponentInfo]
) -> tuple[ComponentInfo, ...]:
    """Return the subcomponents that come implicitly with `component`."""
    return tuple(other for other in components if component.is_above(other))


def may_be_added(component: ComponentInfo, components: Sequence[ComponentInfo]) -> bool:
    """Tell whether AddComponent takes it: selectable, or without a selectable ancestor."""
    above = ancestors(component, components)
    return component.selectable or not any(other.selectable for other in above)


def is_includable(component: ComponentInfo, components: Sequence[ComponentInfo]) -> bool:
    """Tell whether the tools consider it for themselves: selectable, or at the top."""
    return component.selectable or not ancestors(component, components)


def paths_of(component: ComponentInfo, components: Sequence[ComponentInfo]) -> tuple[str, ...]:
    """Return the directories that a backup of the component reads, subcomponents included.

    These decide which volumes the component needs.
    """
    whole = (component, *descendants(component, components))
    return tuple(dict.fromkeys(files.source_path for one in whole for files in one.file_sets))


def select(
    writer: WriterMetadata,
    *,
    is_in_set: Callable[[str], bool],
    excluded: Collection[str] = (),
) -> Selection:
    r"""Return what of a writer goes into a backup of the set's volumes.

    is_in_set: whether a directory (as the writer wrote it) lies on a volume of the set.
    excluded: full paths (`\logical path\name`, any case) that the user excluded.
    """
    components = writer.components
    out = _left_out(components, is_in_set, {path.lower() for path in excluded})
    out_paths = {one.component.full_path for one in out}
    reason = _writer_reason(components, out_paths)
    explicit: tuple[ComponentInfo, ...] = ()
    implicit: tuple[ComponentInfo, ...] = ()
    if reason is None:
        explicit = tuple(c for c in components if _is_explicit(c, components, out_paths))
        implicit = tuple(
            c
            for c in components
            if c.full_path not in out_paths and any(e.is_above(c) for e in explicit)
        )
    return Selection(
        writer=writer, explicit=explicit, implicit=implicit, left_out=out, writer_reason=reason
    )


def _left_out(
    components: Sequence[ComponentInfo], is_in_set: Callable[[str], bool], excluded: set[str]
) -> tuple[LeftOut, ...]:
    direct: dict[str, LeftOut] = {}
    for component in components:
        outside = next(
            (f.source_path for f in component.file_sets if not is_in_set(f.source_path)), None
        )
        if component.full_path.lower() in excluded:
            direct[component.full_path] = LeftOut(component=component, reason="excluded by name")
        elif outside is not None:
            direct[component.full_path] = LeftOut(
                component=component,
                reason=f"it requires {outside}, which is not in the shadow copy set",
                path=outside,
            )
    found = []
    for component in components:
        below = next((o for o in direct.values() if component.is_above(o.component)), None)
        if component.full_path in direct:
            found.append(direct[component.full_path])
        elif below is not None:
            found.append(
                LeftOut(
                    component=component,
                    reason=f"its subcomponent {below.component.full_path} is left out",
                    path=below.path,
                )
            )
    return tuple(found)


def _writer_reason(components: Sequence[ComponentInfo], out: set[str]) -> str | None:
    for component in components:
        is_top = not ancestors(component, components)
        if is_top and not component.selectable and component.full_path in out:
            return f"its top-level non-selectable component {component.full_path} is left out"
    includable = [c for c in components if is_includable(c, components)]
    if not includable:
        return "it has no component to include"
    if all(component.full_path in out for component in includable):
        return "all of its components are left out"
    return None


def _is_explicit(
    component: ComponentInfo, components: Sequence[ComponentInfo], out: set[str]
) -> bool:
    if component.full_path in out or not is_includable(component, components):
        return False
    return not any(
        is_includable(above, components) and above.full_path not in out
        for above in ancestors(component, components)
    )


def check_included(selection: Selection, component_path: str | None = None) -> None:
    """Check that what the user demanded is in the selection.

    component_path: a full path, in any case; None demands the whole writer.
    Raises ObjectNotFound saying why it is not.
    """
    writer = selection.writer.name
    if component_path is None:
        if selection.writer_reason is not None or selection.left_out:
            why = selection.writer_reason or (
                f"component {selection.left_out[0].component.full_path} is left out:"
                f" {selection.left_out[0].reason}"
            )
            raise ObjectNotFound(
                f"writer {writer!r} is not wholly included: {why}",
                hint="add the volumes that it needs to the set",
                item=writer,
            )
        return
    wanted = component_path.lower()
    if any(c.full_path.lower() == wanted for c in (*selection.explicit, *selection.implicit)):
        return
    reasons = [o.reason for o in selection.left_out if o.component.full_path.lower() == wanted]
    why = reasons[0] if reasons else selection.writer_reason or "the writer has no such component"
    raise ObjectNotFound(
        f"component {component_path} of writer {writer!r} is not included: {why}",
        hint="see the writer's components with list writers",
        item=component_path,
    )
