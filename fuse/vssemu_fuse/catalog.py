"""The copies that have names now, and what the kernel knows of them.

Owns the current list, each copy's state of surfacing, and the kernel's look-up counts.
Refuses to talk to the kernel or to the service.
"""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from vssemu_fuse import names
from vssemu_fuse.copies import CopyList, DeviceObject
from vssemu_fuse.names import CopyName, View

XATTR_PREFIX: Final = "user.vss."


class Surface(enum.Enum):
    """What devicefs believes of a copy's tree; the mount table is the truth."""

    BARE = "bare"
    MOUNTED = "mounted"
    FAILED = "failed"


@dataclass(eq=False, slots=True)
class Copy:
    """One copy that has names. born_ns: when devicefs first saw it, nanoseconds."""

    facts: DeviceObject
    generation: int
    born_ns: int
    surface: Surface = Surface.BARE
    last_failure: str | None = None
    document: bytes = field(init=False, default=b"")
    xattrs: dict[bytes, bytes] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.take(self.facts)

    def take(self, facts: DeviceObject) -> bool:
        """Take over newer facts of the same copy; return whether the properties changed."""
        document = facts.properties.encode()
        changed = document != self.document
        self.facts = facts
        self.document = document
        self.xattrs = _xattrs(facts.properties)
        return changed

    def inode(self, view: View) -> int:
        """Return the inode number of one of the copy's four names."""
        return names.inode_of(CopyName(view, self.facts.number, self.generation))


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a new list changed. removed: copies whose names are gone. edited: other properties."""

    removed: Sequence[Copy]
    edited: Sequence[Copy]


class Catalog:
    """The copies by number.

    A number whose raw device or size changes is another copy: the old one is removed. A
    number that comes back gets the next generation, hence other inode numbers.
    """

    def __init__(self) -> None:
        self.revision = -1
        self.server_pid = 0
        self._copies: dict[int, Copy] = {}
        self._generations: Counter[int] = Counter()
        self._lookups: Counter[int] = Counter()

    def apply(self, latest: CopyList, *, now_ns: int) -> Change:
        """Make `latest` the current list and return what changed.

        Raises ValueError for a number that cannot be one, or that occurs twice; nothing is
        changed then.
        """
        wanted = _by_number(latest.copies)
        removed = []
        for number, copy in list(self._copies.items()):
            if number not in wanted or not _same_copy(copy.facts, wanted[number]):
                removed.append(self._copies.pop(number))
                self._generations[number] += 1
        edited = [copy for number, copy in self._copies.items() if copy.take(wanted[number])]
        for number in wanted.keys() - self._copies.keys():
            generation = self._generations[number]
            self._copies[number] = Copy(wanted[number], generation, now_ns)
        self.revision, self.server_pid = latest.revision, latest.server_pid
        return Change(removed=removed, edited=edited)

    def numbered(self, number: int) -> Copy | None:
        """Return the copy that has this number now."""
        return self._copies.get(number)

    def named(self, name: CopyName) -> Copy | None:
        """Return the copy that a name means; None when that copy has been removed."""
        copy = self._copies.get(name.number)
        return copy if copy is not None and copy.generation == name.generation else None

    def after(self, number: int) -> list[Copy]:
        """Return the copies with a greater number, in order."""
        return [self._copies[each] for each in sorted(self._copies) if each > number]

    def count_lookup(self, inode: int) -> None:
        """Note that the kernel was given a reference to an inode."""
        self._lookups[inode] += 1

    def forget(self, forgotten: Iterable[tuple[int, int]]) -> None:
        """Note how many references to which inodes the kernel gave back."""
        for inode, references in forgotten:
            self._lookups[inode] -= references
            if self._lookups[inode] <= 0:
                del self._lookups[inode]

    def is_known_to_kernel(self, inode: int) -> bool:
        """Return whether the kernel holds a reference to an inode."""
        return inode in self._lookups


def _by_number(copies: Iterable[DeviceObject]) -> dict[int, DeviceObject]:
    wanted: dict[int, DeviceObject] = {}
    for facts in copies:
        if not 0 < facts.number <= names.MAX_NUMBER or facts.number in wanted:
            raise ValueError(f"shadow copy number {facts.number} is impossible or occurs twice")
        wanted[facts.number] = facts
    return wanted


def _same_copy(one: DeviceObject, other: DeviceObject) -> bool:
    return (one.size, one.raw_major, one.raw_minor) == (
        other.size,
        other.raw_major,
        other.raw_minor,
    )


def _xattrs(properties: str) -> dict[bytes, bytes]:
    """Return the members of a JSON object as attributes; text as it is, the rest as JSON.

    Text that is no JSON object has none: the file still shows it as it came.
    """
    try:
        members = json.loads(properties)
    except ValueError:
        return {}
    if not isinstance(members, dict):
        return {}
    return {
        f"{XATTR_PREFIX}{name}".encode(): (
            value if isinstance(value, str) else json.dumps(value)
        ).encode()
        for name, value in members.items()
    }
