"""The volumes of a lab: a LUN each, made once, found again in a pool that was kept.

POOL/volumes.json says which LUN is which volume. It lies beside the array's journal, so that a
pool that survived its lab gives the same volumes to the next one. A volume is `begun` before
its LUN is shown to anybody and `done` when it can be used: what is left begun is deleted.
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from vssemu.api import array as array_api
from vssemu.api import disks as disks_api
from vssemu.lab.config import LabConfig, VolumeSpec
from vssemu.lab.known import Known
from vssemu.rpc import client as rpc
from vssemu.rpc.errors import RpcError
from vssemu.vss.array import ArrayLun
from vssemu.vss.errors import VssError
from vssemu.vss.identity import Initiator, LunId


@dataclass(frozen=True, slots=True)
class _Record:
    path: Path

    def read(self) -> dict[str, dict[str, str]]:
        if not self.path.exists():
            return {}
        found: dict[str, dict[str, str]] = json.loads(self.path.read_text())
        return found

    def write(self, key: str, lun: LunId | None, state: str = "") -> None:
        """Put a volume's LUN and state in, or take the volume out."""
        known = self.read()
        known.pop(key, None)
        if lun is not None:
            known[key] = {"lun": lun, "state": state}
        partial = self.path.with_suffix(".new")
        partial.write_text(json.dumps(known))
        partial.replace(self.path)


def provide(known: Known, wanted: LabConfig) -> None:
    """Give every host its volumes. Raises VssError; what was begun is deleted again."""
    record = _Record(known.pool() / "volumes.json")
    for volume in wanted.volumes:
        host = wanted.host_of(volume)
        with known.array() as array, known.vss(host) as vss:
            _Provision(record, volume, Initiator(host), array, vss).run()


@dataclass(frozen=True, slots=True)
class _Provision:
    """One volume on its way to one host."""

    record: _Record
    volume: VolumeSpec
    host: Initiator
    array: rpc.Client
    vss: rpc.Client

    def run(self) -> None:
        key = f"{self.host}:{self.volume.letter}"
        entry = self.record.read().get(key)
        if entry is not None:
            lun = LunId(entry["lun"])
            is_there = any(each.id == lun for each in self.array.call(array_api.inventory))
            if is_there and entry["state"] == "done":
                self._give_letter(lun)
                return
            if is_there:
                self._delete(lun)
            self.record.write(key, None)
        self._make(key)

    def _make(self, key: str) -> None:
        lun: ArrayLun = self.array.call(array_api.create_lun, self.volume.size)
        self.record.write(key, lun.id, "begun")
        try:
            self.array.call(array_api.unmask_lun, lun.id, self.host)
            self.vss.call(disks_api.rescan)
            filesystem, letter = self.volume.filesystem, self._letter()
            self.vss.call(disks_api.create_volume, lun.id, filesystem, None, letter)
        except BaseException:
            with contextlib.suppress(VssError, RpcError, OSError):
                self._delete(lun.id)
                self.record.write(key, None)
            raise
        self.record.write(key, lun.id, "done")

    def _delete(self, lun: LunId) -> None:
        self.array.call(array_api.mask_lun, lun, self.host, surprise=True)
        self.vss.call(disks_api.rescan)
        self.array.call(array_api.delete_lun, lun)

    def _give_letter(self, lun: LunId) -> None:
        """Mount a volume that is there at its letter; a host that is new has forgotten it."""
        self.vss.call(disks_api.rescan)
        for volume in self.vss.call(disks_api.list_volumes):
            is_ours = any(extents.lun_id == lun for extents in volume.luns)
            if is_ours and self._letter() not in volume.letters:
                self.vss.call(disks_api.add_access_path, volume.name, self._letter())

    def _letter(self) -> str:
        return f"{self.volume.letter}:\\"
