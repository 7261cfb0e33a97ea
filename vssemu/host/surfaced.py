"""One shadow copy whose read-only device exists, and the end of all use of it.

Refuses to know which copies there are, and who may see them.
"""

import os
from contextlib import AsyncExitStack
from typing import Final

import structlog
import trio

from vssemu.host import mounting
from vssemu.host.catalog import ObjectRow
from vssemu.host.names import AccessPath
from vssemu.linux import loop
from vssemu.vss.fabric import BoundDevice

REVOKED_SIZE: Final = 512
"""Bytes that a revoked device still shows: the least that a loop device has."""

_log = structlog.get_logger(__name__)


class SurfacedCopy:
    """A copy whose read-only device exists.

    kind: its file system. walking: whoever walks to its directory in devicefs holds it.
    pinned: set when it was once. pinned_for: the devicefs that it was pinned for last, as
    `Publication.settlements` numbers them.
    """

    def __init__(
        self, row: ObjectRow, device: BoundDevice, kind: str, keeper: AsyncExitStack
    ) -> None:
        self.row = row
        self.device = device
        self.kind = kind
        self.place: AccessPath | None = None
        self.leaving = False
        self.walking = trio.Lock()
        self.pinned = trio.Event()
        self.pinned_for = 0
        self._pin: int | None = None
        self._keeper = keeper

    def pin(self, directory: int | None) -> None:
        """Hold a bare directory open instead of the one before; None: none."""
        former, self._pin = self._pin, directory
        if former is not None:
            os.close(former)

    async def leave(self) -> None:
        """Let the device go; a mounted tree keeps it, and so does devicefs."""
        self.pin(None)
        with trio.CancelScope(shield=True):
            await self._keeper.aclose()


def end_use(copy: SurfacedCopy) -> None:
    """Unmount a copy everywhere and leave nothing of it to whoever has it open.

    What cannot be done is logged. Blocks: call in a thread.
    """
    _unmount(copy)
    _silence(copy)
    _revoke(copy)


def _unmount(copy: SurfacedCopy) -> None:
    try:
        mounting.unmount_everywhere(mounting.number_of(copy.device))
        if copy.place is not None:
            mounting.tidy(copy.place)
    except OSError as error:
        _log.warning("copy not unmounted", number=copy.row.number, reason=str(error))


def _silence(copy: SurfacedCopy) -> None:
    try:
        mounting.shut_down(copy.device, copy.kind)
    except OSError as error:
        # The device may have been taken away already: a surprise removal.
        _log.info("copy not shut down", number=copy.row.number, reason=str(error))


def _revoke(copy: SurfacedCopy) -> None:
    """Leave users of what is open a device without bytes."""
    try:
        descriptor = os.open(copy.device.node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            loop.set_size_limit(descriptor, REVOKED_SIZE)
        finally:
            os.close(descriptor)
    except OSError as error:
        _log.warning("device not revoked", number=copy.row.number, reason=str(error))
