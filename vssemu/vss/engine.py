"""The engine protocol: how an array makes point-in-time copies of LUNs.

Every method is idempotent and none writes the journal: the array does that around them.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from vssemu.vss.array import LunKind
from vssemu.vss.identity import LunId


@dataclass(frozen=True, kw_only=True, slots=True)
class Backing:
    """What a fabric publishes: a file or block device, its size in bytes, an open descriptor.

    The descriptor belongs to the engine; who wants to keep it duplicates it.
    """

    path: str
    is_block: bool
    size: int
    descriptor: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyPair:
    """A copy to be: the LUN it is taken of and the LUN that it will be."""

    source: LunId
    target: LunId


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Copies made ready to commit, and how long the commit will hold writes, in seconds."""

    pairs: tuple[CopyPair, ...]
    kind: LunKind
    hold_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Space of one LUN: provisioned and allocated bytes."""

    size: int
    allocated: int


class Engine(Protocol):
    """A snapshot engine. `commit` runs inside the hold: synchronous, nothing logged."""

    name: str

    async def create(self, lun: LunId, size: int) -> None: ...
    async def activate(self, lun: LunId, *, writable: bool) -> Backing: ...
    async def deactivate(self, lun: LunId) -> None: ...
    async def extend(self, lun: LunId, size: int) -> None: ...
    async def begin(self, pairs: Sequence[CopyPair], kind: LunKind) -> None:
        """Do ahead of `prepare` what takes long; when it is cancelled, `delete` clears up."""
        ...

    async def prepare(
        self, pairs: Sequence[CopyPair], kind: LunKind, deadline: float
    ) -> Prepared: ...
    async def keep_close(self, prepared: Prepared) -> None:
        """Keep what the commit has to do small, until cancelled before it."""
        ...

    def commit(self, prepared: Prepared) -> Sequence[int]:
        """Take the copies; return their sizes in bytes, for a source may have grown."""
        ...

    async def settle(self, prepared: Prepared) -> None:
        """Make committed copies durable, after the hold."""
        ...

    async def abort(self, prepared: Prepared) -> None: ...
    async def scratch(self, lun: LunId, *, writable: bool) -> Backing:
        """Open the scratch clone of a copy, making it when it is not there."""
        ...

    async def discard_scratch(self, lun: LunId) -> None: ...
    async def delete(self, lun: LunId) -> None: ...
    async def resync(
        self, source: LunId, target: LunId, progress: Callable[[int], None]
    ) -> None: ...
    def hold(self, luns: Sequence[LunId]) -> AbstractContextManager[None] | None: ...
    async def usage(self, lun: LunId) -> Usage: ...
