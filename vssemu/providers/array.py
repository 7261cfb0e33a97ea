"""The array's own hardware provider: VSS's words on one side, the array's on the other.

Drives the array in the initiator role, over the host's own socket. Owns the life of the one
set that this host is creating; everything else (LUNs, copies, what is claimed) is known by the
array, so a call on LUNs needs no memory. Refuses: client-accessible contexts, resync.

A call out of order tidies up: the set is aborted. Errors of the array come out as provider
codes; those that providers may not use, and an array that does not answer, as a veto.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from vssemu.api import array as api
from vssemu.api.errors import decode_error
from vssemu.providers.setfile import SetFile
from vssemu.rpc.client_trio import Client, connect
from vssemu.rpc.errors import RpcError
from vssemu.rpc.interface import Method
from vssemu.vss.array import ArrayLun, LunKind
from vssemu.vss.attributes import Attribute
from vssemu.vss.enums import LunStateChange
from vssemu.vss.errors import VssError
from vssemu.vss.hresult import PROVIDER_RETURNS, Hresult
from vssemu.vss.identity import ARRAY_PROVIDER_ID, GUID_NULL, LunId, SnapshotId, SnapshotSetId
from vssemu.vss.lifecycle.provider import SetCall, SetState, after
from vssemu.vss.lun import Lun, LunInformation, is_same_lun
from vssemu.vss.provider import HostIdentity, ProviderFailure, Supported

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

ARRAY_SOCKET: Final = "/run/vssemu/outside/array.sock"
VENDOR_ID: Final = "VSSEMU"
PRODUCT_ID: Final = "Virtual LUN"
"""Inquiry strings of the array's LUNs."""

ABORT_SECONDS: Final = 60.0
"""How long dropping an unfinished set may take on the way to something else."""

_GONE: Final = frozenset({SetState.NONE, SetState.ABORTED})
_OVER: Final = _GONE | {SetState.FINAL}


@dataclass(kw_only=True, slots=True)
class _Set:
    """The set in creation. luns: those the array was told of."""

    id: SnapshotSetId
    state: SetState = SetState.NONE
    luns: list[LunId] = field(default_factory=list)


