"""The copies that have names now, and what is known of their trees.

Owns the current list, each copy's state of surfacing, and what of them a devicefs must know
that takes over from one that was killed. Refuses to talk to the kernel or to the service.
"""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from vssemu_fuse.devicefs import names
from vssemu_fuse.devicefs.copies import CopyList, DeviceObject
from vssemu_fuse.devicefs.names import CopyName, View
from vssemu_fuse.devicefs.walkers import Recent

XATTR_PREFIX: Final = "user.vss."


class Surface(enum.Enum):
    """What devicefs believes of a copy's tree; the mount table is the truth."""

    BARE = "bare"
    MOUNTED = "mounted"
    FAILED = "failed"


@dataclass(eq=False, slots=True)
class Copy:
    """One copy that has names.

    born_ns: when devicefs first saw it, nanoseconds. is_pinned: the service has the bare
    directory open, so the kernel keeps the name's dentry. waiting: threads in look-ups.
    """

    facts: DeviceObject
    generation: int
    born_ns: int
    surface: Surface = Surface.BARE
    is_pinned: bool = False
    last_failure: str | None = None
    waiting: set[int] = field(init=False, default_factory=set)
    document: bytes = field(init=False, default=b"")
    xattrs: dict[bytes, bytes] = field(init=False, default_factory=dict)
    _walking_into: Recent = field(init=False, default_factory=Recent)
    _walking_again: Recent = field(init=False, default_factory=Recent)

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
        return names.inode_of(CopyName(view, self.facts.number, self.generation_in(view)))

    def generation_in(self, view: View) -> int:
        """Return what tells this copy's file from that of the number's former owner.

        Device directories are mount points and nothing else: all owners have the same one,
        so that the kernel's dentry of it, which is good for an hour, stays right.
        """
        return 0 if view is View.DEVICE else self.generation

    def mounted(self) -> None:
        """Note that the tree is mounted, which also keeps the dentry."""
        self.surface, self.last_failure = Surface.MOUNTED, None

    def failed(self, reason: str) -> bool:
        """Note that the tree cannot be mounted; return whether the reason is a new one."""
        is_news = reason != self.last_failure
        self.surface, self.last_failure, self.is_pinned = Surface.FAILED, reason, False
        return is_news

    def may_wait(self, thread: int, now: float) -> bool:
        """Return whether a look-up by this thread re-validates a dentry for certain.

        The answer is good for one look-up. now: seconds.
        """
        return self._walking_again.take(thread, now) or self.is_pinned

    def walkers(self) -> list[int]:
        """Return the threads whose next look-up is a re-validation, or that wait in one."""
        return sorted(self._walking_again.expected() | self.waiting)

    def expect(self, threads: Iterable[int], now: float) -> None:
        """Take these threads for such ones."""
        for thread in threads:
            self._walking_again.note(thread, now)

    def answered_bare(self, thread: int, now: float) -> None:
        """Note that a look-up of this thread did not wait. A failure is forgotten."""
        self._walking_into.note(thread, now)
        if self.surface is Surface.FAILED:
            self.surface = Surface.BARE

    def used_bare(self, thread: int, now: float) -> None:
        """Note that a thread came into the bare directory and will walk again."""
        was_on_his_way = self._walking_into.take(thread, now)
        if self.surface is Surface.MOUNTED and not was_on_his_way:
            # It should have met the tree: somebody unmounted that, or the thread is in a
            # mount namespace that never had it.
            self.surface, self.is_pinned = Surface.BARE, False
        self._walking_again.note(thread, now)


class CopyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A copy as a successor takes it over.

    is_pinned: by the service, and not by its tree. walkers: the threads whose next look-up is
    a re-validation, or that wait in one.
    """

    facts: DeviceObject
    generation: int
    born_ns: int
    is_pinned: bool
    walkers: list[int]


class CatalogRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A catalog as a successor takes it over. generations: by number."""

    revision: int
    server_pid: int
    copies: list[CopyRecord]
    generations: dict[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a new list changed. removed: copies whose names are gone. edited: other properties."""

    removed: Sequence[Copy]
    edited: Sequence[Copy]


class Catalog:
    """The copies by number.

    A number whose raw device or size changes is another copy: the old one is removed. A
    number that comes back gets the next generation, hence other inode numbers for its files.
    """

    def __init__(self) -> None:
        self.revision = -1
        self.server_pid = 0
        self._copies: dict[int, Copy] = {}
        self._generations: Counter[int] = Counter()

    def record(self) -> CatalogRecord:
        """Return what a successor takes over."""
        return CatalogRecord(
            revision=self.revision,
            server_pid=self.server_pid,
            copies=[
                CopyRecord(
                    facts=copy.facts,
                    generation=copy.generation,
                    born_ns=copy.born_ns,
                    is_pinned=copy.is_pinned and copy.surface is Surface.BARE,
                    walkers=copy.walkers(),
                )
                for copy in self._copies.values()
            ],
            generations=dict(self._generations),
        )

    def restore(
        self,
        record: CatalogRecord,
        *,
        mounted: Container[int],
        server_lives: bool,
        now: float,
    ) -> None:
        """Take over from a predecessor, into a catalog that has nothing yet.

        mounted: the numbers whose trees are mounted. server_lives: whether the service that
        had directories open still does. now: seconds.
        """
        self.revision, self.server_pid = record.revision, record.server_pid
        self._generations.update(record.generations)
        for each in record.copies:
            number = each.facts.number
            is_mounted = number in mounted
            self._copies[number] = Copy(
                each.facts,
                each.generation,
                each.born_ns,
                surface=Surface.MOUNTED if is_mounted else Surface.BARE,
                is_pinned=is_mounted or (each.is_pinned and server_lives),
            )
            self._copies[number].expect(each.walkers, now)

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
        if latest.server_pid != self.server_pid:
            # What the former service had open went with it.
            for copy in self._copies.values():
                copy.is_pinned = False
        self.revision, self.server_pid = latest.revision, latest.server_pid
        return Change(removed=removed, edited=edited)

    def numbered(self, number: int) -> Copy | None:
        """Return the copy that has this number now."""
        return self._copies.get(number)

    def named(self, name: CopyName) -> Copy | None:
        """Return the copy that a name means; None when that copy has been removed."""
        copy = self._copies.get(name.number)
        is_it = copy is not None and copy.generation_in(name.view) == name.generation
        return copy if is_it else None

    def after(self, number: int) -> list[Copy]:
        """Return the copies with a greater number, in order."""
        return [self._copies[each] for each in sorted(self._copies) if each > number]


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
