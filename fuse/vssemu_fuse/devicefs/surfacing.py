"""Surfacing on first look-up: one request to the service however many walkers wait.

Owns the running requests, their time limit, and the words logged when one fails. Refuses
to know what a FUSE reply looks like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
import trio

from vssemu.vss.errors import VssError
from vssemu_fuse.devicefs.catalog import Copy, Surface
from vssemu_fuse.devicefs.copies import Copies

SURFACE_LIMIT: Final = 30.0
"""Seconds. A process waiting in a look-up cannot be killed, so it must not wait long;
surfacing takes some 0.1 s, and a restart of the service a few seconds."""

_log = structlog.get_logger(__name__)


class Surfacer:
    """Asks the service for trees; the requests run in the nursery given.

    on_mounted: called when a tree has been mounted.
    """

    def __init__(
        self,
        copies: Copies,
        nursery: trio.Nursery,
        *,
        limit: float = SURFACE_LIMIT,
        on_mounted: Callable[[], None] = lambda: None,
    ) -> None:
        self._copies = copies
        self._nursery = nursery
        self._limit = limit
        self._on_mounted = on_mounted
        self._running: dict[Copy, tuple[trio.Event, trio.CancelScope]] = {}

    async def wait_surfaced(self, copy: Copy) -> None:
        """Return when the copy's tree is mounted or cannot be; `copy.surface` says which."""
        if copy.surface is Surface.MOUNTED:
            return
        if copy not in self._running:
            self._running[copy] = (trio.Event(), trio.CancelScope())
            self._nursery.start_soon(self._surface, copy)
        done, _ = self._running[copy]
        await done.wait()

    def give_up(self, copy: Copy) -> None:
        """End the wait for a copy that was removed."""
        if copy in self._running:
            self._running[copy][1].cancel()

    async def _surface(self, copy: Copy) -> None:
        done, abandoned = self._running[copy]
        copy.surface = Surface.BARE
        try:
            with abandoned:
                await self._ask(copy)
        finally:
            # Before the waiters wake: the next look-up is a new attempt.
            del self._running[copy]
            done.set()

    async def _ask(self, copy: Copy) -> None:
        number = copy.facts.number
        try:
            with trio.fail_after(self._limit):
                await self._copies.surface(number)
        except trio.TooSlowError:
            self._failed(copy, f"no answer within {self._limit:g} s")
        except VssError as error:
            self._failed(copy, str(error))
        except OSError as error:
            self._failed(copy, str(error))
        else:
            copy.mounted()
            self._on_mounted()
            _log.info("tree mounted", number=number)

    def _failed(self, copy: Copy, reason: str) -> None:
        if copy.failed(reason):
            _log.error("tree not mounted", number=copy.facts.number, reason=reason)
