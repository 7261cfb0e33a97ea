"""Doubles for the logic of the service: an array in memory, hosts on it, providers, writers.

Everything writes what happens to one journal, so that a test can read the order of events of
writers, provider and host in one list. Real devices are in tests/rig.
"""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import trio

from vssemu.api import provider as provider_table
from vssemu.api.errors import encode_error
from vssemu.rpc import client_trio
from vssemu.rpc.server import serve_unix
from vssemu.service.runner import ProviderAnswer
from vssemu.vss.enums import LunStateChange
from vssemu.vss.errors import HoldWritesTimeout, MissingVolume, ObjectNotFound, VolumeNotSupported
from vssemu.vss.host import DeviceObject, GptFlags, Held, HeldVolume, LunExtents, Volume
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import LunId, volume_guid_name
from vssemu.vss.lun import Extent, Lun, LunInformation, StorageIdentifier, is_same_lun
from vssemu.vss.provider import ProviderFailure, Supported

MIB = 1024 * 1024


def record_of(naa: str) -> LunInformation:
    return LunInformation(
        vendor_id="VSSEMU",
        product_id="MEMORY",
        serial_number=f"serial-{naa}",
        identifiers=(StorageIdentifier(code_set=1, type=3, identifier=bytes.fromhex(naa)),),
    )


@dataclass
class Copy:
    record: LunInformation
    source: str
    set_id: UUID
    state: str = "prepared"
    owner: str | None = None


@dataclass
class MemoryArray:
    """LUN copies by NAA digits; claimed once, by one host."""

    journal: list[str] = field(default_factory=list)
    copies: dict[str, Copy] = field(default_factory=dict)
    changes: list[tuple[int, list[str]]] = field(default_factory=list)
    next_id: int = 0x1000

    def new_naa(self) -> str:
        self.next_id += 1
        return f"6{self.next_id:031x}"

    def prepare(self, set_id: Any, luns: Any) -> None:
        for lun in luns:
            source = digits(lun.information)
            mine = [c for c in self.copies.values() if c.set_id == set_id and c.source == source]
            if not mine:
                naa = self.new_naa()
                self.copies[naa] = Copy(record=record_of(naa), source=source, set_id=set_id)

    def of_set(self, set_id: Any) -> Any:
        return [copy for copy in self.copies.values() if copy.set_id == set_id]

    def commit(self, set_id: Any) -> None:
        for copy in self.of_set(set_id):
            copy.state = "committed"

    def drop(self, set_id: Any) -> None:
        for naa in [naa for naa, copy in self.copies.items() if copy.set_id == set_id]:
            del self.copies[naa]

    def claim(self, records: Any, host: Any) -> None:
        for record in records:
            copy = self.copies.get(digits(record))
            if copy is None or copy.state != "committed":
                raise ProviderFailure(
                    Hresult.VSS_E_PROVIDER_VETO, f"{record.describe()} was claimed before"
                )
            copy.state, copy.owner = "claimed", host

    def reclaim(self, record: Any, host: Any) -> None:
        copy = self.copies.get(digits(record))
        if copy is not None and copy.owner in (None, host):
            del self.copies[digits(record)]

    def retract(self, records: Any, host: Any) -> None:
        for record in records:
            copy = self.copies.get(digits(record))
            if copy is not None and copy.owner == host:
                copy.state, copy.owner = "committed", None

    def visible_to(self, host: Any) -> Any:
        return [copy for copy in self.copies.values() if copy.owner == host]


def digits(record: LunInformation) -> str:
    return (record.naa or "").removeprefix("naa.")


