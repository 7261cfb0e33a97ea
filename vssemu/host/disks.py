"""io.vssemu.Disks: LUNs, disks and volumes of this host for requesters."""

from functools import partial

import trio

from vssemu.host import formatting
from vssemu.host.agent import HostAgent
from vssemu.host.border import translated
from vssemu.host.formatting import NewVolume
from vssemu.host.inventory import KnownLun
from vssemu.host.names import AccessPath, access_path
from vssemu.host.volumes import HostVolume
from vssemu.rpc.caller import Caller
from vssemu.vss.errors import BadState, ObjectAlreadyExists, ObjectNotFound
from vssemu.vss.host import Disk, DiskStatus, Volume
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId


class Disks:
    """The interface's implementation over a host agent."""

    def __init__(self, agent: HostAgent) -> None:
        self._agent = agent
        self._topology = agent.topology

    @translated
    async def list_disks(self, caller: Caller) -> list[Disk]:
        """Return the LUNs on this host, those of failed imports among them."""
        async with self._agent.lock:
            failed = self._agent.catalog.import_failed()
            disks = [self._disk(lun, failed) for lun in self._topology.luns()]
            gone = failed.keys() - {disk.lun_id for disk in disks}
            return disks + [disk for lun in sorted(gone) for disk in self._absent(lun)]

    @translated
    async def list_volumes(self, caller: Caller) -> list[Volume]:
        """Return the volumes on this host, hidden ones among them."""
        async with self._agent.lock:
            return [each.describe() for each in self._topology.all_volumes()]

    @translated
    async def rescan(self, caller: Caller) -> None:
        """Look for LUNs that were unmasked to this host or masked from it."""
        await self._agent.rescan()

    @translated
    async def create_volume(
        self,
        caller: Caller,
        lun: LunId,
        filesystem: str,
        label: str | None,
        path: str | None,
        size: int | None = None,
        whole: bool = False,
    ) -> str:
        """Make a partition of a LUN, or take all of it, format it, and mount it."""
        wanted = NewVolume(
            lun=lun, filesystem=filesystem, label=label or "", size=size, whole=whole
        )
        wanted.check()
        place = None if path is None else access_path(path, self._agent.paths.mnt)
        async with self._agent.lock:
            known = self._topology.lun(lun)
            self._refuse_managed(lun)
            if place is not None:
                self._refuse_taken(place)
            volume = await self._make(known, wanted)
            if place is not None:
                await self._give_path(volume, place)
            return volume.name

    async def _make(self, known: KnownLun, wanted: NewVolume) -> HostVolume:
        try:
            async with formatting.room_made(self._agent.adapter, known, wanted) as number:
                if wanted.whole:
                    volume = self._topology.unformatted(known)
                else:
                    await self._topology.reread(known)
                    volume = self._topology.numbered(known.id, number)
                device = await volume.bind(writable=True)
                try:
                    format_it = partial(formatting.make_filesystem, device, wanted)
                    await trio.to_thread.run_sync(format_it)
                finally:
                    await volume.free()
        finally:
            with trio.CancelScope(shield=True):
                await self._topology.reread(known)
        return self._topology.numbered(known.id, number)

    @translated
    async def make_read_write(self, caller: Caller, volume: str) -> None:
        """Clear the volume's attribute bits, and mount it where it is remembered."""
        async with self._agent.lock:
            found = self._topology.named(volume)
            self._refuse_managed(found.lun.id, found.name)
            await self._agent.open_for_writing(found)

    @translated
    async def add_access_path(self, caller: Caller, volume: str, path: str) -> str:
        """Give a volume a letter or a folder and mount it there; return the directory."""
        async with self._agent.lock:
            found = self._topology.named(volume)
            self._refuse_managed(found.lun.id, found.name)
            place = access_path(path, self._agent.paths.mnt)
            self._refuse_taken(place, by_others_than=found)
            return await self._give_path(found, place)

    @translated
    async def remove_access_path(self, caller: Caller, path: str) -> None:
        """Dismount a volume from a letter or a folder."""
        async with self._agent.lock:
            place = access_path(path, self._agent.paths.mnt)
            users = [each for each in self._topology.all_volumes() if place in each.places]
            if not users and self._agent.catalog.access_path_owner(place.name) is None:
                raise ObjectNotFound(f"no volume is at {place.name}", item=place.name)
            for volume in users:
                await volume.unmount_from(place, lazily=False)
            self._agent.catalog.remove_access_path(place.name)

    @translated
    async def mask(self, caller: Caller, lun: LunId) -> None:
        """Dismount what is on a LUN, detach it, and mask it from this host."""
        async with self._agent.lock:
            known = self._topology.lun(lun)
            self._refuse_managed(lun)
            for volume in self._topology.volumes_on(lun):
                await volume.dismount(lazily=False)
            for row in self._agent.copies.rows_on(lun):
                await self._agent.copies.retire(row.snapshot_id)
            # From here to the end, or the LUN would be neither here nor given back.
            with trio.CancelScope(shield=True):
                await self._topology.detach(lun)
                try:
                    await self._agent.storage.retract([known.information])
                finally:
                    # Masked, it has left, though no look may have seen that before it is
                    # unmasked again; refused, it is still there.
                    self._topology.welcome(known.information)

    @translated
    async def unmask(self, caller: Caller, lun: LunId, initiator: Initiator) -> None:
        """Unmask a LUN that this host holds the record of to a host."""
        record = self._agent.catalog.lun_record(lun)
        if record is None:
            fact = f"this host holds no record of {lun}"
            hint = "unmask it on a host that had it, or at the array"
            raise ObjectNotFound(fact, hint=hint, item=lun)
        await self._agent.storage.share(record, initiator)

    @translated
    async def clean_up(self, caller: Caller, snapshot_set_id: SnapshotSetId) -> list[LunId]:
        """Give the LUNs of a failed import back to the array, which removes them."""
        async with self._agent.lock:
            failed = self._agent.catalog.import_failed()
            luns = sorted(lun for lun, owner in failed.items() if owner == snapshot_set_id)
            if not luns:
                item = str(snapshot_set_id)
                raise ObjectNotFound(f"no failed import of set {{{item}}} here", item=item)
            for lun in luns:
                record = self._agent.catalog.lun_record(lun)
                assert record is not None, f"{lun} was marked without its record"
                await self._topology.detach(lun)
                await self._agent.storage.reclaim(record)
                self._agent.catalog.forget_lun(lun)
            return luns

    def _disk(self, lun: KnownLun, failed: dict[LunId, SnapshotSetId]) -> Disk:
        volumes = self._topology.volumes_on(lun.id)
        hidden = bool(volumes) and all(each.is_quiet for each in volumes)
        status = DiskStatus.HIDDEN if hidden else DiskStatus.ONLINE
        return Disk(
            lun=lun.as_lun(self._agent.paths.by_id),
            lun_id=lun.id,
            size=lun.size,
            status=DiskStatus.IMPORT_FAILED if lun.id in failed else status,
            disk_guid=lun.disk_guid,
            volumes=tuple(each.name for each in volumes),
        )

    def _absent(self, lun: LunId) -> list[Disk]:
        """Return the entry of a failed import's LUN that is not on this host now."""
        record = self._agent.catalog.lun_record(lun)
        if record is None:
            return []
        known = KnownLun(id=lun, information=record, size=0, disk_guid=None, partitions=())
        return [
            Disk(
                lun=known.as_lun(self._agent.paths.by_id),
                lun_id=lun,
                size=0,
                status=DiskStatus.IMPORT_FAILED,
                disk_guid=None,
                volumes=(),
            )
        ]

    def _refuse_managed(self, lun: LunId, item: str | None = None) -> None:
        """Raise BadState for what VSS manages: a copy's LUN, or that of a failed import.

        All that is on it: a volume beside a copy came along with it and is nobody's.
        """
        item = item or lun
        if any(not row.released for row in self._agent.copies.rows_on(lun)):
            hint = "break its shadow copy set, or delete the shadow copy"
            raise BadState(f"{item} belongs to a shadow copy", hint=hint, item=item)
        if lun in self._agent.catalog.import_failed():
            hint = "clean up after the import"
            raise BadState(f"{item} is of a failed import", hint=hint, item=item)

    def _refuse_taken(self, place: AccessPath, by_others_than: HostVolume | None = None) -> None:
        own = None if by_others_than is None else by_others_than.facts.guid
        is_others = self._topology.owner_of(place) not in {None, own}
        if is_others or place.name in self._agent.catalog.exposures().values():
            hint = "choose another place, or remove it from that volume"
            fact = f"{place.name} belongs to another volume"
            raise ObjectAlreadyExists(fact, hint=hint, item=place.name)

    async def _give_path(self, volume: HostVolume, place: AccessPath) -> str:
        await volume.mount_at(place, writable=not volume.is_read_only)
        self._agent.catalog.add_access_path(volume.facts.guid, place.name)
        return str(place.directory)
