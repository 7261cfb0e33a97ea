"""The host agent: `HostPort` for the service, joined from the parts of this room.

One lock serializes whatever changes LUNs, volumes and copies. The hold does not take it, nor
does the mounting of a tree: a process waits for that inside a look-up.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
import trio

from vssemu.host import hold, inventory
from vssemu.host.border import failures, translated, vss_error
from vssemu.host.catalog import Catalog
from vssemu.host.copies import Copies
from vssemu.host.exposures import Exposures
from vssemu.host.names import access_path
from vssemu.host.paths import HostPaths
from vssemu.host.publication import Publication, PublicationService
from vssemu.host.storage import Storage
from vssemu.host.topology import Topology
from vssemu.host.volumes import HostVolume
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import MissingVolume, Unexpected, VolumeNotSupported, VssError
from vssemu.vss.fabric import HostBusAdapter
from vssemu.vss.host import CopyToSurface, DeviceObject, GptFlags, Held, Volume
from vssemu.vss.identity import SnapshotId, SnapshotSetId
from vssemu.vss.lun import Lun, LunInformation

ARRIVAL_PAUSE: Final = 0.25
"""Seconds between two looks for LUNs that are awaited; a prompt makes for an earlier one."""

_LOG_OUTPUT: Final = Path("/proc/self/fd/2")

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_host(
    paths: HostPaths, adapter: HostBusAdapter, storage: Storage, *, machine: str | None = None
) -> AsyncIterator["HostAgent"]:
    """Give the host agent for the block, with what was here before adopted.

    machine: the host's name, by default the kernel's. At the end of the block devices are let
    go; what is mounted stays mounted, for a successor.
    Raises VssError when the catalog cannot be opened.
    """
    async with trio.open_nursery() as nursery:
        with failures("open the host's catalog"):
            catalog = Catalog(paths.catalog)
        with catalog:
            agent = HostAgent(paths, adapter, storage, catalog, nursery, machine)
            agent.topology.purge_links()
            await agent.look()
            nursery.start_soon(agent.follow_changes)
            nursery.start_soon(agent.copies.keep_pinned)
            try:
                yield agent
            finally:
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await agent.leave()


class HostAgent:
    """Implements `vssemu.vss.host.HostPort`.

    device_objects: the implementation of io.vssemu.DeviceObjects for devicefs.
    """

    def __init__(
        self,
        paths: HostPaths,
        adapter: HostBusAdapter,
        storage: Storage,
        catalog: Catalog,
        tasks: trio.Nursery,
        machine: str | None,
    ) -> None:
        self.paths = paths
        self.adapter = adapter
        self.storage = storage
        self.catalog = catalog
        self.lock = trio.Lock()
        self._looking = trio.Lock()
        self._publication = Publication()
        self.copies = Copies(adapter, storage, catalog, self._publication, paths)
        self.exposures = Exposures(catalog, paths)
        self.topology = Topology(adapter, storage, catalog, self.copies, self.exposures, paths)
        self.device_objects = PublicationService(self._publication, self.copies.attach_tree)
        self._tasks = tasks
        self._machine = machine or os.uname().nodename
        self._prompted = trio.Event()

    def machine(self) -> str:
        """Return the machine's name."""
        return self._machine

    async def look(self) -> None:
        """Look for LUNs; that the array does not answer is logged."""
        try:
            await self._look()
        except (OSError, RpcError, VssError) as error:
            _log.warning("cannot look for LUNs", reason=str(vss_error(error, "look")))

    async def follow_changes(self) -> None:
        """Look whenever the adapter says that something may have changed."""
        async for _ in self.adapter.changes():
            await self.look()
            self._prompted.set()
            self._prompted = trio.Event()

    async def leave(self) -> None:
        """Let go of all devices."""
        async with self.lock:
            await self.topology.leave()

    async def volumes(self) -> Sequence[Volume]:
        """Return the volumes of this host, shadow copies' ones not among them."""
        async with self.lock:
            return [each.describe() for each in self.topology.all_volumes() if not each.is_copy]

    async def volume(self, name: str) -> Volume:
        """Return the volume that a letter, a volume GUID path or a mount point names."""
        async with self.lock:
            return self.topology.named(name).describe()

    @translated
    async def check_can_hold(self, volume: Volume) -> None:
        """Raise VolumeNotSupported unless the volume can be held safely."""
        if volume.filesystem is None:
            raise VolumeNotSupported(
                f"{volume.name}: it has no file system that this host knows",
                hint="ext4 and xfs are supported",
                item=volume.name,
            )
        target = self.topology.of(volume).target()
        if target is None:
            raise VolumeNotSupported(
                f"{volume.name}: it is not mounted",
                hint="give it a drive letter or a folder first",
                item=volume.name,
            )
        own = (self.paths.state, self.paths.run, _LOG_OUTPUT, Path(tempfile.gettempdir()))
        if (path := hold.carries(target, own)) is not None:
            raise VolumeNotSupported(
                f"{volume.name}: it carries the service's own {path}",
                hint="writes to it cannot be held; move the service's files elsewhere",
                item=volume.name,
            )
        await hold.probe(target, guard=self.paths.guard_socket, tasks=self._tasks)

    @translated
    async def set_flags(self, volumes: Sequence[Volume], flags: GptFlags) -> None:
        """Replace the attribute bits 60 to 63 of the volumes.

        A volume that is not mounted and may be now, is mounted where it is remembered.
        """
        async with self.lock:
            for described in volumes:
                volume = self.topology.of(described)
                await volume.change_flags(flags)
                if not volume.is_quiet and not volume.places:
                    await self.topology.mount_remembered(volume)

    def hold(self, volumes: Sequence[Volume], limit: float) -> AbstractAsyncContextManager[Held]:
        """Hold all writes to the volumes while the block runs, for `limit` seconds at most.

        Volumes that are not mounted have no writers, and nothing is done to them.
        """
        found = (self.topology.of(volume).target() for volume in volumes)
        targets = [target for target in found if target is not None]
        return hold.hold(targets, limit, guard=self.paths.guard_socket, tasks=self._tasks)

    @translated
    async def rescan(self) -> None:
        """Take note of LUNs that came or went."""
        await self._look()

    async def _look(self) -> None:
        # The array may take its time, and nobody else need wait for it: only looks do, one for
        # another, so that none acts on what an older one was told.
        async with self._looking:
            reached = await self.adapter.rescan()
            async with self.lock:
                await self.topology.look(reached)
                self._publication.begin()

    @translated
    async def wait_arrival(
        self, expected: Sequence[LunInformation], limit: float
    ) -> Sequence[Lun]:
        """Return the LUNs that arrived of the expected ones, at once when all are there."""
        prompted = self._prompted
        # The first look is not part of the wait: with a limit of 0 it is all there is.
        found = await self._arrived(expected)
        with trio.move_on_after(limit):
            while len(found) < len(expected):
                with trio.move_on_after(ARRIVAL_PAUSE):
                    await prompted.wait()
                prompted = self._prompted
                found = await self._arrived(expected)
        return found

    async def _arrived(self, expected: Sequence[LunInformation]) -> list[Lun]:
        async with self.lock:
            for record in expected:
                self.topology.welcome(record)
            known = [self.topology.recorded(record) for record in expected]
        if None in known:
            await self._look()
        async with self.lock:
            known = [self.topology.recorded(record) for record in expected]
            return [each.as_lun(self.paths.by_id) for each in known if each is not None]

    @translated
    async def give_new_identity(self, luns: Sequence[Lun]) -> None:
        """Rewrite disk and partition GUIDs of arrived copies."""
        async with self.lock:
            for lun in luns:
                known = self.topology.require(lun.information)
                await inventory.change_identity(self.adapter, known)
                await self.topology.reread(known)

    @translated
    async def surface(self, copy: CopyToSurface) -> DeviceObject:
        """Make the copy's device object. Its tree is mounted at the first look-up."""
        item = str(copy.snapshot_id)
        places = [
            (record, extent)
            for record, extents in zip(copy.luns, copy.extents, strict=True)
            for extent in extents
        ]
        if len(places) != 1:
            raise VolumeNotSupported(
                f"shadow copy {{{item}}}: its volume lies in {len(places)} parts on"
                f" {len(copy.luns)} LUNs",
                hint="only a volume in one part, on one LUN, can be shown here",
                item=item,
            )
        ((record, extent),) = places
        async with self.lock:
            known = self.topology.require(record)
            volume = self.topology.volume_at(known.id, extent)
            if volume is None or volume.facts.extent != extent:
                fact = f"shadow copy {{{item}}}: its volume is not on {known.id}"
                raise MissingVolume(fact, item=item)
            row = await self.copies.surface(
                copy.snapshot_id, known.id, extent, copy.properties_json
            )
            return DeviceObject(number=row.number, path=self.copies.object_path(row.number))

    @translated
    async def update_properties(self, snapshot_id: SnapshotId, properties_json: str) -> None:
        """Replace what the Properties view shows of a copy."""
        async with self.lock:
            self.copies.rewrite(snapshot_id, properties=properties_json)

    @translated
    async def retire(self, snapshot_id: SnapshotId) -> None:
        """Take the copy's names, mounts and devices away for good; idempotent."""
        async with self.lock:
            await self.copies.retire(snapshot_id)

    @translated
    async def release(self, snapshot_id: SnapshotId) -> None:
        """Turn a copy into a plain read-only volume; its device object stays. Idempotent."""
        async with self.lock:
            row = self.copies.get(snapshot_id).row
            await self.storage.set_independent([self.topology.lun(row.lun).information])
            if (volume := self.topology.volume_at(row.lun, row.extent)) is not None:
                await volume.change_flags(volume.facts.flags & GptFlags.READ_ONLY)
            self.copies.rewrite(snapshot_id, released=True)

    @translated
    async def make_read_write(self, snapshot_id: SnapshotId) -> None:
        """Make the volume of a released copy writable; its device object ends."""
        async with self.lock:
            row = self.copies.get(snapshot_id).row
            if (volume := self.topology.volume_at(row.lun, row.extent)) is not None:
                await self.open_for_writing(volume)

    async def open_for_writing(self, volume: HostVolume) -> None:
        """Clear a volume's attribute bits and mount it where it is remembered; under the lock.

        Device objects on it end: they would go on showing the bytes of before.
        Raises OSError: EBUSY while the volume is in use.
        """
        for row in self.copies.rows_on(volume.lun.id, volume.facts.extent):
            await self.copies.retire(row.snapshot_id)
        await volume.dismount(lazily=False)
        await volume.change_flags(GptFlags.NONE)
        await self.topology.mount_remembered(volume)

    @translated
    async def remove(self, luns: Sequence[LunInformation]) -> None:
        """Detach LUNs from this host, dismounting what is on them; idempotent."""
        async with self.lock:
            for record in luns:
                known = self.topology.recorded(record)
                if known is not None:
                    await self.topology.detach(known.id)

    @translated
    async def expose(self, snapshot_id: SnapshotId, target: str) -> str:
        """Mount a copy read-only at a letter (`X:`) or an empty folder; return its name."""
        async with self.lock:
            copy = self.copies.get(snapshot_id)
            place = access_path(target, self.paths.mnt)
            is_taken = self.topology.owner_of(place) is not None
            return await self.exposures.expose(copy, place, is_taken=is_taken)

    @translated
    async def unexpose(self, snapshot_id: SnapshotId) -> None:
        """Undo `expose`. Raises ObjectNotFound when the copy is not exposed."""
        async with self.lock:
            await self.exposures.unexpose(self.copies.get(snapshot_id))

    @translated
    async def mark_import_failed(
        self, luns: Sequence[LunInformation], set_id: SnapshotSetId
    ) -> None:
        """List LUNs of a failed import under the set's id until the clean-up verb."""
        async with self.lock:
            for record in luns:
                if (lun := record.naa) is None:
                    raise Unexpected(f"{record.describe()} has no NAA identifier")
                self.catalog.remember_lun(lun, record)
                self.catalog.mark_import_failed(lun, set_id)
            await self.storage.set_import_failed(luns)
