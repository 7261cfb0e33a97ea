"""Which LUNs this host has, and what became of each: arrival, departure, mounting.

A look compares what the adapter reaches with what is known. Volumes are mounted where the
catalog remembers them, unless their attribute bits forbid it. What a predecessor of this
process left bound and mounted is adopted at the first look.

Called under the agent's lock. Refuses to decide what VSS wants of a LUN.
"""

from collections.abc import Sequence
from uuid import UUID

import structlog

from vssemu.host import mounting
from vssemu.host.border import vss_error
from vssemu.host.catalog import Catalog
from vssemu.host.copies import Copies
from vssemu.host.exposures import Exposures
from vssemu.host.inventory import GRANULE, WHOLE, KnownLun, read_lun, whole_facts
from vssemu.host.names import AccessPath, access_path, volume_reference
from vssemu.host.paths import HostPaths
from vssemu.host.storage import Storage
from vssemu.host.volumes import HostVolume
from vssemu.linux import loop, mount
from vssemu.linux.mount import MountFacts
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import MissingDisk, ObjectNotFound, VssError
from vssemu.vss.fabric import Arrived, HostBusAdapter
from vssemu.vss.host import GptFlags, Volume
from vssemu.vss.identity import LunId
from vssemu.vss.lun import Extent, LunInformation, is_same_lun

_log = structlog.get_logger(__name__)


