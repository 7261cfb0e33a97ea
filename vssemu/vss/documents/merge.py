"""What one writer sees of a Backup Components Document, and what it may change there.

A writer gets a document with its own WRITER_COMPONENTS alone and gives it back. Taken over is
what IVssComponent lets a writer set during a backup; everything else must be as it was, else
nothing is taken over. Values are read as types and written anew, so what a writer adds can
never make the document invalid.
"""

import copy
from collections.abc import Iterator

from lxml import etree

from vssemu.vss.documents import items, xmltext
from vssemu.vss.documents.component import ELEMENT as COMPONENT
from vssemu.vss.documents.component import METADATA, Component
from vssemu.vss.documents.items import ve
from vssemu.vss.errors import BadState, InvalidArgument, ObjectAlreadyExists
from vssemu.vss.identity import WriterInstanceId

WRITER_COMPONENTS = "WRITER_COMPONENTS"

WRITER_ATTRIBUTES = frozenset(
    {
        "backupStamp",
        ve("prepareForBackupFailureMsg"),
        ve("postSnapshotFailureMsg"),
        ve("failureHr"),
        ve("failureApplicationHr"),
        ve("failureMessage"),
    }
)
"""The attributes of a component that are its writer's to set during a backup."""

_WRITER_ELEMENTS = frozenset({ve("partialFile"), ve("differencedFile")})


def writer_element(root: etree._Element, instance_id: WriterInstanceId) -> etree._Element | None:
    """Return the WRITER_COMPONENTS of a writer instance; None when it has no components."""
    for element in items.children(root, WRITER_COMPONENTS):
        if items.read_guid(element, "instanceId") == instance_id:
            return element
    return None


def part_of(root: etree._Element, instance_id: WriterInstanceId) -> etree._Element:
    """Return a document with the root's attributes and one writer's components."""
    part = xmltext.new_root(root.tag, root.nsmap)
    for name, value in root.attrib.items():
        part.set(name, value)
    element = writer_element(root, instance_id)
    if element is not None:
        shown = copy.deepcopy(element)
        shown.tail = None
        part.append(shown)
    return part


def take_over(
    root: etree._Element,
    changed: etree._Element,
    instance_id: WriterInstanceId,
    *,
    read_only: bool,
) -> None:
    """Change `root` as the writer changed its part, or raise and change nothing.

    changed: the root of the part as the writer gave it back.
    Raises BadState (read-only), InvalidArgument, InvalidXmlDocument, ObjectAlreadyExists.
    """
    before = part_of(root, instance_id)
    difference = _difference(before, changed, is_writers_own=not read_only)
    if difference is not None:
        if read_only:
            raise BadState(
                f"writer instance {instance_id} changed the document in an event that only"
                f" reads it: {difference}",
                hint="set stamps, metadata and files in OnPrepareBackup or OnPostSnapshot",
                item=difference,
            )
        raise InvalidArgument(
            f"writer instance {instance_id} changed what is not its own: {difference}",
            hint="a writer sets stamps, backup metadata, partial and differenced files and"
            " failures of its components",
            item=difference,
        )
    if read_only:
        return
    ours = writer_element(root, instance_id)
    theirs = writer_element(changed, instance_id)
    if ours is None or theirs is None:
        return
    # On a copy first: a value that is refused half-way must leave the document as it was.
    _copy_all(copy.deepcopy(ours), theirs)
    _copy_all(ours, theirs)


def _copy_all(ours: etree._Element, theirs: etree._Element) -> None:
    for mine, other in zip(
        items.children(ours, COMPONENT), items.children(theirs, COMPONENT), strict=True
    ):
        _copy_component(Component(mine), Component(other))


def _copy_component(mine: Component, other: Component) -> None:
    mine.backup_stamp = other.backup_stamp
    mine.prepare_for_backup_failure_message = other.prepare_for_backup_failure_message
    mine.post_snapshot_failure_message = other.post_snapshot_failure_message
    mine.failure = other.failure
    mine.partial_files = other.partial_files
    mine.differenced_files = other.differenced_files
    if other.backup_metadata == mine.backup_metadata:
        return
    if other.backup_metadata is None or mine.backup_metadata is not None:
        raise ObjectAlreadyExists(
            f"SetBackupMetadata({mine.full_path}): backup metadata is set once and stays",
            hint="compute it before it is set",
            item=mine.full_path,
        )
    mine.set_backup_metadata(other.backup_metadata)


def _difference(
    before: etree._Element, after: etree._Element, *, is_writers_own: bool
) -> str | None:
    """Return the place of the first difference that is not allowed; None without one.

    is_writers_own: leave out what a writer may set.
    """
    if before.tag != after.tag:
        return items.where(after)
    in_component = is_writers_own and items.local_name(before) == COMPONENT
    left_out = WRITER_ATTRIBUTES if in_component else frozenset()
    names = {str(name) for name in (*before.attrib, *after.attrib)}
    for name in sorted(names - left_out):
        if before.get(name) != after.get(name):
            return items.where(after, name)
    if (before.text or "").strip() != (after.text or "").strip():
        return items.where(after)
    old = list(_compared(before, in_component=in_component))
    new = list(_compared(after, in_component=in_component))
    for left, right in zip(old, new, strict=False):
        found = _difference(left, right, is_writers_own=is_writers_own)
        if found is not None:
            return found
    if len(old) != len(new):
        return items.where(new[len(old)] if len(new) > len(old) else after)
    return None


def _compared(element: etree._Element, *, in_component: bool) -> Iterator[etree._Element]:
    for child in items.elements(element):
        own = str(child.tag) in _WRITER_ELEMENTS or items.local_name(child) == METADATA
        if not (in_component and own):
            yield child
