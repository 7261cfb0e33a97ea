"""What the next devicefs must know when this one is killed: one file beside the mount point.

Owns the file. It is replaced as a whole, so a kill leaves the former or the new one. It means
nothing without the connection that was kept with it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from vssemu_fuse.devicefs.catalog import CatalogRecord


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """A devicefs that was killed, as it was last.

    init: the kernel's first request. reply: what the FUSE library answered. born_ns: when the
    mount was made.
    """

    init: bytes
    reply: bytes
    born_ns: int
    catalog: CatalogRecord


class Memory:
    """The file for one mount point."""

    def __init__(self, mountpoint: Path) -> None:
        self._path = mountpoint.with_name(f"{mountpoint.name}.state")

    def recall(self) -> Past | None:
        """Return what was noted last; None when there is nothing that can be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Past)
        except (OSError, msgspec.DecodeError):
            return None

    def note(self, past: Past) -> None:
        """Replace what was noted. Raises OSError."""
        fresh = self._path.with_name(f"{self._path.name}.new")
        fresh.touch(0o600)
        fresh.write_bytes(msgspec.json.encode(past))
        fresh.replace(self._path)

    def forget(self) -> None:
        """Remove the file."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
