"""io.vssemu.DeviceObjects: the list of device objects that devicefs shows, and its requests.

Owns the list's revisions and who has confirmed which. devicefs may be absent, or come back
at any moment: then nobody is waited for, and the newcomer gets the full list.

Until devicefs has confirmed a list of this process it takes this process's threads for those
of any walker, and has them wait for trees: so nothing here walks into it before.
"""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import trio

from vssemu.api.device_objects import CopyList, DeviceObject
from vssemu.rpc.caller import Caller
from vssemu.vss.errors import AccessDenied, Fail

SETTLE_LIMIT: Final = 10.0
"""Seconds that devicefs may take to drop names; it waits for nobody while it does."""

Surface = Callable[[int], Awaitable[None]]
Reply = Callable[[CopyList], Awaitable[None]]


class Publication:
    """What is published now; the implementation of the interface is `PublicationService`.

    watches: how often devicefs has connected.
    """

    def __init__(self) -> None:
        self._objects: dict[int, DeviceObject] = {}
        # The clock gives a restarted service revisions that nobody has seen.
        self._revision = time.time_ns()
        self._first = self._revision
        self._settled = 0
        self._watchers = 0
        self.watches = 0
        self._begun = False
        self._changed = trio.Event()

    def begin(self) -> None:
        """Let lists out: from now on what is not in one does not exist.

        Before, after a restart, what is missing may only not have been found yet, and devicefs
        would unmount its tree.
        """
        if not self._begun:
            self._begun = True
            self._wake()

    def put(self, shown: DeviceObject) -> None:
        """Publish a device object, or newer facts of one."""
        if self._objects.get(shown.number) != shown:
            self._objects[shown.number] = shown
            self._revise()

    def drop(self, number: int) -> None:
        """Take a device object out of the list."""
        if self._objects.pop(number, None) is not None:
            self._revise()

    async def wait_settled(self) -> bool:
        """Wait until the present list is in force; True when it is, or nobody shows it."""
        wanted = self._revision
        with trio.move_on_after(SETTLE_LIMIT):
            while self._begun and self._watchers and self._settled < wanted:
                await self._changed.wait()
        return not (self._begun and self._watchers) or self._settled >= wanted

    @property
    def is_shown(self) -> bool:
        """Whether a devicefs is there that has confirmed a list of this process."""
        return self._watchers > 0 and self._settled >= self._first

    async def wait_known(self) -> None:
        """Wait until devicefs knows this process. Raises Fail when it does not in time."""
        with trio.move_on_after(SETTLE_LIMIT):
            while not self.is_shown:
                await self._changed.wait()
        if not self.is_shown:
            raise Fail(f"devicefs took no list within {SETTLE_LIMIT:g} s")

    async def settlements(self) -> AsyncIterator[int]:
        """Yield whenever a list was confirmed; several confirmations may be one.

        What is yielded is another number for another devicefs, or one that connected anew.
        """
        seen = (0, 0)
        while True:
            while not self.is_shown or seen == (self.watches, self._settled):
                await self._changed.wait()
            seen = self.watches, self._settled
            yield self.watches

    def current(self) -> CopyList:
        """Return the list as it is now."""
        copies = [self._objects[number] for number in sorted(self._objects)]
        return CopyList(revision=self._revision, server_pid=os.getpid(), copies=copies)

    async def stream(self, reply: Reply) -> None:
        """Send the list now and after each change, until cancelled."""
        self._watchers += 1
        self.watches += 1
        # What was confirmed before says nothing of this one.
        self._settled = 0
        try:
            while not self._begun:
                await self._changed.wait()
            while True:
                latest = self.current()
                await reply(latest)
                while self._revision == latest.revision:
                    await self._changed.wait()
        finally:
            self._watchers -= 1
            self._wake()

    def note_settled(self, revision: int) -> None:
        """Note that a list is in force. One of a former process counts for nothing."""
        if revision < self._first:
            return
        self._settled = max(self._settled, revision)
        self._wake()

    def _revise(self) -> None:
        self._revision += 1
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class PublicationService:
    """The interface's implementation. Only root may ask. surface: mounts a tree."""

    def __init__(self, publication: Publication, surface: Surface) -> None:
        self._publication = publication
        self._surface = surface

    async def watch(self, caller: Caller, reply: Reply) -> None:
        """Send the list now and after each change."""
        _refuse_others(caller)
        await self._publication.stream(reply)

    async def surface(self, caller: Caller, number: int) -> None:
        """Mount a copy's tree on its directory. Raises VssError with the reason."""
        _refuse_others(caller)
        await self._surface(number)

    async def settled(self, caller: Caller, revision: int) -> None:
        """Take note that a list is in force."""
        _refuse_others(caller)
        self._publication.note_settled(revision)


def _refuse_others(caller: Caller) -> None:
    if caller.credentials.uid != 0:
        raise AccessDenied("io.vssemu.DeviceObjects is for the file system of device objects")
