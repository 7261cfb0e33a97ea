"""A hardware provider's process, seen from the service: io.vssemu.Provider on a socket.

Owns the border of provider code: plain methods run in threads, async ones directly; a
ProviderFailure travels as its code and event text, whatever else leaves the provider as
VSS_E_UNEXPECTED with the exception's name, which the service translates and logs. Calls may
overlap, one a connection. Nothing is logged while a call is served well: CommitSnapshots runs
while all writes are held. Refuses to know the order of calls, which is the provider's.
"""

import inspect
import math
import os
import select
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import trio

from vssemu.api import provider as api
from vssemu.api.errors import encode_error, unexpected
from vssemu.rpc.caller import Caller
from vssemu.rpc.server import serve_unix
from vssemu.vss.enums import LunStateChange
from vssemu.vss.errors import AccessDenied
from vssemu.vss.identity import SnapshotId, SnapshotSetId
from vssemu.vss.lun import Lun, LunInformation
from vssemu.vss.provider import HostIdentity, ProviderFailure, Supported

_PREFIX: Final = "VSSEMU_"


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the configuration that the service put into the environment.

    `VSSEMU_ARRAY_SOCKET` becomes the key `array_socket`.
    """
    return {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(_PREFIX)
    }


async def call(method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run a provider's method, a plain one in a thread, and return what it returns."""
    if inspect.iscoroutinefunction(method):
        return await method(*arguments, **named)
    result = await trio.to_thread.run_sync(lambda: method(*arguments, **named))
    return await result if inspect.isawaitable(result) else result


class ProviderService:
    """One provider as the implementation of io.vssemu.Provider.

    provider: a HardwareProvider, whose methods may be async as well; see `check_provider`.
    config: what on_load gets beside, and below, what the service gives.
    """

    def __init__(self, provider: Any, config: Mapping[str, str]) -> None:
        self._provider = provider
        self._config = dict(config)
        self.is_loaded = False

    async def on_load(self, caller: Caller, host: HostIdentity, config: dict[str, str]) -> None:
        """Initialise."""
        await call(self._provider.on_load, host, self._config | config)
        self.is_loaded = True

    async def on_unload(self, caller: Caller, force: bool) -> bool:
        """Settle pending work."""
        return await self.unload(force=force)

    async def unload(self, *, force: bool) -> bool:
        """Settle pending work; True when the provider is idle then."""
        idle = bool(await call(self._provider.on_unload, force=force))
        self.is_loaded = self.is_loaded and not (idle or force)
        return idle

    async def are_luns_supported(self, caller: Caller, context: int, luns: list[Lun]) -> Supported:
        """AreLunsSupported."""
        answer: Supported = await call(self._provider.are_luns_supported, context, luns)
        return answer

    async def begin_prepare_snapshot(
        self,
        caller: Caller,
        set_id: SnapshotSetId,
        snapshot_id: SnapshotId,
        context: int,
        luns: list[Lun],
    ) -> list[Lun]:
        """BeginPrepareSnapshot."""
        begin = self._provider.begin_prepare_snapshot
        return list(await call(begin, set_id, snapshot_id, context, luns))

    async def end_prepare_snapshots(self, caller: Caller, set_id: SnapshotSetId) -> None:
        """EndPrepareSnapshots."""
        await call(self._provider.end_prepare_snapshots, set_id)

    async def pre_commit_snapshots(self, caller: Caller, set_id: SnapshotSetId) -> None:
        """PreCommitSnapshots."""
        await call(self._provider.pre_commit_snapshots, set_id)

    async def commit_snapshots(self, caller: Caller, set_id: SnapshotSetId) -> None:
        """CommitSnapshots."""
        await call(self._provider.commit_snapshots, set_id)

    async def post_commit_snapshots(
        self, caller: Caller, set_id: SnapshotSetId, count: int
    ) -> None:
        """PostCommitSnapshots."""
        await call(self._provider.post_commit_snapshots, set_id, count)

    async def pre_final_commit_snapshots(self, caller: Caller, set_id: SnapshotSetId) -> None:
        """PreFinalCommitSnapshots."""
        await call(self._provider.pre_final_commit_snapshots, set_id)

    async def post_final_commit_snapshots(self, caller: Caller, set_id: SnapshotSetId) -> None:
        """PostFinalCommitSnapshots."""
        await call(self._provider.post_final_commit_snapshots, set_id)

    async def abort_snapshots(self, caller: Caller, set_id: SnapshotSetId) -> None:
        """AbortSnapshots."""
        await call(self._provider.abort_snapshots, set_id)

    async def get_target_luns(self, caller: Caller, sources: list[Lun]) -> list[LunInformation]:
        """GetTargetLuns."""
        return list(await call(self._provider.get_target_luns, sources))

    async def locate_luns(self, caller: Caller, luns: list[LunInformation]) -> None:
        """LocateLuns."""
        await call(self._provider.locate_luns, luns)

    async def fill_in_lun_info(self, caller: Caller, lun: Lun) -> Supported:
        """FillInLunInfo."""
        answer: Supported = await call(self._provider.fill_in_lun_info, lun)
        return answer

    async def on_lun_empty(self, caller: Caller, lun: Lun) -> None:
        """OnLunEmpty."""
        await call(self._provider.on_lun_empty, lun)

    async def on_lun_state_change(
        self,
        caller: Caller,
        snapshots: list[LunInformation],
        originals: list[LunInformation],
        flags: LunStateChange,
    ) -> None:
        """OnLunStateChange."""
        await call(self._provider.on_lun_state_change, snapshots, originals, flags)

    async def resync_luns(
        self,
        caller: Caller,
        sources: list[LunInformation],
        targets: list[LunInformation],
        reply: Callable[[int], Awaitable[None]],
    ) -> None:
        """ResyncLuns; its progress streams."""
        send, receive = trio.open_memory_channel[int](math.inf)
        token = trio.lowlevel.current_trio_token()

        def progress(percent: int) -> None:
            # From the provider's thread, or from our own when its method is async.
            token.run_sync_soon(send.send_nowait, percent)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_forward, receive, reply)
            await call(self._provider.resync_luns, sources, targets, progress)
            # Behind everything that the provider said last.
            token.run_sync_soon(send.close)


