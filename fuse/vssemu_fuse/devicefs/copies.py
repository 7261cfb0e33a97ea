"""What devicefs asks of the service whose shadow copies it shows.

Owns the protocol between devicefs and the VSS service; the facts it carries are declared in
`vssemu.api.device_objects`, with the service's side of the contract. How they travel is
`vssemu_fuse.devicefs.client`; what devicefs does with them is `vssemu_fuse.devicefs.catalog`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from vssemu.api.device_objects import CopyList, DeviceObject

__all__ = ["Copies", "CopyList", "DeviceObject"]


class Copies(Protocol):
    """The service's side of devicefs."""

    def lists(self) -> AsyncGenerator[CopyList, None]:
        """Yield the full list now and again after each change."""
        ...

    async def surface(self, number: int) -> None:
        """Return when the tree of a copy is mounted on its directory.

        Devicefs asks once at a time for each copy, and sets the time limit.
        Raises VssError or OSError with the reason when the tree cannot be mounted.
        """
        ...

    async def settled(self, revision: int) -> None:
        """Tell the service that a list is in force."""
        ...
