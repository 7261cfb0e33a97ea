"""The array's two interfaces on its sockets, one a host and one for the administrator.

    RUN/array.sock                     io.vssemu.array.Admin and .Faults
    RUN/hosts/INITIATOR/array.sock     io.vssemu.array.Initiator; the socket is the identity

What a caller began is finished even if he hangs up, but for waiting: preparations end with
their caller.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeVar

import structlog
import trio

from vssemu.api import array as api
from vssemu.api.errors import encode_error, unexpected
from vssemu.api.lunfaults import lun_faults
from vssemu.array.array import Array
from vssemu.array.callersfiles import callers_file
from vssemu.array.engines.cow.engine import CowEngine
from vssemu.array.lunfaults import LunFaultsService
from vssemu.array.points import Pointed
from vssemu.array.progress import Progress, told
from vssemu.rpc.caller import Caller
from vssemu.rpc.interface import Interface
from vssemu.rpc.server import serve_unix
from vssemu.vss.array import (
    ArrayLun,
    Exported,
    Imported,
    LunKind,
    OpenFile,
    PoolStatus,
    View,
)
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId
from vssemu.vss.lun import LunInformation

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SOCKET: Final = "array.sock"
HOSTS: Final = "hosts"

R = TypeVar("R")


async def _whole(work: Awaitable[R]) -> R:
    """Await something to its end although the caller may hang up."""
    with trio.CancelScope(shield=True):
        result = await work
    return result  # noqa: RET504  # a return inside would leave mypy a way past it


class InitiatorService:
    """What one host may ask, mapped to the array."""

    def __init__(self, array: Array, initiator: Initiator) -> None:
        self._array = array
        self._initiator = initiator

    async def initiator_names(self, caller: Caller) -> list[Initiator]:
        """Return the one name that the socket stands for."""
        return [self._initiator]

    async def luns(self, caller: Caller) -> list[ArrayLun]:
        """List the host's LUNs."""
        return list(await self._array.seen_by(self._initiator))

    async def can_copy(self, caller: Caller, luns: list[LunId], kind: LunKind) -> bool:
        """Tell whether a copy could be begun."""
        return await self._array.sets.can_copy(self._initiator, luns, kind)

    async def prepare(
        self,
        caller: Caller,
        set_id: SnapshotSetId,
        luns: list[LunId],
        kind: LunKind,
        auto_release: bool,
    ) -> None:
        """Take LUNs into a set."""
        await _whole(
            self._array.sets.prepare(
                self._initiator, set_id, luns, kind, auto_release=auto_release
            )
        )

    async def finish_prepare(self, caller: Caller, set_id: SnapshotSetId) -> None:
        """Make a set ready to commit."""
        await self._array.sets.finish_prepare(self._initiator, set_id)

    async def commit(self, caller: Caller, set_id: SnapshotSetId) -> list[LunInformation]:
        """Take the copies."""
        return list(await _whole(self._array.sets.commit(self._initiator, set_id)))

    async def settle(self, caller: Caller, set_id: SnapshotSetId) -> None:
        """Make the copies durable."""
        await _whole(self._array.sets.settle(self._initiator, set_id))

    async def abort(self, caller: Caller, set_id: SnapshotSetId) -> None:
        """Drop the copies."""
        await _whole(self._array.sets.abort(self._initiator, set_id))

    async def copies_of(
        self, caller: Caller, set_id: SnapshotSetId, sources: list[LunId]
    ) -> list[LunInformation]:
        """Hand the copies' records out."""
        return list(await _whole(self._array.sets.copies_of(self._initiator, set_id, sources)))

    async def surface(self, caller: Caller, records: list[LunInformation]) -> None:
        """Claim copies."""
        await _whole(self._array.copies.surface(self._initiator, records))

    async def retract(self, caller: Caller, records: list[LunInformation]) -> None:
        """Mask LUNs from the host."""
        await _whole(self._array.copies.retract(self._initiator, records))

    async def share(self, caller: Caller, record: LunInformation, initiator: Initiator) -> None:
        """Unmask a LUN to another host."""
        await _whole(self._array.copies.share(self._initiator, record, initiator))

    async def set_independent(self, caller: Caller, records: list[LunInformation]) -> None:
        """Note a break."""
        await _whole(self._array.copies.set_independent(self._initiator, records))

    async def set_import_failed(self, caller: Caller, records: list[LunInformation]) -> None:
        """Note a failed import."""
        await _whole(self._array.copies.set_import_failed(self._initiator, records))

    async def reclaim(self, caller: Caller, record: LunInformation) -> None:
        """Delete a copy."""
        await _whole(self._array.copies.reclaim(self._initiator, record))

    async def attach(
        self,
        caller: Caller,
        lun: LunId,
        view: View,
        writable: bool,
    ) -> tuple[int, int]:
        """Hand a descriptor out."""
        return await _whole(self._array.attach(self._initiator, lun, view, writable=writable))

    async def discard_scratch(self, caller: Caller, lun: LunId) -> None:
        """Remove a scratch clone."""
        await _whole(self._array.discard_scratch(self._initiator, lun))

    async def lun_flags(self, caller: Caller, lun: LunId) -> int:
        """Tell a LUN's attribute bits."""
        return await self._array.attributes.get(self._initiator, lun)

    async def set_lun_flags(self, caller: Caller, lun: LunId, flags: int) -> None:
        """Note a LUN's attribute bits."""
        await _whole(self._array.attributes.replace(self._initiator, lun, flags))

    async def reserve_device(self, caller: Caller) -> int:
        """Give a loop device."""
        return await _whole(self._array.reserve_device(self._initiator))

    async def watch(self, caller: Caller, reply: Callable[[None], Awaitable[None]]) -> None:
        """Prompt the host, at once and whenever its view changes."""
        with self._array.core.views.watching(self._initiator) as prompts:
            async for _ in prompts:
                await reply(None)


