"""Shadow copies on this host: their scratch devices, their trees, their names, their end.

    pristine LUN --array--> scratch clone --bound r/w, mounted, unmounted--> log replayed
                                          --bound read-only--> RawDevice, Image
                                          --mounted at first look-up--> Device/.../

The scratch clone is what users see; the LUN itself stays as it was taken. The tree can be
reached through devicefs, and at the letters and folders where the copy was exposed.
Everything but `attach_tree` and `keep_pinned` is called under the agent's lock.

Until the tree is mounted its bare directory is *pinned*, held open here: devicefs may then let
the first walker wait for the tree, whatever kind of walk it is.
"""

from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Final

import structlog
import trio

from vssemu.api.device_objects import DeviceObject
from vssemu.host import mounting, trees
from vssemu.host.border import vss_error
from vssemu.host.catalog import Catalog, ObjectRow
from vssemu.host.paths import HostPaths
from vssemu.host.publication import Publication
from vssemu.host.storage import Storage
from vssemu.host.surfaced import SurfacedCopy, end_use
from vssemu.rpc.errors import RpcError
from vssemu.vss.array import View
from vssemu.vss.errors import ObjectNotFound, VssError
from vssemu.vss.fabric import HostBusAdapter
from vssemu.vss.identity import DEVICE_OBJECT_PREFIX, LunId, SnapshotId
from vssemu.vss.lun import Extent

PIN_LIMIT: Final = 1.0
"""Seconds that a new device object waits to be pinned. It works without; it takes 1 ms."""

TURN_LIMIT: Final = 10.0
"""Seconds that a removal waits for a walk into devicefs to end; a dead one's successor ends it."""

_log = structlog.get_logger(__name__)


