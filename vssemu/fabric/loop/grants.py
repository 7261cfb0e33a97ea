"""Which host may use which loop device.

A host asks for a device before each binding. It is given one that is free and nobody else's,
and is let through its *device fence* to that one alone; when the device is seen free again,
or with a file that is none of that host's LUNs, it is taken away.

    given --bound to a LUN of the host--> bound --free again--> nobody's
      `--not bound in time, or bound to something else--> nobody's

The fence is the cgroup below the fence root that has the host's name. Where there is none
the host is not fenced, which is said once in the log. The table survives in a store, for the
kernel does not tell what a fence admits.

Several arrays on one machine share its devices. What an array was given is *taken*, a lock that
all of them see, from before it is looked at until it is nobody's again.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog
import trio

from vssemu.fabric.loop.lunfiles import lun_of
from vssemu.fabric.loop.taken import TakenDevices
from vssemu.linux import device_fence, loop
from vssemu.linux.device_fence import DeviceAccess, DeviceRule
from vssemu.linux.devices import DeviceKind
from vssemu.vss.errors import Fail
from vssemu.vss.identity import Initiator, LunId

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

BIND_SECONDS: Final = 30.0
"""How long a host may take from being given a device to binding it."""

FIRST_DEVICE: Final = 64
"""Devices below are left to other users of the machine, who take the lowest free one."""

LAST_DEVICE: Final = 4095
WINDOW: Final = 64
"""Each array begins its search in a window of its own, so that two arrays on one machine
seldom have to pass over what the other has taken."""

_MEMORY: Final = 1
_CHARACTERS: Final = (
    *((_MEMORY, minor) for minor in (3, 5, 7, 8, 9)),  # null, zero, full, random, urandom
    (5, 0),  # tty
    (5, 1),  # console
    (5, 2),  # ptmx
    *((major, None) for major in range(136, 144)),  # pts
    (10, 229),  # fuse
    (10, 237),  # loop-control
)

OwnLuns = Callable[[Initiator], Collection[LunId]]
"""Returns the LUNs that are published to a host."""


class GrantStore(Protocol):
    """Keeps the table over a crash."""

    async def load(self) -> Mapping[int, Initiator]:
        """Return the devices that were given, and to whom."""
        ...

    async def add(self, device: int, initiator: Initiator) -> None:
        """Keep that a device was given; durable at return."""
        ...

    async def remove(self, device: int) -> None:
        """Keep that a device is nobody's."""
        ...


@dataclass(kw_only=True)
class Grant:
    """A device that was given. since: when, by trio's clock. bound: seen with a LUN."""

    initiator: Initiator
    since: float
    bound: bool = False


def base_rules() -> tuple[DeviceRule, ...]:
    """Return what every host may open beside its loop devices."""
    return tuple(
        DeviceRule(kind=DeviceKind.CHARACTER, major=major, minor=minor, access=DeviceAccess.ALL)
        for major, minor in _CHARACTERS
    )


