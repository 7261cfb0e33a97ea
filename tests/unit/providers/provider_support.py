"""An array in memory behind the array's real interface, and what providers are handed."""

from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import trio

from vssemu.api import array as api
from vssemu.api.errors import encode_error, unexpected
from vssemu.array.naming import information, mint_lun_id, mint_serial
from vssemu.rpc.caller import Caller
from vssemu.rpc.server import serve_unix
from vssemu.vss.array import ArrayLun, LunKind, LunState, View
from vssemu.vss.errors import BadState, InvalidArgument, ObjectNotFound, VssError
from vssemu.vss.identity import Initiator, LunId, SnapshotId, SnapshotSetId
from vssemu.vss.lun import Lun, LunInformation
from vssemu.vss.provider import HostIdentity, ProviderFailure

HOST = HostIdentity(machine="systemOne", initiators=(Initiator("systemOne"),))


def new_set() -> SnapshotSetId:
    return SnapshotSetId(uuid4())


def new_snapshot() -> SnapshotId:
    return SnapshotId(UUID(int=uuid4().int))


@dataclass
class ArraySet:
    kind: LunKind
    state: str = "preparing"
    auto_release: bool = False
    copies: dict[LunId, LunInformation] = field(default_factory=dict)


class MemoryArray:
    """Keeps the array's rules of a set's life, and a journal of the calls. Holds no bytes."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.bases: dict[LunId, ArrayLun] = {}
        self.seen: dict[LunId, ArrayLun] = {}
        self.sets: dict[SnapshotSetId, ArraySet] = {}
        self.has_room = True
        self.preparing = trio.Event()
        self.slow: trio.Event | None = None
        self.failures: dict[str, VssError] = {}
        self._count = 0
        for _ in range(3):
            self.add(LunKind.BASE)

    def add(self, kind: LunKind) -> ArrayLun:
        record = self._record()
        lun_id = record.naa
        assert lun_id is not None
        lun = ArrayLun(
            id=lun_id,
            serial=record.serial_number or "",
            size=1 << 20,
            allocated=0,
            kind=kind,
            engine="memory",
            state=LunState.READY if kind is LunKind.BASE else LunState.CLAIMED,
            origin=None,
            set_id=None,
            masked_to=(Initiator("systemOne"),),
            information=record,
        )
        self.seen[lun_id] = lun
        if kind is LunKind.BASE:
            self.bases[lun_id] = lun
        return lun

    def _record(self) -> LunInformation:
        self._count += 1
        return information(mint_lun_id(self._count), mint_serial())

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failures:
            raise self.failures[name]

    def _member(self, set_id: SnapshotSetId, state: str) -> ArraySet:
        found = self.sets.get(set_id)
        if found is None:
            raise ObjectNotFound(f"no set {set_id}")
        if found.state != state:
            raise BadState(f"set {set_id} is {found.state}, not {state}")
        return found

    async def initiator_names(self, caller: Caller) -> list[Initiator]:
        return [Initiator("systemOne")]

    async def luns(self, caller: Caller) -> list[ArrayLun]:
        return list(self.seen.values())

    async def can_copy(self, caller: Caller, luns: list[LunId], kind: LunKind) -> bool:
        self._note("can_copy")
        return self.has_room and kind is not LunKind.BASE

    async def prepare(
        self,
        caller: Caller,
        set_id: SnapshotSetId,
        luns: list[LunId],
        kind: LunKind,
        auto_release: bool,
    ) -> None:
        self._note("prepare")
        self.sets.setdefault(set_id, ArraySet(kind=kind, auto_release=auto_release))
        group = self._member(set_id, "preparing")
        for lun in luns:
            assert lun not in group.copies, "a LUN was prepared twice"
            group.copies[lun] = self._record()

    async def finish_prepare(self, caller: Caller, set_id: SnapshotSetId) -> None:
        self._note("finish_prepare")
        group = self._member(set_id, "preparing")
        self.preparing.set()
        if self.slow is not None:
            await self.slow.wait()
            raise BadState(f"snapshot set {set_id} was aborted")
        group.state = "prepared"

    async def commit(self, caller: Caller, set_id: SnapshotSetId) -> list[LunInformation]:
        self._note("commit")
        group = self._member(set_id, "prepared")
        group.state = "committed"
        return list(group.copies.values())

    async def settle(self, caller: Caller, set_id: SnapshotSetId) -> None:
        self._note("settle")
        self._member(set_id, "committed").state = "settled"

    async def abort(self, caller: Caller, set_id: SnapshotSetId) -> None:
        self._note("abort")
        if self.slow is not None:
            self.slow.set()
        group = self.sets.get(set_id)
        if group is not None and group.state != "handed out":
            del self.sets[set_id]

    async def copies_of(
        self, caller: Caller, set_id: SnapshotSetId, sources: list[LunId]
    ) -> list[LunInformation]:
        self._note("copies_of")
        group = self.sets.get(set_id)
        if group is None or group.state not in {"settled", "handed out"}:
            raise BadState(f"set {set_id} is not settled")
        group.state = "handed out"
        return [group.copies[source] for source in sources]

    async def surface(self, caller: Caller, records: list[LunInformation]) -> None:
        self._note("surface")

    async def retract(self, caller: Caller, records: list[LunInformation]) -> None:
        self._note("retract")

    async def share(self, caller: Caller, record: LunInformation, initiator: Initiator) -> None:
        self._note("share")

    async def set_independent(self, caller: Caller, records: list[LunInformation]) -> None:
        self._note("set_independent")

    async def set_import_failed(self, caller: Caller, records: list[LunInformation]) -> None:
        self._note("set_import_failed")

    async def reclaim(self, caller: Caller, record: LunInformation) -> None:
        self._note("reclaim")
        if record.naa in self.bases:
            raise InvalidArgument("a base LUN is not reclaimed")

    async def attach(
        self, caller: Caller, lun: LunId, view: View, writable: bool
    ) -> tuple[int, int]:
        raise ObjectNotFound(f"{lun}: nothing is attached from memory")

    async def discard_scratch(self, caller: Caller, lun: LunId) -> None:
        self._note("discard_scratch")

    async def lun_flags(self, caller: Caller, lun: LunId) -> int:
        return 0

    async def set_lun_flags(self, caller: Caller, lun: LunId, flags: int) -> None:
        self._note("set_lun_flags")

    async def reserve_device(self, caller: Caller) -> int:
        raise ObjectNotFound("there are no devices in memory")

    async def watch(self, caller: Caller, reply: object) -> None:
        await trio.sleep_forever()

    def unfinished(self) -> int:
        """Return how many sets lie in the array that nobody was told of."""
        return sum(group.state != "handed out" for group in self.sets.values())

    def source(self, number: int = 0) -> Lun:
        base = list(self.bases.values())[number]
        return Lun(device_name=f"/dev/loop{number}", information=base.information)


def foreign() -> Lun:
    record = replace(
        information(mint_lun_id(99), mint_serial()), vendor_id="OTHER", product_id="Disk"
    )
    return Lun(device_name="/dev/sda", information=record)


async def serve_array(
    array: MemoryArray,
    path: Path,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    serve = partial(
        serve_unix,
        path,
        {api.initiator: array},
        vendor="test",
        product="array",
        version="1",
        url="",
        encode_error=encode_error,
        unexpected=unexpected,
    )
    await serve(task_status=task_status)


async def code_of(awaitable: Awaitable[object]) -> object:
    """Return the code with which a provider's call failed, None when it went well."""
    try:
        await awaitable
    except ProviderFailure as failure:
        return failure.hresult if failure.event_text else "a failure without words"
    return None
