"""The volumes of a host: what lies on its LUNs, their devices and where they are mounted.

A volume has a device while it is mounted and no longer, and a link to it below `by-id`. There
is none of all of a partitioned LUN: it would show stale bytes of the partitions, and the bytes
of a shadow copy outside its device object. Everything here is called under the agent's lock.
Refuses to remember anything over a restart (the catalog does), and to judge which volume may
be mounted.
"""

import contextlib
import errno
import os
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog
import trio

from vssemu.host import inventory, mounting
from vssemu.host.hold import Target
from vssemu.host.inventory import WHOLE, KnownLun, PartitionFacts
from vssemu.host.names import AccessPath
from vssemu.host.storage import Storage
from vssemu.linux import loop
from vssemu.vss.array import View
from vssemu.vss.fabric import BoundDevice, HostBusAdapter
from vssemu.vss.host import GptFlags, LunExtents, Volume
from vssemu.vss.identity import volume_guid_name

QUIET = GptFlags.SHADOW_COPY | GptFlags.HIDDEN | GptFlags.NO_DRIVE_LETTER
"""The bits with any of which a volume is not mounted when it arrives."""

_log = structlog.get_logger(__name__)


class HostVolume:
    """One partition of one LUN, or the file system on all of it.

    is_copy: it belongs to a shadow copy, so it is no volume of this host for VSS.
    """

    def __init__(
        self,
        adapter: HostBusAdapter,
        storage: Storage,
        by_id: Path,
        lun: KnownLun,
        facts: PartitionFacts,
    ) -> None:
        self.lun = lun
        self.facts = facts
        self.is_copy = GptFlags.SHADOW_COPY in facts.flags
        self.places: list[AccessPath] = []
        self._adapter = adapter
        self._storage = storage
        self._by_id = by_id
        self._device: BoundDevice | None = None
        self._stack = AsyncExitStack()

    @property
    def name(self) -> str:
        r"""The volume GUID path."""
        return volume_guid_name(self.facts.guid)

    @property
    def device(self) -> BoundDevice | None:
        """The block device while the volume is mounted."""
        return self._device

    @property
    def is_quiet(self) -> bool:
        """Whether the attribute bits forbid to mount it on arrival."""
        return bool(self.facts.flags & QUIET)

    @property
    def is_read_only(self) -> bool:
        """Whether the attribute bits allow a read-only mount alone."""
        return GptFlags.READ_ONLY in self.facts.flags

    def describe(self) -> Volume:
        """Return the volume as the service knows it."""
        extents = LunExtents(
            lun=self.lun.as_lun(self._by_id), lun_id=self.lun.id, extents=(self.facts.extent,)
        )
        return Volume(
            guid=self.facts.guid,
            name=self.name,
            letters=tuple(each.name for each in self.places if each.is_letter),
            mount_points=tuple(str(each.directory) for each in self.places),
            filesystem=self.facts.filesystem,
            label=self.facts.label,
            size=self.facts.extent.length,
            flags=self.facts.flags,
            luns=(extents,),
        )

    def target(self) -> Target | None:
        """Return what a hold needs; None while nothing is mounted, hence nothing written."""
        if self._device is None or not self.places:
            return None
        return Target(
            volume=self.name,
            directory=self.places[0].directory,
            device=mounting.number_of(self._device),
            filesystem=self.facts.filesystem or "unknown",
        )

    def take(self, lun: KnownLun, facts: PartitionFacts) -> None:
        """Take over newer facts about the LUN and the partition."""
        self.lun, self.facts = lun, facts
        self.is_copy = self.is_copy and GptFlags.SHADOW_COPY in facts.flags

    async def change_flags(self, flags: GptFlags) -> None:
        """Replace the attribute bits 60 to 63, durably; without SHADOW_COPY it is no copy.

        Raises OSError, BadTable, and what adapter and storage raise.
        """
        number = self.facts.number
        await inventory.change_flags(self._adapter, self._storage, self.lun.id, number, flags)
        self.take(self.lun, replace(self.facts, flags=flags))

    async def bind(self, *, writable: bool, length: int | None = None) -> BoundDevice:
        """Bind the volume's device; it stays until nothing is mounted and `free` is called.

        length: bytes, of a device that a predecessor left; by default all of the volume.
        """
        if self._device is None:
            bound = self._bound(writable=writable, length=length)
            self._device = await self._stack.enter_async_context(bound)
            self._link(self._device)
        return self._device

    def _bound(
        self, *, writable: bool, length: int | None = None
    ) -> contextlib.AbstractAsyncContextManager[BoundDevice]:
        extent = self.facts.extent
        return self._adapter.bound(
            self.lun.id,
            View.LUN,
            offset=extent.offset,
            length=extent.length if length is None else length,
            writable=writable,
        )

    async def grow(self) -> None:
        """Let the device of a mounted volume have the bytes that its LUN gained.

        Its file system is grown by whoever wants that. A failure is logged.
        """
        length = self.facts.extent.length
        if self._device is None or self._device.length >= length:
            return
        try:
            await trio.to_thread.run_sync(_resize, self._device, length)
        except OSError as error:
            _log.warning("device not grown", volume=self.name, reason=str(error))
        else:
            self._device = replace(self._device, length=length)

    async def mount_at(self, place: AccessPath, *, writable: bool) -> None:
        """Mount the volume at a place. Raises OSError, InvalidArgument, VolumeNotSupported."""
        if place in self.places:
            return
        try:
            try:
                await self._mount(place, writable=writable)
            except OSError as error:
                if error.errno != errno.EROFS or writable or self.places:
                    raise
                # The log of a file system that nobody unmounted, as on a copy just broken: it
                # is mounted from a read-only device when it was replayed, and not before.
                await self.leave()
                async with self._bound(writable=True) as device:
                    await trio.to_thread.run_sync(mounting.replay_log, device)
                await self._mount(place, writable=False)
        except BaseException:
            await self.free()
            raise
        self.places.append(place)

    async def _mount(self, place: AccessPath, *, writable: bool) -> None:
        device = await self.bind(writable=writable)
        await trio.to_thread.run_sync(mounting.mount_volume, device, place)

    async def unmount_from(self, place: AccessPath, *, lazily: bool) -> None:
        """Unmount the volume from a place. Raises OSError: EBUSY while in use."""
        if self._device is not None:
            number = mounting.number_of(self._device)
            await trio.to_thread.run_sync(partial(mounting.unmount, number, place, lazily=lazily))
        self.places.remove(place)
        await self.free()

    async def dismount(self, *, lazily: bool) -> None:
        """Unmount the volume everywhere, or nowhere. Raises OSError: EBUSY while in use."""
        undone: list[AccessPath] = []
        writable = self._device is not None and not self._device.read_only
        try:
            for place in reversed(self.places.copy()):
                await self.unmount_from(place, lazily=lazily)
                undone.insert(0, place)
        except OSError:
            for place in undone:
                await self.mount_at(place, writable=writable)
            raise
        if self._device is not None and lazily:
            number = mounting.number_of(self._device)
            await trio.to_thread.run_sync(mounting.unmount_everywhere, number)
        await self.free()

    async def free(self) -> None:
        """Let the device go if nothing is mounted."""
        if not self.places:
            await self.leave()

    async def leave(self) -> None:
        """Let the device go; what is mounted on it stays, and keeps it."""
        if self._device is not None:
            with trio.CancelScope(shield=True):
                if not self.places:
                    self._unlink()
                self._device = None
                await self._stack.aclose()

    def _path(self) -> Path:
        number = self.facts.number
        return self._by_id / (self.lun.id if number == WHOLE else f"{self.lun.id}-part{number}")

    def _link(self, device: BoundDevice) -> None:
        self._by_id.mkdir(parents=True, exist_ok=True)
        temporary = self._path().with_name(f".{self._path().name}.new")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(device.node)
        temporary.rename(self._path())

    def _unlink(self) -> None:
        with contextlib.suppress(OSError):
            self._path().unlink(missing_ok=True)


def _resize(device: BoundDevice, length: int) -> None:
    descriptor = os.open(device.node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        loop.set_size_limit(descriptor, length)
    finally:
        os.close(descriptor)