class MemoryHost:
    """HostPort in memory. hide: NAA digits that never arrive here."""

    def __init__(self, array: MemoryArray, name: str, letters: str = "") -> None:
        self.array = array
        self.name = name
        self.journal = array.journal
        self.flags: dict[str, GptFlags] = {}
        self.objects: dict[UUID, DeviceObject] = {}
        self.released: set[UUID] = set()
        self.writable: set[UUID] = set()
        self.exposed: dict[UUID, str] = {}
        self.detached: set[str] = set()
        self.failed: dict[str, UUID] = {}
        self.properties: dict[UUID, str] = {}
        self.refused: set[str] = set()
        self.hide: set[str] = set()
        self.is_holding = False
        # A host that started anew knows copies by their bits alone.
        self.is_fresh = False
        self.numbers = 0
        self.known = {f"{letter}:\\": self._volume(letter) for letter in letters}

    def _volume(self, letter: Any, lun: Any = None) -> Any:
        naa = lun or f"6{ord(letter):031x}"
        guid = UUID(int=ord(letter))
        return Volume(
            guid=guid,
            name=volume_guid_name(guid),
            letters=(f"{letter}:\\",),
            mount_points=(f"/mnt/{letter}",),
            filesystem="ext4",
            label=None,
            size=64 * MIB,
            flags=GptFlags.NONE,
            luns=(
                LunExtents(
                    lun=Lun(device_name=f"/dev/{letter}", information=record_of(naa)),
                    lun_id=LunId(f"naa.{naa}"),
                    extents=(Extent(offset=MIB, length=64 * MIB),),
                ),
            ),
        )

    def share_lun(self, first: Any, second: Any) -> None:
        """Put the second volume on the first one's LUN, behind it."""
        lun = self.known[f"{first}:\\"].luns[0]
        other = replace(lun, extents=(Extent(offset=100 * MIB, length=64 * MIB),))
        known = self.known[f"{second}:\\"]
        self.known[f"{second}:\\"] = replace(known, luns=(other,))

    def machine(self) -> Any:
        return self.name

    async def volumes(self) -> Any:
        return [
            volume
            for volume in self._all()
            if not (self.is_fresh and GptFlags.SHADOW_COPY in volume.flags)
        ]

    def _all(self) -> Any:
        return [
            replace(volume, flags=self.flags.get(volume.name, volume.flags))
            for volume in self.known.values()
        ]

    async def volume(self, name: Any) -> Any:
        for volume in self._all():
            if name in (volume.name, *volume.letters):
                return volume
        raise ObjectNotFound(f"{name} is no volume", item=name)

    async def check_can_hold(self, volume: Any) -> None:
        if volume.name in self.refused:
            raise VolumeNotSupported(f"{volume.name} cannot be held", item=volume.name)

    async def set_flags(self, volumes: Any, flags: Any) -> None:
        for volume in volumes:
            self.flags[volume.name] = flags
            self.journal.append(f"host: flags {volume.letters[0]} {int(flags) >> 60:x}")

    @asynccontextmanager
    async def hold(self, volumes: Any, limit: Any) -> Any:
        held = Held(volumes=tuple(volume.name for volume in volumes))
        begun = held.began = trio.current_time()
        self.journal.append("host: hold")
        self.is_holding = True
        try:
            with trio.move_on_after(limit) as window:
                yield held
        finally:
            self.is_holding = False
            now = trio.current_time()
            held.seconds = now - begun
            held.windows = tuple(
                HeldVolume(volume=name, frozen=begun, thawed=now) for name in held.volumes
            )
            self.journal.append("host: release writes")
        if window.cancelled_caught:
            raise HoldWritesTimeout(f"held for {limit} s")

    async def rescan(self) -> None:
        self.journal.append("host: rescan")

    def _here(self, record: Any) -> Any:
        naa = digits(record)
        hidden = naa in self.hide or naa in self.detached
        for copy in self.array.visible_to(self.name):
            if is_same_lun(record, copy.record) and not hidden:
                return Lun(device_name=f"/dev/{naa}", information=copy.record)
        return None

    async def wait_arrival(self, expected: Any, limit: Any) -> Any:
        deadline = trio.current_time() + limit
        self.detached -= {digits(record) for record in expected}
        while True:
            found = [lun for lun in map(self._here, expected) if lun is not None]
            if len(found) == len(expected) or trio.current_time() >= deadline:
                return found
            await trio.sleep(0.01)

    async def give_new_identity(self, luns: Any) -> None:
        self.journal.append(f"host: identity {len(luns)}")

    async def surface(self, copy: Any) -> Any:
        if any(self._here(record) is None for record in copy.luns):
            raise MissingVolume(f"{copy.snapshot_id} is not here")
        if copy.snapshot_id not in self.objects:
            self.numbers += 1
            path = f"/run/HarddiskVolumeShadowCopy{self.numbers}"
            self.objects[copy.snapshot_id] = DeviceObject(number=self.numbers, path=path)
        self.journal.append("host: surface")
        return self.objects[copy.snapshot_id]

    async def update_properties(self, snapshot_id: Any, properties_json: Any) -> None:
        self.properties[snapshot_id] = properties_json

    async def retire(self, snapshot_id: Any) -> None:
        if self.objects.pop(snapshot_id, None):
            self.journal.append("host: retire")
        self.exposed.pop(snapshot_id, None)

    async def release(self, snapshot_id: Any) -> None:
        self.released.add(snapshot_id)
        self.journal.append("host: release copy")

    async def make_read_write(self, snapshot_id: Any) -> None:
        assert snapshot_id in self.released
        await self.retire(snapshot_id)
        self.writable.add(snapshot_id)
        self.journal.append("host: read/write")

    async def remove(self, luns: Any) -> None:
        for record in luns:
            self.detached.add(digits(record))
            self.journal.append("host: remove")

    async def expose(self, snapshot_id: Any, target: Any) -> Any:
        self.exposed[snapshot_id] = target
        return target

    async def unexpose(self, snapshot_id: Any) -> None:
        del self.exposed[snapshot_id]

    async def mark_import_failed(self, luns: Any, set_id: Any) -> None:
        for record in luns:
            self.failed[digits(record)] = set_id


class RawAnswer(Exception):
    """Makes a provider answer with any number."""

    def __init__(self, code: int) -> None:
        super().__init__(hex(code))
        self.code = code


def encode_any(error: Exception) -> Any:
    if isinstance(error, RawAnswer):
        return {
            "hresult": error.code,
            "name": "odd",
            "fact": "an odd answer",
            "hint": None,
            "item": None,
        }
    return encode_error(error)