class AdminService:
    """What the administrator may ask, mapped to the array and to its sockets."""

    def __init__(self, array: Array, sockets: "Sockets") -> None:
        self._array = array
        self._sockets = sockets

    async def create_lun(self, caller: Caller, size: int) -> ArrayLun:
        """Make a LUN."""
        return await _whole(self._array.luns.create(size))

    async def delete_lun(self, caller: Caller, lun: LunId) -> None:
        """Delete a LUN."""
        await _whole(self._array.luns.delete(lun))

    async def extend_lun(self, caller: Caller, lun: LunId, size: int) -> ArrayLun:
        """Grow a LUN."""
        return await _whole(self._array.luns.extend(lun, size))

    async def mask_lun(
        self,
        caller: Caller,
        lun: LunId,
        initiator: Initiator,
        surprise: bool,
    ) -> None:
        """Hide a LUN from a host."""
        await _whole(self._array.masking.mask(lun, initiator, surprise=surprise))

    async def unmask_lun(
        self,
        caller: Caller,
        lun: LunId,
        initiator: Initiator,
        shared: bool,
    ) -> None:
        """Show a LUN to a host."""
        await _whole(self._array.masking.unmask(lun, initiator, shared=shared))

    async def export_cow(
        self,
        caller: Caller,
        lun: LunId,
        store: OpenFile,
        origin: OpenFile | None,
        reply: Callable[[Exported], Awaitable[None]],
    ) -> Exported:
        """Write a snapshot as a store, and say how far that is."""
        progress, pid = Progress(), caller.credentials.pid

        async def tell() -> None:
            await reply(Exported(done=progress.done, total=progress.total))

        async with AsyncExitStack() as stack:
            own = await stack.enter_async_context(callers_file(pid, store, writable=True))
            image = None
            if origin is not None:
                image = await stack.enter_async_context(callers_file(pid, origin, writable=True))
            work = partial(self._array.exporting.export, lun, own, image, progress)
            return await told(work, tell)

    async def import_cow(
        self,
        caller: Caller,
        origin: OpenFile,
        store: OpenFile,
        reply: Callable[[Imported], Awaitable[None]],
    ) -> Imported:
        """Make an origin and a snapshot of it, and say how far that is."""
        progress, pid = Progress(), caller.credentials.pid

        async def tell() -> None:
            await reply(Imported(done=progress.done, total=progress.total))

        async with (
            callers_file(pid, origin, writable=False) as image,
            callers_file(pid, store, writable=False) as own,
        ):
            work = partial(self._array.importing.import_pair, image, own, progress)
            return await told(work, tell)

    async def inventory(self, caller: Caller) -> list[ArrayLun]:
        """List all LUNs."""
        return list(await self._array.luns.inventory())

    async def pool_status(self, caller: Caller) -> PoolStatus:
        """Return the pool's figures."""
        return await self._array.luns.pool_status()

    async def add_initiator(self, caller: Caller, initiator: Initiator) -> None:
        """Admit a host."""
        await _whole(self._array.add_initiator(initiator))
        await self._sockets.open(initiator)

    async def remove_initiator(self, caller: Caller, initiator: Initiator) -> None:
        """Expel a host."""
        await self._sockets.close(initiator)
        await _whole(self._array.remove_initiator(initiator))


