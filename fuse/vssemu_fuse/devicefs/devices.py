"""Raw devices, open here and, so that they outlive this process, in its starter's store.

A loop device lives while somebody has it open. With the starter's copy of the descriptor it
stays bound, under its number, when devicefs and the service are killed at the same moment;
and the next devicefs reads through that very descriptor, whatever became of the node.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import structlog

from vssemu.linux.fdstore import Store
from vssemu_fuse.devicefs.image import open_block_device

_log = structlog.get_logger(__name__)


class Devices:
    """Opens raw devices by major and minor number.

    store: where they are kept. kept: what a former devicefs left there, by name; taken over.
    """

    def __init__(
        self,
        store: Store,
        kept: dict[str, int],
        opener: Callable[[int, int], int] = open_block_device,
    ) -> None:
        self._store = store
        self._kept = kept
        self._opener = opener

    def open(self, major: int, minor: int) -> int:
        """Return a descriptor for direct reads, which belongs to the caller. Raises OSError."""
        name = _name(major, minor)
        if name in self._kept:
            return self._kept.pop(name)
        descriptor = self._opener(major, minor)
        try:
            self._store.keep(name, descriptor)
        except OSError as error:
            _log.warning("device not kept", device=name, reason=str(error))
        return descriptor

    def closed(self, major: int, minor: int) -> None:
        """Have the store close a device that was closed here."""
        self._forget(_name(major, minor))

    def drop_unused(self) -> None:
        """Close what a former devicefs left and nobody opened."""
        while self._kept:
            name, descriptor = self._kept.popitem()
            os.close(descriptor)
            self._forget(name)

    def settle(self) -> None:
        """Return when what was closed is closed in the store as well. Blocks for a moment."""
        try:
            self._store.settle()
        except OSError as error:
            _log.warning("devices may still be open", reason=str(error))

    def _forget(self, name: str) -> None:
        try:
            self._store.forget(name)
        except OSError as error:
            _log.warning("device not given back", device=name, reason=str(error))


def _name(major: int, minor: int) -> str:
    return f"device-{major}-{minor}"
