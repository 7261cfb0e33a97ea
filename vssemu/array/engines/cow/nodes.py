"""Files of shards' mounts: opened, kept open, closed.

A mount of a shard is mounted nowhere; its files are reached through its descriptor. Blocks:
call in a thread.
"""

import os
import secrets
from typing import Final

from vssemu.array.engines.cow.shards import Shards
from vssemu.vss.engine import Backing
from vssemu.vss.identity import LunId

SCRATCH: Final = ".scratch"
"""After a copy's id, and before what no other clone has: the node of its scratch clone."""

BEFORE: Final = ".before"
AT: Final = ".at"
"""After a full copy's id: the nodes of its source when the copying began, and at the instant."""

EXPORT: Final = ".export"
"""After a copy's id: the node of its chain's origin at the instant of an export."""


def with_suffix(lun: LunId, suffix: str) -> LunId:
    """Return the name of a node that belongs to a LUN."""
    return LunId(f"{lun}{suffix}")


def new_scratch(lun: LunId) -> LunId:
    """Return a name for a scratch clone.

    A device over an earlier clone may live on, cut off, with a directory that is open: to the
    kernel a name that comes again would be the same file.
    """
    return with_suffix(lun, f"{SCRATCH}-{secrets.token_hex(4)}")


def owner_of(name: str) -> LunId:
    """Return the LUN that a node belongs to."""
    digits, _, _ = name.removeprefix("naa.").partition(".")
    return LunId(f"naa.{digits}")


class NodeFiles:
    """The open files of nodes, by their names."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._open: dict[LunId, int] = {}

    def path(self, name: LunId) -> str:
        """Return where this process can open a node. Raises FileNotFoundError."""
        return f"/proc/self/fd/{self._shards.of(name).mount}/{name}"

    def backing(self, name: LunId) -> Backing:
        """Return a node as fabrics publish it; it stays open until `close`. Raises OSError."""
        path = self.path(name)
        descriptor = self._open.get(name)
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._open[name] = descriptor
        size = os.fstat(descriptor).st_size
        return Backing(path=path, is_block=False, size=size, descriptor=descriptor)

    def close(self, name: LunId) -> None:
        """Close what `backing` opened, if it did."""
        descriptor = self._open.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def close_all(self) -> None:
        """Close all that `backing` opened."""
        for name in tuple(self._open):
            self.close(name)
