"""What a devicefs knows and has open, and what its successor finds of that.

Owns the order in which things are noted and given to the starter's store, so that whatever is
kept can be taken over. A devicefs that cannot have a successor notes and gives nothing.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import structlog
import trio

from vssemu.linux.fdstore import Store
from vssemu_fuse.devicefs import mounting
from vssemu_fuse.devicefs.catalog import Catalog, Copy
from vssemu_fuse.devicefs.devices import Devices
from vssemu_fuse.devicefs.handles import Handles
from vssemu_fuse.devicefs.memory import Memory, Past
from vssemu_fuse.devicefs.session import KEPT_NAME, Link

_NOWHERE: Final = Store(None)

_log = structlog.get_logger(__name__)


class Holdings:
    """The catalog, the open files, and the way to a successor.

    kept: raw devices that the starter kept, taken over. born_ns: when the mount was made.
    """

    def __init__(self, link: Link, store: Store, kept: dict[str, int], mountpoint: Path) -> None:
        self._store = store if link.is_lasting else _NOWHERE
        self._devices = Devices(self._store, kept)
        self._link = link
        self._memory = Memory(mountpoint)
        self._reply: bytes | None = None
        self.catalog = Catalog()
        self.handles = Handles(self.catalog, self._devices)
        self.born_ns = time.time_ns()
        if link.past is not None:
            self._take_over(link.past, mountpoint)

    def _take_over(self, past: Past, mountpoint: Path) -> None:
        server = past.catalog.server_pid
        self.born_ns = past.born_ns
        self.catalog.restore(
            past.catalog,
            mounted=mounting.trees(mountpoint),
            server_lives=server > 0 and Path(f"/proc/{server}").exists(),
            now=time.monotonic(),
        )

    def begin(self, reply: bytes) -> None:
        """From now on there can be a successor. reply: the library's, to INIT. Raises OSError."""
        self._reply = reply
        if self._link.past is None:
            self.note()
            self._store.keep(KEPT_NAME, self._link.connection)

    def note(self) -> None:
        """Note how things are."""
        if self._reply is None or not self._link.is_lasting:
            return
        past = Past(
            init=self._link.init,
            reply=self._reply,
            born_ns=self.born_ns,
            catalog=self.catalog.record(),
        )
        try:
            self._memory.note(past)
        except OSError as error:
            _log.error("nothing noted for a successor", reason=str(error))

    def end(self) -> None:
        """There will be no successor."""
        try:
            self._store.forget(KEPT_NAME)
        except OSError as error:
            _log.warning("connection not given back", reason=str(error))
        self._memory.forget()

    def keep_devices(self) -> None:
        """Open the devices of all copies, and close what a predecessor left beside them."""
        for copy in self.catalog.after(0):
            try:
                self.handles.keep(copy)
            except OSError as error:
                # The next list is the next attempt.
                _log.warning("device not kept", number=copy.facts.number, reason=str(error))
        self._devices.drop_unused()

    async def retire(self, *copies: Copy) -> None:
        """Refuse what is open of removed copies; return when nobody has their devices open."""
        for copy in copies:
            await self.handles.retire(copy)
        if copies:
            await trio.to_thread.run_sync(self._devices.settle)
