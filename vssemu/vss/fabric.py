"""The fabric protocols: how a host reaches a LUN that is unmasked to it.

Two halves: the target is used by the array, the initiator by the host.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from vssemu.vss.array import View
from vssemu.vss.engine import Backing
from vssemu.vss.identity import Initiator, LunId
from vssemu.vss.lun import LunInformation


class Target(Protocol):
    """The array's half."""

    async def publish(self, initiator: Initiator, lun: LunId, backing: Backing) -> None: ...
    async def withdraw(self, initiator: Initiator, lun: LunId, *, surprise: bool) -> None:
        """Take a LUN from a host: refused while it is in use there, unless by surprise."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrived:
    """A LUN that a host can reach now. size: bytes."""

    lun: LunId
    information: LunInformation
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundDevice:
    """A block device over a part of a LUN: its node, number, and the bytes it covers."""

    node: str
    number: int
    major: int
    minor: int
    offset: int
    length: int
    read_only: bool


class HostBusAdapter(Protocol):
    """The host's half: what an HBA or an iSCSI initiator is to a host."""

    async def names(self) -> Sequence[Initiator]: ...
    async def rescan(self) -> Sequence[Arrived]:
        """Return all LUNs that this host can reach now."""
        ...

    async def open(self, lun: LunId, view: View, *, writable: bool) -> int:
        """Return a descriptor of the LUN's bytes; the caller closes it."""
        ...

    def bound(
        self, lun: LunId, view: View, *, offset: int, length: int, writable: bool
    ) -> AbstractAsyncContextManager[BoundDevice]:
        """Bind a part of the LUN to a block device for as long as the block runs.

        The device stays bound, after the block, while a file system mounted on it lives.
        """
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yield whenever something may have arrived or gone: a prompt to look."""
        ...