class Grants:
    """The table of devices given to hosts, and the fences made of it."""

    def __init__(
        self, store: GrantStore, own_luns: OwnLuns, fence_root: Path | None, window: int
    ) -> None:
        self._store = store
        windows = (LAST_DEVICE + 1 - FIRST_DEVICE) // WINDOW
        first = FIRST_DEVICE + window % windows * WINDOW
        self._candidates: tuple[int, ...] = (
            *range(first, LAST_DEVICE + 1),
            *range(FIRST_DEVICE, first),
        )
        self._own_luns = own_luns
        self._fence_root = fence_root
        self._grants: dict[int, Grant] = {}
        self._taken = TakenDevices()
        self._lost: set[Initiator] = set()
        self._made: set[int] = set()
        self._unfenced: set[Initiator] = set()
        self._lock = trio.Lock()
        self._started = False

    async def load(self) -> None:
        """Take over what an earlier run gave. Nothing is taken back before `start`.

        What another array has taken since, as free as it was, is not ours any more.
        """
        now = trio.current_time()
        for device, initiator in (await self._store.load()).items():
            if self._taken.take(device):
                self._grants[device] = Grant(initiator=initiator, since=now)
            else:
                logger.info("device_lost_to_another_array", device=device, initiator=initiator)
                await self._store.remove(device)
                self._lost.add(initiator)

    async def start(self) -> None:
        """Review what was taken over, once all LUNs are published, and set the fences."""
        async with self._lock:
            self._started = True
            await self._review()
            for initiator in self._lost | {g.initiator for g in self._grants.values()}:
                await self._fence(initiator)
            self._lost.clear()

    def owner(self, device: int) -> Initiator | None:
        """Return who was given a device."""
        grant = self._grants.get(device)
        return None if grant is None else grant.initiator

    async def reserve(self, initiator: Initiator) -> int:
        """Return the number of a free device that is this host's to bind from now on.

        Raises Fail when there is none, OSError.
        """
        async with self._lock:
            await self._review()
            device = await trio.to_thread.run_sync(self._free_device)
            try:
                await self._store.add(device, initiator)
            except BaseException:
                self._taken.give_back(device)
                raise
            self._grants[device] = Grant(initiator=initiator, since=trio.current_time())
            await self._fence(initiator)
            return device

    async def review(self) -> None:
        """Look at all devices that were given, and take back those that are over."""
        async with self._lock:
            if self._started:
                await self._review()

    async def forget(self, initiator: Initiator) -> None:
        """Take all devices from a host that is gone, and with them its way to them."""
        async with self._lock:
            for device, grant in tuple(self._grants.items()):
                if grant.initiator == initiator:
                    await self._take_back(device)
            await self._fence(initiator)

    async def admit(self, initiator: Initiator) -> None:
        """Fence a host in, before it was given any device."""
        async with self._lock:
            await self._fence(initiator)

    async def remove_made(self) -> None:
        """Take away the free devices that were made here: for an orderly end."""
        for device in tuple(self._made):
            if not self._taken.take(device):
                continue
            try:
                await trio.to_thread.run_sync(loop.remove, device)
            except OSError as error:
                logger.info("device_stays", device=device, error=str(error))
            self._made.discard(device)

    def close(self) -> None:
        """Let other arrays have what was taken."""
        self._taken.close()

    async def _review(self) -> None:
        now = trio.current_time()
        gone: set[Initiator] = set()
        for device, grant in tuple(self._grants.items()):
            # By its name: a look at the file itself may wait for who serves it.
            file = await trio.to_thread.run_sync(loop.backing_file, device)
            if file is None:
                over = grant.bound or now - grant.since > BIND_SECONDS
            else:
                over = lun_of(file) not in self._own_luns(grant.initiator)
                grant.bound = not over
            if over:
                await self._take_back(device)
                gone.add(grant.initiator)
        for initiator in gone:
            await self._fence(initiator)

    async def _take_back(self, device: int) -> None:
        await self._store.remove(device)
        grant = self._grants.pop(device)
        self._taken.give_back(device)
        logger.debug("device_taken_back", device=device, initiator=grant.initiator)

    def _free_device(self) -> int:
        for device in self._candidates:
            if device in self._grants or loop.sysfs_facts(device) is not None:
                continue
            if not self._taken.take(device):
                continue
            try:
                if self._is_free(device):
                    return device
            except OSError:
                self._taken.give_back(device)
                raise
            self._taken.give_back(device)
        raise Fail("there is no free loop device", hint="detach LUNs that are not used")

    def _is_free(self, device: int) -> bool:
        """Tell whether a device that was just taken is bound to nothing; make it if need be."""
        try:
            loop.add(device)
        except FileExistsError:
            return loop.sysfs_facts(device) is None
        self._made.add(device)
        return True

    async def _fence(self, initiator: Initiator) -> None:
        group = None if self._fence_root is None else self._fence_root / initiator
        if group is None or not await trio.to_thread.run_sync(group.is_dir):
            if initiator not in self._unfenced:
                logger.warning("host_not_fenced", initiator=initiator, group=str(group))
                self._unfenced.add(initiator)
            return
        self._unfenced.discard(initiator)
        devices = [n for n, grant in self._grants.items() if grant.initiator == initiator]
        rules = [
            DeviceRule(
                kind=DeviceKind.BLOCK, major=loop.MAJOR, minor=device, access=DeviceAccess.ALL
            )
            for device in sorted(devices)
        ]
        # FileNotFoundError: the host was killed, and its group went this moment.
        with suppress(FileNotFoundError):
            await trio.to_thread.run_sync(device_fence.set_fence, group, [*base_rules(), *rules])