class Sockets:
    """The sockets below the run directory; `serve` runs them."""

    def __init__(self, array: Array, run: Path) -> None:
        self._array = array
        self._run = run
        self._nursery: trio.Nursery | None = None
        self._open: dict[Initiator, tuple[trio.CancelScope, trio.Event]] = {}
        self._lock = trio.Lock()

    async def serve(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve the administrator and every known initiator until cancelled. Raises OSError."""
        _make_directory(self._run)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for initiator in await self._array.initiators():
                await self.open(initiator)
            await nursery.start(self._serve_admin)
            task_status.started()

    async def open(self, initiator: Initiator) -> None:
        """Serve an initiator at its socket; it is served already: no error."""
        async with self._lock:
            if initiator not in self._open:
                assert self._nursery is not None
                directory = self._run / HOSTS / initiator
                _make_directory(directory)
                await self._nursery.start(self._serve_initiator, initiator, directory)

    async def close(self, initiator: Initiator) -> None:
        """Hang up on an initiator and remove its socket, and its directory if it is empty."""
        async with self._lock:
            if initiator in self._open:
                scope, gone = self._open[initiator]
                scope.cancel()
                await gone.wait()
            _remove_if_empty(self._run / HOSTS / initiator)

    async def _serve_admin(self, *, task_status: trio.TaskStatus[None]) -> None:
        core = self._array.core
        shards = core.engine.shards if isinstance(core.engine, CowEngine) else None
        services: dict[Interface, object] = {
            api.admin: Pointed(AdminService(self._array, self), core.faults),
            lun_faults: LunFaultsService(core, shards),
        }
        await _serve(self._run, services, "array, administrator", task_status)

    async def _serve_initiator(
        self, initiator: Initiator, directory: Path, *, task_status: trio.TaskStatus[None]
    ) -> None:
        gone = trio.Event()
        try:
            with trio.CancelScope() as scope:
                self._open[initiator] = scope, gone
                implementation = InitiatorService(self._array, initiator)
                service = Pointed(implementation, self._array.core.faults)
                services: dict[Interface, object] = {api.initiator: service}
                await _serve(directory, services, "array, initiator", task_status)
        finally:
            self._open.pop(initiator, None)
            gone.set()


async def _serve(
    directory: Path,
    services: dict[Interface, object],
    product: str,
    task_status: trio.TaskStatus[None],
) -> None:
    await serve_unix(
        directory / SOCKET,
        services,
        vendor="vssemu",
        product=product,
        version=version("vssemu"),
        url="https://learn.microsoft.com/windows/win32/vss/",
        encode_error=encode_error,
        unexpected=unexpected,
        mode=0o600,
        task_status=task_status,
    )


def _make_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError as error:
        # The host's guard has its socket there as well.
        logger.info("directory_stays", path=str(path), error=str(error))