class Copies:
    """The copies that have device objects now, and those that the catalog waits for."""

    def __init__(
        self,
        adapter: HostBusAdapter,
        storage: Storage,
        catalog: Catalog,
        publication: Publication,
        paths: HostPaths,
    ) -> None:
        self._adapter = adapter
        self._storage = storage
        self._catalog = catalog
        self._publication = publication
        self._paths = paths
        self._surfaced: dict[SnapshotId, SurfacedCopy] = {}

    def object_path(self, number: int) -> str:
        """Return the path of a device object, without a trailing slash."""
        return str(self._paths.global_root / "Device" / _name(number))

    def get(self, snapshot_id: SnapshotId) -> SurfacedCopy:
        """Return a surfaced copy. Raises ObjectNotFound."""
        copy = self._surfaced.get(snapshot_id)
        if copy is None:
            fact = f"shadow copy {{{snapshot_id}}} has no device object on this host"
            raise ObjectNotFound(fact, item=str(snapshot_id))
        return copy

    def surfaced(self) -> list[SurfacedCopy]:
        """Return all surfaced copies."""
        return list(self._surfaced.values())

    def rows_on(self, lun: LunId, extent: Extent | None = None) -> list[ObjectRow]:
        """Return the device objects on a LUN, or on one volume of it, surfaced or not."""
        rows = [row for row in self._catalog.objects() if row.lun == lun]
        return [row for row in rows if extent is None or row.extent.offset == extent.offset]

    async def surface(
        self, snapshot_id: SnapshotId, lun: LunId, extent: Extent, properties_json: str
    ) -> ObjectRow:
        """Make a copy's device object; one that is there is returned.

        One that was known before keeps its number, after a failure as well.
        Raises OSError, VolumeNotSupported, and what the adapter raises.
        """
        if snapshot_id in self._surfaced:
            return self._surfaced[snapshot_id].row
        known = {row.snapshot_id: row for row in self._catalog.objects()}.get(snapshot_id)
        row = ObjectRow(
            snapshot_id=snapshot_id,
            number=self._catalog.next_number() if known is None else known.number,
            lun=lun,
            extent=extent,
            properties_json=properties_json,
            released=False,
        )
        self._catalog.put_object(row)
        try:
            await self._replay_log(row)
            await self._bring_up(row)
        except BaseException:
            if known is None:
                self._catalog.remove_object(snapshot_id)
            else:
                self._catalog.put_object(known)
            raise
        if await self._publication.wait_settled() and self._publication.is_shown:
            with trio.move_on_after(PIN_LIMIT):
                await self._surfaced[snapshot_id].pinned.wait()
        return row

    async def restore(self, lun: LunId) -> None:
        """Bring the device objects of a LUN that arrived back, as far as that goes."""
        for row in self.rows_on(lun):
            if row.snapshot_id in self._surfaced:
                continue
            try:
                await self._bring_up(row)
            except (OSError, RpcError, VssError) as error:
                reason = str(vss_error(error, f"restore({row.snapshot_id})"))
                _log.error("device object not restored", number=row.number, reason=reason)

    async def suspend(self, lun: LunId) -> None:
        """Take the device objects of a LUN that leaves down; the catalog keeps them."""
        for copy in self.surfaced():
            if copy.row.lun == lun:
                await self._take_down(copy)

    async def retire(self, snapshot_id: SnapshotId) -> None:
        """End a copy's device object for good, so that no byte of it can be read; idempotent."""
        row = next((r for r in self._catalog.objects() if r.snapshot_id == snapshot_id), None)
        if snapshot_id in self._surfaced:
            await self._take_down(self._surfaced[snapshot_id])
        if row is None:
            return
        if len(self.rows_on(row.lun)) == 1:
            # The copies of several volumes of a LUN are shown from one clone.
            await self._discard_scratch(row.lun)
        self._catalog.remove_object(snapshot_id)

    async def _discard_scratch(self, lun: LunId) -> None:
        try:
            await self._storage.discard_scratch(lun)
        except (OSError, RpcError, VssError) as error:
            # Nothing reaches the clone any more; the array drops it together with the LUN.
            _log.warning("scratch clone left to the array", lun=lun, reason=str(error))

    def rewrite(
        self, snapshot_id: SnapshotId, *, properties: str | None = None, released: bool = False
    ) -> None:
        """Change what is kept of a copy, and what the Properties view shows.

        Raises ObjectNotFound.
        """
        copy = self.get(snapshot_id)
        copy.row = replace(
            copy.row,
            properties_json=copy.row.properties_json if properties is None else properties,
            released=copy.row.released or released,
        )
        self._catalog.put_object(copy.row)
        self._publish(copy)

    async def attach_tree(self, number: int) -> None:
        """Mount a copy's tree on its directory in devicefs, if it is not there.

        Raises ObjectNotFound for a number without a copy, VssError with the kernel's reason.
        """
        name = _name(number)
        await self._publication.wait_known()
        found = [copy for copy in self._surfaced.values() if copy.row.number == number]
        if not found:
            raise ObjectNotFound(f"{name} is gone", item=str(number))
        copy = found[0]
        async with copy.walking:
            if copy.leaving:
                raise ObjectNotFound(f"{name} goes", item=str(number))
            attach = partial(trees.attach, self._paths.global_root, name, copy.device, copy.kind)
            try:
                await trio.to_thread.run_sync(attach)
            except OSError as error:
                raise vss_error(error, f"mount of {name}") from error
            copy.pin(None)

    async def keep_pinned(self) -> None:
        """Pin, for ever, what devicefs came to show; anew when it is another devicefs."""
        async for watch in self._publication.settlements():
            for copy in self.surfaced():
                await self._pin(copy, watch)

    async def _pin(self, copy: SurfacedCopy, watch: int) -> None:
        """Pin a copy for a devicefs, once: not again when its tree was mounted meanwhile."""
        async with copy.walking:
            if copy.leaving or copy.pinned_for == watch:
                return
            root, name = self._paths.global_root, _name(copy.row.number)
            try:
                copy.pin(await trio.to_thread.run_sync(trees.open_bare, root, name))
                copy.pinned_for = watch
                copy.pinned.set()
            except OSError as error:
                # devicefs ended just now, or does not show it yet: there is a next time.
                copy.pin(None)
                _log.info("directory not pinned", number=copy.row.number, reason=str(error))

    async def _replay_log(self, row: ObjectRow) -> None:
        """Mount the scratch clone once over a writable device, which replays its log."""
        extent = row.extent
        async with self._adapter.bound(
            row.lun, View.SCRATCH, offset=extent.offset, length=extent.length, writable=True
        ) as device:
            await trio.to_thread.run_sync(mounting.replay_log, device)

    async def _bring_up(self, row: ObjectRow) -> None:
        try:
            copy = await self._bind(row)
        except OSError as error:
            # A log that is not replayed: the array made the clone anew.
            _log.info("log is replayed again", number=row.number, reason=str(error))
            await self._replay_log(row)
            copy = await self._bind(row)
        self._surfaced[row.snapshot_id] = copy
        self._publish(copy)

    async def _bind(self, row: ObjectRow) -> SurfacedCopy:
        extent = row.extent
        async with AsyncExitStack() as on_failure:
            device = await on_failure.enter_async_context(
                self._adapter.bound(
                    row.lun,
                    View.SCRATCH,
                    offset=extent.offset,
                    length=extent.length,
                    writable=False,
                )
            )
            kind = await trio.to_thread.run_sync(mounting.replay_log, device)
            return SurfacedCopy(row, device, kind, on_failure.pop_all())

    def _publish(self, copy: SurfacedCopy) -> None:
        self._publication.put(
            DeviceObject(
                number=copy.row.number,
                size=copy.device.length,
                raw_major=copy.device.major,
                raw_minor=copy.device.minor,
                properties=copy.row.properties_json,
            )
        )

    async def _take_down(self, copy: SurfacedCopy) -> None:
        """Take names, mounts and the device away; what is open of the tree answers EIO.

        In this order: devicefs asks for no tree, and has its device closed, once it shows the
        name no more; what is mounted then is unmounted.
        """
        with trio.CancelScope(shield=True):
            copy.leaving = True
            self._publication.drop(copy.row.number)
            if not await self._publication.wait_settled():
                _log.error("devicefs did not confirm the removal", number=copy.row.number)
            with trio.move_on_after(TURN_LIMIT):
                async with copy.walking:
                    copy.pin(None)
            await trio.to_thread.run_sync(end_use, copy)
            self._surfaced.pop(copy.row.snapshot_id, None)
            await copy.leave()


def _name(number: int) -> str:
    return f"{DEVICE_OBJECT_PREFIX}{number}"
