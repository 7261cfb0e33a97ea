"""The volumes of a lab: their LUNs, made once, found again in a pool that was kept.

POOL/volumes.json says where each volume is. It lies beside the array's journal, so that a pool
that survived its lab gives the same volumes to the next one. Volumes are `begun` before their
LUN is shown to anybody and `done` when all that share it can be used: a LUN that is left begun
is deleted.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vssemu.api import array as array_api
from vssemu.api import disks as disks_api
from vssemu.lab.config import TABLE_ROOM, LabConfig, VolumeSpec
from vssemu.lab.known import Known
from vssemu.rpc import client as rpc
from vssemu.rpc.errors import RpcError
from vssemu.vss.array import ArrayLun
from vssemu.vss.errors import BadState, VolumeInUse, VssError
from vssemu.vss.identity import Initiator, LunId

_Entry = dict[str, str]
"""lun, state; name: of the volume, since several may share a LUN."""


@dataclass(frozen=True, slots=True)
class _Record:
    path: Path

    def read(self) -> dict[str, _Entry]:
        if not self.path.exists():
            return {}
        found: dict[str, _Entry] = json.loads(self.path.read_text())
        return found

    def write(self, entries: dict[str, _Entry | None]) -> None:
        """Put volumes in, at once; None takes one out."""
        known = self.read() | entries
        partial = self.path.with_suffix(".new")
        partial.write_text(json.dumps({key: each for key, each in known.items() if each}))
        partial.replace(self.path)


def provide(known: Known, wanted: LabConfig) -> None:
    """Give every host its volumes. Raises VssError; what was begun is deleted again."""
    record = _Record(known.pool() / "volumes.json")
    for volumes in luns_of(wanted):
        host = wanted.host_of(volumes[0])
        with known.array() as array, known.vss(host) as vss:
            _Provision(record, volumes, Initiator(host), array, vss).run()


def luns_of(wanted: LabConfig) -> list[tuple[VolumeSpec, ...]]:
    """Return the volumes of a lab, those of one LUN together, in the order given."""
    found: dict[tuple[str, str], list[VolumeSpec]] = {}
    for volume in wanted.volumes:
        # No label has a colon, so no letter alone is one.
        label = f"{volume.letter}:" if volume.lun is None else volume.lun
        found.setdefault((wanted.host_of(volume), label), []).append(volume)
    return [tuple(volumes) for volumes in found.values()]


@dataclass(frozen=True, slots=True)
class _Provision:
    """The volumes of one LUN on their way to one host."""

    record: _Record
    volumes: Sequence[VolumeSpec]
    host: Initiator
    array: rpc.Client
    vss: rpc.Client

    def run(self) -> None:
        recorded = self.record.read()
        entries = {key: recorded[key] for key in map(self._key, self.volumes) if key in recorded}
        there = {lun.id for lun in self.array.call(array_api.inventory)}
        luns = {LunId(entry["lun"]) for entry in entries.values()} & there
        usable = [e for e in entries.values() if e["lun"] in luns and e["state"] == "done"]
        if len(usable) == len(self.volumes) and len(luns) == 1:
            self._give_letters(entries)
            return
        if usable:
            letters = " and ".join(volume.letter for volume in self.volumes)
            raise BadState(
                f"volumes {letters} of {self.host} are to share a LUN, but the pool has not all",
                hint="`vssemu vds create-volume` adds one to a LUN; or use another pool",
                item=letters,
            )
        for lun in luns:
            self._delete(lun)
        self.record.write(dict.fromkeys(entries))
        self._make()

    def _make(self) -> None:
        lun: ArrayLun = self.array.call(array_api.create_lun, self._size())
        keys = [self._key(volume) for volume in self.volumes]
        self.record.write({key: {"lun": lun.id, "state": "begun"} for key in keys})
        try:
            self.array.call(array_api.unmask_lun, lun.id, self.host)
            self.vss.call(disks_api.rescan)
            names = [self._make_volume(lun.id, volume) for volume in self.volumes]
        except BaseException:
            with contextlib.suppress(VssError, RpcError, OSError):
                self._delete(lun.id)
                self.record.write(dict.fromkeys(keys))
            raise
        entries = {"lun": lun.id, "state": "done"}
        named = zip(keys, names, strict=True)
        self.record.write({key: {**entries, "name": name} for key, name in named})

    def _make_volume(self, lun: LunId, volume: VolumeSpec) -> str:
        name: str = self.vss.call(
            disks_api.create_volume,
            lun,
            volume.filesystem,
            None,
            _place(volume),
            None if volume.lun is None else volume.size,
            volume.whole,
        )
        return name

    def _size(self) -> int:
        """Return the LUN's bytes: of one volume as given, of several with their table."""
        sizes = sum(volume.size for volume in self.volumes)
        return sizes if self.volumes[0].lun is None else sizes + TABLE_ROOM

    def _delete(self, lun: LunId) -> None:
        self.array.call(array_api.mask_lun, lun, self.host, surprise=True)
        self.vss.call(disks_api.rescan)
        self.array.call(array_api.delete_lun, lun)

    def _give_letters(self, entries: dict[str, _Entry]) -> None:
        """Mount volumes that are there at their letters; a host that is new has forgotten."""
        self.vss.call(disks_api.rescan)
        found = self.vss.call(disks_api.list_volumes)
        for wanted in self.volumes:
            entry = entries[self._key(wanted)]
            for volume in found:
                is_on_lun = any(extents.lun_id == entry["lun"] for extents in volume.luns)
                # A record of one volume a LUN has no name.
                is_ours = is_on_lun and entry.get("name", volume.name) == volume.name
                if is_ours and _place(wanted) not in volume.letters:
                    self.vss.call(disks_api.add_access_path, volume.name, _place(wanted))

    def _key(self, volume: VolumeSpec) -> str:
        return f"{self.host}:{volume.letter}"


def _place(volume: VolumeSpec) -> str:
    return f"{volume.letter}:\\"


def are_made(known: Known, volumes: Sequence[VolumeSpec]) -> bool:
    """Tell whether the pool has these volumes of one LUN already; each names its host."""
    recorded = _Record(known.pool() / "volumes.json").read()
    return any(f"{volume.host}:{volume.letter}" in recorded for volume in volumes)


def take_out(known: Known, volumes: Sequence[VolumeSpec]) -> None:
    """Dismount the volumes of one LUN, all of them, and delete it; each names its host.

    Raises VolumeInUse while shadow copies stand on the LUN, or files are open on it.
    """
    record = _Record(known.pool() / "volumes.json")
    keys = [f"{volume.host}:{volume.letter}" for volume in volumes]
    luns = {LunId(entry["lun"]) for key, entry in record.read().items() if key in keys}
    host = Initiator(volumes[0].host or "")
    with known.array() as array, known.vss(host) as vss:
        there: list[ArrayLun] = array.call(array_api.inventory)
        for lun in (each for each in there if each.id in luns):
            if copies := [each.id for each in there if each.origin == lun.id]:
                raise VolumeInUse(
                    f"{len(copies)} shadow copies stand on {lun.id}",
                    hint="delete them first: vssemu array lun list shows them",
                    item=lun.id,
                )
            if host in lun.masked_to:
                vss.call(disks_api.mask, lun.id)
            array.call(array_api.delete_lun, lun.id)
    record.write(dict.fromkeys(keys))


def take_away(known: Known, volumes: Sequence[VolumeSpec]) -> None:
    """Delete the LUN of volumes that were just made, as far as that is possible."""
    with contextlib.suppress(VssError, RpcError, OSError):
        take_out(known, volumes)