async def _forward(
    receive: trio.MemoryReceiveChannel[int], reply: Callable[[int], Awaitable[None]]
) -> None:
    async for percent in receive:
        await reply(percent)


def encode_failure(error: Exception) -> dict[str, Any] | None:
    """Return the parameters of Failed for a ProviderFailure, None for any other exception."""
    return encode_error(error) if isinstance(error, ProviderFailure) else None


def authorize(caller: Caller) -> None:
    """Let in root and the user that this process runs as. Raises AccessDenied."""
    if caller.credentials.uid not in {0, os.geteuid()}:
        raise ProviderFailure(
            AccessDenied.hresult, f"only the VSS service may call a provider, not {caller!r}"
        )


async def serve_provider(
    service: ProviderService,
    listening: socket.socket,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a provider on a listening socket until cancelled, or until it is shut down.

    The socket is closed at the end.
    """
    serve = partial(
        serve_unix,
        listening,
        {api.provider: service},
        vendor="vssemu",
        product="provider",
        version=version("vssemu"),
        url="https://learn.microsoft.com/windows/win32/vss/",
        encode_error=encode_failure,
        authorize=authorize,
        unexpected=unexpected,
    )
    # A shut-down listener is readable for ever and accepts nothing; only the hang-up tells.
    with select.epoll() as poll:
        poll.register(listening.fileno(), 0)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            task_status.started()
            await trio.lowlevel.wait_readable(poll.fileno())
            nursery.cancel_scope.cancel()


def check_provider(provider: object) -> Sequence[str]:
    """Return the names of the provider's missing methods; empty for a whole one."""
    wanted = [method.function_name for method in api.provider.methods.values()]
    return [name for name in wanted if not callable(getattr(provider, name, None))]