class ProviderDouble:
    """io.vssemu.Provider over the memory array.

    plan: method name to an exception, `hang`, `die`, or an async function.
    """

    def __init__(self, array: MemoryArray, host: str, plan: dict[str, Any]) -> None:
        self.array = array
        self.host = host
        self.plan = plan
        self.current: UUID | None = None
        self.program: Any = None

    async def _do(self, name: Any) -> None:
        self.array.journal.append(f"provider: {name}")
        action = self.plan.get(name)
        if action == "hang":
            await trio.sleep_forever()
        elif action == "die":
            self.program.scope.cancel()
            await trio.sleep_forever()
        elif isinstance(action, Exception):
            raise action
        elif action is not None:
            await action()

    async def on_load(self, caller: Any, host: Any, config: Any) -> None:
        await self._do("OnLoad")

    async def on_unload(self, caller: Any, force: Any) -> Any:
        await self._do("OnUnload")
        return True

    async def are_luns_supported(self, caller: Any, context: Any, luns: Any) -> Any:
        await self._do("AreLunsSupported")
        return Supported(supported=not self.plan.get("refuses"), luns=tuple(luns))

    async def begin_prepare_snapshot(
        self, caller: Any, set_id: Any, snapshot_id: Any, context: Any, luns: Any
    ) -> Any:
        await self._do("BeginPrepareSnapshot")
        self.array.prepare(set_id, luns)
        return luns

    async def end_prepare_snapshots(self, caller: Any, set_id: Any) -> None:
        await self._do("EndPrepareSnapshots")

    async def pre_commit_snapshots(self, caller: Any, set_id: Any) -> None:
        await self._do("PreCommitSnapshots")

    async def commit_snapshots(self, caller: Any, set_id: Any) -> None:
        await self._do("CommitSnapshots")
        self.array.commit(set_id)

    async def post_commit_snapshots(self, caller: Any, set_id: Any, count: Any) -> None:
        await self._do("PostCommitSnapshots")
        self.plan["set"] = set_id

    async def pre_final_commit_snapshots(self, caller: Any, set_id: Any) -> None:
        await self._do("PreFinalCommitSnapshots")

    async def post_final_commit_snapshots(self, caller: Any, set_id: Any) -> None:
        await self._do("PostFinalCommitSnapshots")

    async def abort_snapshots(self, caller: Any, set_id: Any) -> None:
        await self._do("AbortSnapshots")
        self.array.drop(set_id)

    async def get_target_luns(self, caller: Any, sources: Any) -> Any:
        await self._do("GetTargetLuns")
        mine = self.array.of_set(self.plan["set"])
        return [
            next(c.record for c in mine if c.source == digits(source.information))
            for source in sources
        ]

    async def locate_luns(self, caller: Any, luns: Any) -> None:
        await self._do("LocateLuns")
        self.array.claim(luns, self.host)

    async def fill_in_lun_info(self, caller: Any, lun: Any) -> Any:
        await self._do("FillInLunInfo")
        known = digits(lun.information) in self.array.copies
        return Supported(supported=known, luns=(lun,))

    async def on_lun_empty(self, caller: Any, lun: Any) -> None:
        await self._do("OnLunEmpty")
        self.array.reclaim(lun.information, self.host)

    async def on_lun_state_change(
        self, caller: Any, snapshots: Any, originals: Any, flags: Any
    ) -> None:
        await self._do("OnLunStateChange")
        assert len(snapshots) == len(originals)
        self.array.changes.append((int(flags), [digits(lun) for lun in originals]))
        if flags & LunStateChange.DO_MASK_LUNS:
            self.array.retract(snapshots, self.host)

    async def resync_luns(self, caller: Any, sources: Any, targets: Any, reply: Any) -> None:
        await self._do("ResyncLuns")


class InProcessProgram:
    """A provider's program as a task that listens on a socket."""

    def __init__(self, provider: ProviderDouble, path: Any, nursery: trio.Nursery) -> None:
        self.provider = provider
        self.path = path
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.listening = trio.Event()
        provider.program = self
        nursery.start_soon(self._serve)

    async def _serve(self) -> None:
        async def started() -> None:
            await nursery.start(
                lambda task_status: serve_unix(
                    self.path,
                    {provider_table.provider: self.provider},
                    vendor="t",
                    product="t",
                    version="1",
                    url="",
                    encode_error=encode_any,
                    task_status=task_status,
                )
            )
            self.listening.set()

        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    await started()
        finally:
            self.ended.set()

    @property
    def is_alive(self) -> Any:
        return not self.ended.is_set()

    async def watch(self) -> None:
        await self.ended.wait()

    async def connection(self) -> Any:
        await self.listening.wait()
        return await client_trio.connect(self.path, decode_error=ProviderAnswer)

    def give_back(self, client: Any) -> None:
        client._channel._sock.close()

    async def kill(self) -> None:
        self.scope.cancel()
        with trio.CancelScope(shield=True):
            await self.ended.wait()