class Topology:
    """The LUNs and volumes of a host."""

    def __init__(
        self,
        adapter: HostBusAdapter,
        storage: Storage,
        catalog: Catalog,
        copies: Copies,
        exposures: Exposures,
        paths: HostPaths,
    ) -> None:
        self._adapter = adapter
        self._storage = storage
        self._catalog = catalog
        self._copies = copies
        self._exposures = exposures
        self._paths = paths
        self._luns: dict[LunId, KnownLun] = {}
        self._volumes: dict[tuple[LunId, int], HostVolume] = {}
        self._detached: set[LunId] = set()
        self._looked = False

    async def look(self, reached: Sequence[Arrived]) -> None:
        """Take note of LUNs that came, went or grew.

        reached: what the adapter reaches now. One LUN that cannot be read is logged, and tried
        again at the next look.
        """
        found = {each.lun: each for each in reached}
        for lun in self._luns.keys() - found.keys():
            _log.info("LUN went", lun=lun)
            await self.drop(lun)
        self._detached &= found.keys()
        for arrived in found.values():
            known = self._luns.get(arrived.lun)
            if arrived.lun in self._detached or (known and known.size == arrived.size):
                continue
            try:
                await (self.reread(arrived) if known else self._arrive(arrived))
            except (OSError, RpcError, VssError) as error:
                reason = str(vss_error(error, f"arrival of {arrived.lun}"))
                _log.error("LUN not readable", lun=arrived.lun, reason=reason)
        self._looked = True

    def purge_links(self) -> None:
        """Remove the links that a predecessor left; devices that are adopted get theirs again."""
        for link in self._paths.by_id.glob("*naa.*"):
            link.unlink(missing_ok=True)

    async def drop(self, lun: LunId) -> None:
        """Dismount and unbind all that is on a LUN, in use or not."""
        for volume in self.volumes_on(lun):
            await volume.dismount(lazily=True)
            del self._volumes[lun, volume.facts.number]
        await self._copies.suspend(lun)
        self._luns.pop(lun, None)

    async def detach(self, lun: LunId) -> None:
        """Drop a LUN and overlook it until it has left and come back, or is welcome."""
        self._detached.add(lun)
        await self.drop(lun)

    def welcome(self, record: LunInformation) -> None:
        """End the overlooking of a LUN that is expected."""
        self._detached -= {lun for lun in self._detached if lun == record.naa}

    async def leave(self) -> None:
        """Let go of all devices; what is mounted stays mounted."""
        for volume in self._volumes.values():
            await volume.leave()
        for copy in self._copies.surfaced():
            await copy.leave()

    def luns(self) -> list[KnownLun]:
        """Return the LUNs by id."""
        return [self._luns[lun] for lun in sorted(self._luns)]

    def lun(self, lun: LunId) -> KnownLun:
        """Return a LUN. Raises ObjectNotFound."""
        if lun not in self._luns:
            hint = "rescan, or have it unmasked to this host"
            raise ObjectNotFound(f"no LUN {lun} on this host", hint=hint, item=lun)
        return self._luns[lun]

    def recorded(self, record: LunInformation) -> KnownLun | None:
        """Return the LUN here that a record describes."""
        matches = (each for each in self._luns.values() if is_same_lun(record, each.information))
        return next(matches, None)

    def require(self, record: LunInformation) -> KnownLun:
        """Return the LUN here that a record describes. Raises MissingDisk."""
        if (known := self.recorded(record)) is None:
            item = record.describe()
            raise MissingDisk(f"{item} is not on this host", item=item)
        return known

    def all_volumes(self) -> list[HostVolume]:
        """Return all volumes by LUN and partition."""
        return [self._volumes[key] for key in sorted(self._volumes)]

    def volumes_on(self, lun: LunId) -> list[HostVolume]:
        """Return the volumes on a LUN."""
        return [each for each in self.all_volumes() if each.lun.id == lun]

    def volume_at(self, lun: LunId, extent: Extent) -> HostVolume | None:
        """Return the volume that begins where an extent of a LUN does, None when none does."""
        at = extent.offset
        return next((v for v in self.volumes_on(lun) if v.facts.extent.offset == at), None)

    def owner_of(self, place: AccessPath) -> UUID | None:
        """Return the volume that is here and remembered at a place; None: it is to be had.

        One that is gone may never come back. If it does, somebody else has its place.
        """
        owner = self._catalog.access_path_owner(place.name)
        return owner if any(v.facts.guid == owner for v in self.all_volumes()) else None

    def numbered(self, lun: LunId, number: int) -> HostVolume:
        """Return a volume that is on a LUN, by its number there."""
        return self._volumes[lun, number]

    def unformatted(self, known: KnownLun) -> HostVolume:
        """Return what is to be the volume on a whole LUN; it is none before it is formatted."""
        facts = whole_facts(known.id, known.size, None, GptFlags.NONE)
        return HostVolume(self._adapter, self._storage, self._paths.by_id, known, facts)

    def of(self, volume: Volume) -> HostVolume:
        """Return the volume that a description was made of. Raises ObjectNotFound."""
        for on_lun in volume.luns:
            # Where it begins tells it: its GUID may be a copy's as well, and its LUN may grow.
            if (found := self.volume_at(on_lun.lun_id, on_lun.extents[0])) is not None:
                return found
        raise ObjectNotFound(f"{volume.name} is not on this host any more", item=volume.name)

    def named(self, name: str) -> HostVolume:
        """Return the volume of a name, its separator included. Raises ObjectNotFound."""
        meant = volume_reference(name, self._paths.mnt)
        found = [
            each
            for each in self.all_volumes()
            if (
                meant in each.places if isinstance(meant, AccessPath) else meant == each.facts.guid
            )
        ]
        if not found:
            raise ObjectNotFound(f"no volume {name} on this host", item=name)
        # A copy that arrives on its origin's host has the origin's GUIDs at first.
        return min(found, key=lambda each: each.is_copy)

    async def reread(self, arrived: Arrived | KnownLun) -> KnownLun:
        """Read again what lies on a LUN and return what is there now.

        Raises OSError, and what the adapter raises.
        """
        if isinstance(arrived, KnownLun):
            arrived = Arrived(lun=arrived.id, information=arrived.information, size=arrived.size)
        lun = await read_lun(self._adapter, self._storage, arrived)
        self._luns[lun.id] = lun
        numbers = {facts.number for facts in lun.partitions}
        for volume in self.volumes_on(lun.id):
            if volume.facts.number not in numbers:
                await volume.dismount(lazily=True)
                del self._volumes[lun.id, volume.facts.number]
        for facts in lun.partitions:
            key = lun.id, facts.number
            if key in self._volumes:
                self._volumes[key].take(lun, facts)
                await self._volumes[key].grow()
            else:
                by_id = self._paths.by_id
                self._volumes[key] = HostVolume(self._adapter, self._storage, by_id, lun, facts)
        return lun

    async def mount_remembered(self, volume: HostVolume) -> None:
        """Mount a volume at all its places that are free; failures are logged."""
        for name in self._catalog.access_paths(volume.facts.guid):
            place = access_path(name, self._paths.mnt)
            try:
                await volume.mount_at(place, writable=not volume.is_read_only)
            except (OSError, RpcError, VssError) as error:
                reason = str(vss_error(error, f"mount at {name}"))
                _log.error("volume not mounted", volume=volume.name, reason=reason)

    async def _arrive(self, arrived: Arrived) -> None:
        self._catalog.remember_lun(arrived.lun, arrived.information)
        lun = await self.reread(arrived)
        _log.info("LUN arrived", lun=lun.id, volumes=len(lun.partitions))
        for volume in self.volumes_on(lun.id):
            if not self._looked:
                await self._adopt(volume)
            if not volume.is_quiet and not volume.places:
                await self.mount_remembered(volume)
        await self._copies.restore(lun.id)
        for copy in self._copies.surfaced():
            if copy.row.lun == lun.id:
                await self._exposures.remake(copy)

    async def _adopt(self, volume: HostVolume) -> None:
        """Take over a volume that a predecessor left mounted, whatever its bits say now."""
        names = self._catalog.access_paths(volume.facts.guid)
        places = [access_path(name, self._paths.mnt) for name in names]
        there = {
            each.mount_point: each for each in mount.mounts() if each.device.major == loop.MAJOR
        }
        left = [there[place.directory] for place in places if place.directory in there]
        if not left:
            return
        try:
            writable = "ro" not in left[0].super_options
            device = await volume.bind(writable=writable, length=_left_length(volume, left[0]))
        except OSError as error:
            _log.warning("volume not adopted", volume=volume.name, reason=str(error))
            return
        number = mounting.number_of(device)
        volume.places += [
            place for place in places if mounting.is_mounted_at(number, place.directory)
        ]
        if volume.places:
            volume.is_copy = False
            _log.info("volume adopted", volume=volume.name, device=device.node)
            await volume.grow()
        await volume.free()


def _left_length(volume: HostVolume, left: MountFacts) -> int | None:
    """Return the bytes of a device on a whole LUN that may have grown since; None: all.

    One that the array cut off is not taken for a shorter LUN.
    """
    facts = loop.sysfs_facts(left.device.minor)
    if facts is None or volume.facts.number != WHOLE or facts.size % GRANULE:
        return None
    return min(facts.size, volume.facts.extent.length)
