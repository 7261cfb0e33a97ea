"""The array's half of the loop fabric: descriptors of LUNs for the hosts that may have them.

A descriptor that was handed out cannot be taken back. So a LUN is handed out only when no
loop device over it is left but living ones of the same host, and a surprise withdrawal cuts
the devices themselves down to nothing.

Refuses to say which LUN is whose: that is what the array publishes here.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
import trio

from vssemu.fabric.loop.asking import Asking
from vssemu.fabric.loop.grants import Grants, GrantStore
from vssemu.fabric.loop.target_bindings import (
    WITHDRAWN_LIMIT,
    FileIdentity,
    bindings_of,
    cut_off,
    holder,
    is_bound_to,
    release_stuck,
)
from vssemu.linux.loop import LoopStatus, node
from vssemu.linux.uevents import BlockMonitor
from vssemu.vss.engine import Backing
from vssemu.vss.errors import ObjectNotFound, VolumeInUse, VssError
from vssemu.vss.identity import Initiator, LunId

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

GRACE_SECONDS: Final = 0.5
"""How long a device that nobody holds may take to free itself before it counts as stuck."""

DRAIN_SECONDS: Final = 5.0
_PAUSE: Final = 0.02


class LoopTarget:
    """Implements `vssemu.vss.fabric.Target`.

    Before anything else the grants are loaded; when all LUNs are published, `run` is started.
    """

    def __init__(
        self, store: GrantStore, *, fence_root: Path | None = None, window: int = 0
    ) -> None:
        """Make the half of one array.

        fence_root: control group above those of the hosts. window: a number that differs
        between arrays, which keeps their loop devices apart.
        """
        self._files: dict[LunId, set[FileIdentity]] = {}
        self._published: dict[Initiator, set[LunId]] = {}
        self._asking = Asking()
        self.grants = Grants(store, self._luns_of_host, fence_root, window)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch the machine's block devices until cancelled, and take back what is free."""
        with BlockMonitor() as monitor:
            await self.grants.start()
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(monitor.fileno())
                if self._drained(monitor):
                    await self._review()

    async def _review(self) -> None:
        try:
            await self.grants.review()
        except (VssError, OSError) as error:
            # The store is full, or a host's group went under the look, say: what stays given
            # is taken back at the next event.
            logger.error("grants_not_reviewed", error=str(error))

    @staticmethod
    def _drained(monitor: BlockMonitor) -> bool:
        """Take all events that wait; tell whether one was of a loop device, or was lost."""
        of_loops = False
        while True:
            try:
                event = monitor.receive_nowait()
            except OSError as error:
                logger.warning("events_lost", error=str(error))
                return True
            if event is None:
                return of_loops
            of_loops = of_loops or event.name.startswith("loop")

    # Target

    async def publish(self, initiator: Initiator, lun: LunId, backing: Backing) -> None:
        """Make a file of a LUN one that may be handed to a host; several calls add up."""
        self._files.setdefault(lun, set()).add(FileIdentity.of(backing.descriptor))
        self._published.setdefault(initiator, set()).add(lun)

    async def withdraw(self, initiator: Initiator, lun: LunId, *, surprise: bool) -> None:
        """Take a LUN from a host; one that it does not have is no error.

        Raises VolumeInUse while devices over it are alive there. By surprise they are cut
        off instead: I/O on them fails from then on. Raises OSError.
        """
        if surprise:
            await self._cut_off(initiator, lun)
        elif users := await self._users(lun, self._files_of(lun), initiator):
            raise VolumeInUse(
                f"LUN {lun} is in use on {initiator}: {', '.join(users)}",
                item=lun,
                hint="unmount its volumes and remove it there first",
            )
        self._published.get(initiator, set()).discard(lun)
        if not self._hosts_of(lun):
            self._files.pop(lun, None)
        await self.grants.review()

    async def users(
        self, lun: LunId, backings: Sequence[Backing], initiator: Initiator | None = None
    ) -> Sequence[str]:
        """Return the devices over a LUN's files that are alive, in words.

        backings: the LUN's files, published or not. initiator: only its devices, and those of
        nobody that is known. What a crash left is freed first. Raises OSError; Fail when
        who serves the files does not answer.
        """
        files = frozenset(FileIdentity.of(backing.descriptor) for backing in backings)
        return await self._users(lun, files, initiator)

    async def revoke(self, lun: LunId, backings: Sequence[Backing]) -> None:
        """Cut off all devices over a LUN's files, whoever has them; it stays published.

        Raises OSError when one is not cut off; Fail when who serves the files does not answer.
        """
        files = frozenset(FileIdentity.of(backing.descriptor) for backing in backings)
        for binding in await self._bindings(lun, files):
            await self._cut(lun, binding.number, files)

    async def discard(self, lun: LunId, backing: Backing) -> None:
        """Forget a file of a LUN that is about to be removed: its numbers will be another's."""
        self._files.get(lun, set()).discard(FileIdentity.of(backing.descriptor))

    async def attach(
        self, initiator: Initiator, lun: LunId, backing: Backing, *, writable: bool
    ) -> int:
        """Return a new descriptor of a LUN's file, read-only unless asked to write.

        Raises ObjectNotFound for a LUN that is not published to the host; VolumeInUse when
        another binding of it is alive where it must not be; Fail when who serves its file does
        not answer; OSError.
        """
        if lun not in self._published.get(initiator, ()):
            raise ObjectNotFound(f"no LUN {lun} is published to {initiator}", item=lun)
        for binding in await self._bindings(lun, self._files_of(lun)):
            await self._settle(initiator, lun, binding)
        return await self._asking.ask(lun, _reopen, backing, writable, unwanted=os.close)

    async def reserve_device(self, initiator: Initiator) -> int:
        """Return the number of a free loop device that this host alone may use."""
        return await self.grants.reserve(initiator)

    async def forget(self, initiator: Initiator) -> None:
        """Drop all that is known of a host that was expelled."""
        self._published.pop(initiator, None)
        await self.grants.forget(initiator)

    # Bindings

    def _hosts_of(self, lun: LunId) -> set[Initiator]:
        return {initiator for initiator, luns in self._published.items() if lun in luns}

    def _luns_of_host(self, initiator: Initiator) -> set[LunId]:
        return self._published.get(initiator, set())

    def _files_of(self, lun: LunId) -> frozenset[FileIdentity]:
        return frozenset(self._files.get(lun, ()))

    async def _bindings(self, lun: LunId, files: frozenset[FileIdentity]) -> list[LoopStatus]:
        return await self._asking.ask(lun, bindings_of, lun, files)

    async def _users(
        self, lun: LunId, files: frozenset[FileIdentity], initiator: Initiator | None
    ) -> list[str]:
        users = []
        for binding in await self._bindings(lun, files):
            owner = self.grants.owner(binding.number)
            if initiator is not None and owner not in {None, initiator}:
                continue
            if binding.size_limit == WITHDRAWN_LIMIT and owner is not None:
                # Cut off: a directory that somebody keeps open is all that holds it.
                continue
            user = await self._freed(lun, files, binding.number, wait=False)
            if user is not None:
                users.append(user)
        return users

    async def _settle(self, initiator: Initiator, lun: LunId, binding: LoopStatus) -> None:
        """Let a binding be if it is a living one of a host that has the LUN, else end it."""
        files = self._files_of(lun)
        owner = self.grants.owner(binding.number)
        is_whole = binding.size_limit != WITHDRAWN_LIMIT
        if is_whole and owner is not None and owner in self._hosts_of(lun):
            await self._freed(lun, files, binding.number, wait=False)
            return
        user = await self._freed(lun, files, binding.number, wait=True)
        if user is not None:
            raise VolumeInUse(
                f"LUN {lun} cannot be given to {initiator}: {user}",
                item=lun,
                hint=f"unmount it there ({owner or 'no host that is known'}) first",
            )

    async def _freed(
        self, lun: LunId, files: frozenset[FileIdentity], number: int, *, wait: bool
    ) -> str | None:
        """Free a device that nobody holds; return who holds it, in words, if somebody does.

        wait: give a living holder a moment to let go.
        """
        grace = trio.current_time() + GRACE_SECONDS
        deadline = trio.current_time() + DRAIN_SECONDS
        is_drained = False
        while await self._asking.ask(lun, is_bound_to, number, files):
            user = await trio.to_thread.run_sync(holder, number)
            now = trio.current_time()
            if user is not None and (not wait or now > grace):
                return f"{node(number)} is {user}"
            if now > deadline:
                return f"{node(number)} does not go"
            if user is None and now > grace and not is_drained:
                is_drained = await self._drain(lun, number)
            await trio.sleep(_PAUSE)
        return None

    async def _drain(self, lun: LunId, number: int) -> bool:
        try:
            await self._asking.ask(lun, release_stuck, number)
        except OSError as error:
            logger.warning("device_not_released", device=str(node(number)), error=str(error))
            return False
        return True

    async def _cut_off(self, initiator: Initiator, lun: LunId) -> None:
        files = self._files_of(lun)
        for binding in await self._bindings(lun, files):
            owner = self.grants.owner(binding.number)
            if owner in {None, initiator}:
                await self._cut(lun, binding.number, files)

    async def _cut(self, lun: LunId, number: int, files: frozenset[FileIdentity]) -> None:
        logger.warning("device_cut_off", device=str(node(number)), lun=lun)
        try:
            await self._asking.ask(lun, cut_off, number, files)
        except OSError:
            if await self._asking.ask(lun, is_bound_to, number, files):
                raise


def _reopen(backing: Backing, writable: bool) -> int:
    """Open the file of a backing once more, so that its mode is its own."""
    mode = os.O_RDWR if writable else os.O_RDONLY
    descriptor = os.open(backing.path, mode | os.O_CLOEXEC)
    if FileIdentity.of(descriptor) != FileIdentity.of(backing.descriptor):
        os.close(descriptor)
        raise FileNotFoundError(f"{backing.path} is another file now")
    return descriptor
