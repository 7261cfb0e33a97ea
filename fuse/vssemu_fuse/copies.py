"""What devicefs asks of the service whose shadow copies it shows.

Owns the facts about one copy and the protocol between devicefs and the VSS service. How
they travel is `vssemu_fuse.client`; what devicefs does with them is `vssemu_fuse.catalog`.

The rules of the protocol, with the kernel's reasons, stand at the top of
`vssemu_fuse.operations`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceObject:
    """One shadow copy as its four names show it.

    number: the N of HarddiskVolumeShadowCopyN, from 1. size: bytes of the raw device.
    raw_major, raw_minor: the read-only block device. properties: VSS_SNAPSHOT_PROP as the
    text of one JSON object.
    """

    number: int
    size: int
    raw_major: int
    raw_minor: int
    properties: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyList:
    """All copies that have names now.

    revision: names this list in `settled`; one server never uses a number twice.
    server_pid: the process that attaches the trees; its own look-ups are never kept waiting.
    """

    revision: int
    server_pid: int
    copies: tuple[DeviceObject, ...]


class Copies(Protocol):
    """The service's side of devicefs."""

    def lists(self) -> AsyncIterator[CopyList]:
        """Yield the full list now and again after each change.

        Lists that nobody took yet may be left out in favour of the newest.
        """
        ...

    async def surface(self, number: int) -> None:
        """Return when the tree of a copy is mounted on its directory.

        The server opens the directory itself, with O_PATH; a directory that already is a
        mount needs nothing more. Devicefs asks once at a time for each copy.
        Raises VssError or OSError with the reason when the tree cannot be mounted.
        """
        ...

    async def settled(self, revision: int) -> None:
        """Tell the server that this list is in force.

        From now on the names of new copies answer, those of removed copies do not, and
        devicefs holds no descriptor of a removed copy's raw device.
        """
        ...