class ArrayProvider:
    """HardwareProvider of the virtual array.

    Configuration: array_socket, the initiator socket; run, a directory that a restart of the
    machine empties, for what a restart of the provider must know; provider_id, the id it is
    registered by.
    """

    def __init__(self) -> None:
        self._socket = ARRAY_SOCKET
        self._file = SetFile(None)
        self._current: _Set | None = None
        self._ready: Client | None = None

    async def on_load(self, host: HostIdentity, config: Mapping[str, str]) -> None:
        """Take the configuration, and up a set that an earlier process had committed."""
        self._socket = config.get("array_socket", ARRAY_SOCKET)
        run = config.get("run")
        own = config.get("provider_id", ARRAY_PROVIDER_ID)
        self._file = SetFile(Path(run) / "providers" / f"{own}.set" if run else None)
        set_id = self._file.read()
        if set_id is not None:
            self._current = _Set(id=set_id, state=SetState.CREATED)
            logger.info("set_taken_up", set=str(set_id), machine=host.machine)

    async def on_unload(self, *, force: bool) -> bool:
        """Refuse while a set is unfinished, unless forced: then it is dropped."""
        if self._current is not None and self._current.state not in _OVER:
            if not force:
                return False
            await self._drop(self._current)
        await self._close_ready()
        return True

    async def are_luns_supported(self, context: int, luns: Sequence[Lun]) -> Supported:
        """Tell whether all LUNs are the array's and can be copied now."""
        _check_luns("AreLunsSupported", luns)
        refused = Supported(supported=False, luns=tuple(luns))
        if not _is_doable(context):
            return refused
        try:
            async with self._array() as array:
                own = await _own(array)
                if not all(_is_own(own, lun.information) for lun in luns):
                    return refused
                names = list(dict.fromkeys(_name(lun) for lun in luns))
                possible = await array.call(api.can_copy, names, _kind(context))
        except (OSError, RpcError) as error:
            # A passing cause is no error here: the answer is that it cannot be done now.
            logger.warning("array_does_not_answer", socket=self._socket, error=str(error))
            return refused
        except VssError as error:
            raise _failure(error) from error
        return Supported(supported=possible, luns=tuple(luns))

    async def begin_prepare_snapshot(
        self,
        set_id: SnapshotSetId,
        snapshot_id: SnapshotId,
        context: int,
        luns: Sequence[Lun],
    ) -> Sequence[Lun]:
        """Have the array begin copies of a volume's LUNs; a LUN named before is not copied twice.

        A new set id drops an unfinished set.
        """
        _check_luns("BeginPrepareSnapshot", luns)
        if not _is_doable(context):
            raise ProviderFailure(
                Hresult.VSS_E_UNSUPPORTED_CONTEXT,
                f"BeginPrepareSnapshot({snapshot_id}): the array makes no copies for the context"
                f" 0x{context & 0xFFFF_FFFF:08x}; ask for one that is not client-accessible",
            )
        current = self._current
        if current is None or current.id != set_id:
            if current is not None and current.state not in _GONE:
                await self._drop(current)
            current = self._current = _Set(id=set_id)
            self._file.clear()
        state = await self._legal(current, SetCall.BEGIN_PREPARE)
        fresh = list(dict.fromkeys(_name(lun) for lun in luns if _name(lun) not in current.luns))
        if fresh:
            kept = bool(context & int(Attribute.NO_AUTO_RELEASE))
            async with self._translated() as array:
                await array.call(api.prepare, set_id, fresh, _kind(context), auto_release=not kept)
            current.luns += fresh
        current.state = state
        return luns

    async def end_prepare_snapshots(self, set_id: SnapshotSetId) -> None:
        """Wait until the array is ready; AbortSnapshots ends the wait at once."""
        await self._step(set_id, SetCall.END_PREPARE, api.finish_prepare)

    async def pre_commit_snapshots(self, set_id: SnapshotSetId) -> None:
        """Open the connection that CommitSnapshots uses."""
        await self._step(set_id, SetCall.PRE_COMMIT)
        async with self._translated() as array:
            # The array has accepted it, so nothing of it is left for the hold.
            await array.call(api.initiator_names)
            self._ready = array

    async def commit_snapshots(self, set_id: SnapshotSetId) -> None:
        """Have the array take the copies; nothing else happens here, all writes are held."""
        await self._step(set_id, SetCall.COMMIT, api.commit, self._ready)

    async def post_commit_snapshots(self, set_id: SnapshotSetId, count: int) -> None:
        """Have the array make the copies durable."""
        await self._step(set_id, SetCall.POST_COMMIT, api.settle)
        await self._close_ready()
        self._file.write(set_id)

    async def pre_final_commit_snapshots(self, set_id: SnapshotSetId) -> None:
        """Nothing: writers that change the copy do so through the LUN."""
        await self._step(set_id, SetCall.PRE_FINAL_COMMIT)

    async def post_final_commit_snapshots(self, set_id: SnapshotSetId) -> None:
        """Forget the set: from here on its LUNs end by OnLunEmpty."""
        await self._step(set_id, SetCall.POST_FINAL_COMMIT)
        self._file.clear()

    async def abort_snapshots(self, set_id: SnapshotSetId) -> None:
        """Drop the set's copies that nobody was told of; idempotent."""
        current = self._current
        if current is not None and current.id == set_id:
            if current.state is SetState.FINAL:
                return
            # First of all, so that a call that is under way finds it when it comes back.
            current.state = after(current.state, SetCall.ABORT)
        await self._abort_in_array(set_id)
        if current is not None and current.id == set_id:
            self._file.clear()

    async def _abort_in_array(self, set_id: SnapshotSetId) -> None:
        """Have the array drop a set; it keeps one whose records it has handed out."""
        await self._close_ready()
        async with self._translated() as array:
            await array.call(api.abort, set_id)

    async def get_target_luns(self, sources: Sequence[Lun]) -> Sequence[LunInformation]:
        """Return the records of the copies of these LUNs, of the set committed last."""
        _check_luns("GetTargetLuns", sources)
        current = self._current
        if current is None:
            raise ProviderFailure(
                Hresult.VSS_E_OBJECT_NOT_FOUND, "GetTargetLuns: no set has been committed"
            )
        current.state = await self._legal(current, SetCall.GET_TARGET_LUNS)
        names = [_name(lun) for lun in sources]
        async with self._translated() as array:
            records = await array.call(api.copies_of, current.id, names)
        return [replace(record, disk_signature=GUID_NULL) for record in records]

    async def locate_luns(self, luns: Sequence[LunInformation]) -> None:
        """Claim the copies and unmask them to this host. VSS rescans."""
        async with self._translated() as array:
            await array.call(api.surface, list(luns))

    async def fill_in_lun_info(self, lun: Lun) -> Supported:
        """Return the array's record of a LUN of its own; any other LUN is not supported.

        A copy that is masked from this host is told by its Inquiry strings, and its record is
        left as it is.
        """
        async with self._translated() as array:
            known = (await _own(array)).get(lun.information.naa)
        if known is None:
            is_ours = lun.information.naa is not None and (
                lun.information.vendor_id,
                lun.information.product_id,
            ) == (VENDOR_ID, PRODUCT_ID)
            return Supported(supported=is_ours, luns=(lun,))
        mended = replace(
            known.information,
            disk_signature=GUID_NULL,
            interconnects=lun.information.interconnects,
        )
        return Supported(supported=True, luns=(replace(lun, information=mended),))

    async def on_lun_empty(self, lun: Lun) -> None:
        """Delete a copy in the array; one that is gone is no error, a base LUN is refused."""
        name = lun.information.describe()
        async with self._translated() as array:
            known = (await _own(array)).get(lun.information.naa)
            if known is not None and known.kind is LunKind.BASE:
                raise ProviderFailure(
                    Hresult.VSS_E_PROVIDER_VETO,
                    f"OnLunEmpty({name}): this is no shadow copy but a LUN of the host; delete"
                    " it with the array's administration",
                )
            await array.call(api.reclaim, lun.information)

    async def on_lun_state_change(
        self,
        snapshots: Sequence[LunInformation],
        originals: Sequence[LunInformation],
        flags: LunStateChange,
    ) -> None:
        """Mask the LUNs if that is ordered; the other flags are notices."""
        logger.info("lun_state_change", luns=[lun.describe() for lun in snapshots], flags=flags)
        if flags & LunStateChange.DO_MASK_LUNS:
            async with self._translated() as array:
                await array.call(api.retract, list(snapshots))

    async def resync_luns(
        self,
        sources: Sequence[LunInformation],
        targets: Sequence[LunInformation],
        progress: Callable[[int], None],
    ) -> None:
        """Refuse: this array copies nothing back."""
        raise ProviderFailure(
            Hresult.VSS_E_PROVIDER_VETO,
            f"ResyncLuns({', '.join(lun.describe() for lun in targets)}): this array cannot copy"
            " a shadow copy back over a LUN; restore the files from the shadow copy",
        )

    # -- the set -----------------------------------------------------------------------------

    async def _step(
        self,
        set_id: SnapshotSetId,
        call: SetCall,
        method: Method[[SnapshotSetId], Any] | None = None,
        client: Client | None = None,
    ) -> None:
        """Do one call on the current set and move it on when the call went well.

        method: of the array. client: the connection for it, None for a new one.
        """
        current = self._current
        if current is None or current.id != set_id:
            raise ProviderFailure(
                Hresult.VSS_E_OBJECT_NOT_FOUND,
                f"{call.value}({set_id}): no such set is being created",
            )
        state = await self._legal(current, call)
        if method is not None:
            try:
                async with self._translated(client) as array:
                    await array.call(method, set_id)
            except ProviderFailure as failure:
                if failure.hresult != Hresult.VSS_E_OBJECT_NOT_FOUND:
                    raise
                raise ProviderFailure(
                    Hresult.VSS_E_PROVIDER_VETO,
                    f"{call.value}({set_id}): the array does not have the set any more; it was"
                    " restarted meanwhile",
                ) from failure
        if current.state is SetState.ABORTED:
            raise ProviderFailure(
                Hresult.VSS_E_BAD_STATE, f"{call.value}({set_id}): the set was aborted meanwhile"
            )
        current.state = state

    async def _legal(self, current: _Set, call: SetCall) -> SetState:
        """Return the state after a call; an illegal one aborts the set and is refused."""
        try:
            return after(current.state, call)
        except VssError as error:
            if current.state not in _OVER:
                await self._drop(current)
            raise ProviderFailure(error.hresult, f"{error.fact}; {error.hint}") from error

    async def _drop(self, current: _Set) -> None:
        """Abort a set on the way to something else; a failure is logged."""
        # First of all, so that a call that is under way finds it when it comes back.
        current.state = SetState.ABORTED
        try:
            with trio.move_on_after(ABORT_SECONDS):
                await self._abort_in_array(current.id)
        except ProviderFailure as failure:
            # The array drops what a host left unfinished when the host begins anew.
            logger.warning("set_not_dropped", set=str(current.id), error=failure.event_text)
        self._file.clear()

    # -- the array ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _array(self, client: Client | None = None) -> AsyncIterator[Client]:
        """A connection to the array: the given one if it is whole, else a new one."""
        if client is not None and not client.is_over:
            yield client
            return
        client = await connect(self._socket, decode_error=decode_error)
        try:
            yield client
        finally:
            if client is not self._ready:
                with trio.CancelScope(shield=True):
                    await client.aclose()

    @asynccontextmanager
    async def _translated(self, client: Client | None = None) -> AsyncIterator[Client]:
        """A connection to the array whose errors come out as ProviderFailure."""
        try:
            async with self._array(client) as array:
                yield array
        except VssError as error:
            raise _failure(error) from error
        except (OSError, RpcError) as error:
            raise ProviderFailure(
                Hresult.VSS_E_PROVIDER_VETO,
                f"the array does not answer at {self._socket}: {error}; see that it runs",
            ) from error

    async def _close_ready(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            await ready.aclose()


def _check_luns(call: str, luns: Sequence[Lun]) -> None:
    if not luns:
        raise ProviderFailure(Hresult.E_INVALIDARG, f"{call}: no LUN was given")


def _is_doable(context: int) -> bool:
    """Tell whether the array makes copies for a context.

    Raises ProviderFailure (E_INVALIDARG) for DIFFERENTIAL together with PLEX.
    """
    both = int(Attribute.DIFFERENTIAL | Attribute.PLEX)
    if context & both == both:
        raise ProviderFailure(
            Hresult.E_INVALIDARG,
            f"context 0x{context & 0xFFFF_FFFF:08x}: DIFFERENTIAL and PLEX exclude each other",
        )
    return not context & int(Attribute.CLIENT_ACCESSIBLE)


def _kind(context: int) -> LunKind:
    """Return the kind of copies for a context; without a word of it: differential."""
    return LunKind.PLEX if context & Attribute.PLEX else LunKind.DIFFERENTIAL


def _name(lun: Lun) -> LunId:
    name = lun.information.naa
    if name is None:
        raise ProviderFailure(
            Hresult.VSS_E_OBJECT_NOT_FOUND,
            f"{lun.device_name or lun.information.describe()} has no NAA id, so it is no LUN of"
            " the array",
        )
    return name


async def _own(array: Client) -> dict[LunId | None, ArrayLun]:
    """Return the LUNs that the host sees, by id."""
    return {lun.id: lun for lun in await array.call(api.luns)}


def _is_own(own: Mapping[LunId | None, ArrayLun], record: LunInformation) -> bool:
    known = own.get(record.naa)
    is_unique = bool(record.unique_identifiers)
    return known is not None and is_unique and is_same_lun(known.information, record)


def _failure(error: VssError) -> ProviderFailure:
    """Return what a provider may say of an error of the array."""
    text = f"{error.fact}; {error.hint}" if error.hint else error.fact
    if error.hresult in PROVIDER_RETURNS:
        return ProviderFailure(error.hresult, text)
    return ProviderFailure(Hresult.VSS_E_PROVIDER_VETO, f"{error.hresult.name}: {text}")
