"""The trio client: the blocking client's methods, each to be awaited."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Generic, ParamSpec, Self, TypeVar, overload

import trio

from vssemu.api import plans
from vssemu.api import requester as table
from vssemu.api.blocking import VSS_SOCKET
from vssemu.api.errors import decode_error
from vssemu.rpc import client_trio as rpc
from vssemu.rpc import interface
from vssemu.vss.hresult import Hresult

P = ParamSpec("P")
R = TypeVar("R")

RELEASE_LIMIT = 30.0
"""Seconds that abort and release may take when a block is left by an exception."""


@asynccontextmanager
async def connect(path: str | Path = VSS_SOCKET) -> AsyncIterator["Vss"]:
    """Connect to the VSS service at `path` for the block. Raises OSError with the path."""
    async with await rpc.connect(path, decode_error=decode_error) as client:
        yield Vss(client)


class Vss:
    """A connection to a VSS service."""

    def __init__(self, client: rpc.Client) -> None:
        self.client = client

    @asynccontextmanager
    async def backup_components(self) -> AsyncIterator["BackupComponents"]:
        """Give a new IVssBackupComponents object, released at the end of the block.

        Leaving the block by an exception aborts the backup first.
        """
        backup = BackupComponents(self.client, await _run(self.client, plans.opened()))
        try:
            yield backup
        except BaseException:
            with trio.move_on_after(RELEASE_LIMIT, shield=True):
                await _run(backup.client, plans.left_by_exception())
            raise
        await backup.release()


async def _run(client: rpc.Client, plan: plans.Plan[R]) -> R:
    try:
        step = next(plan)
        while True:
            try:
                result = await client.call(step.method, *step.arguments, **step.keywords)
            except Exception as error:  # noqa: BLE001  (thrown into the plan, which may let it out)
                step = plan.throw(error)
            else:
                step = plan.send(result)
    except StopIteration as end:
        returned: R = end.value
        return returned


class Method(Generic[P, R]):
    """A plan as a method to be awaited."""

    def __init__(self, plan: Callable[P, plans.Plan[R]]) -> None:
        self.plan = plan
        self.__doc__ = plan.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "BackupComponents", owner: type) -> Callable[P, Awaitable[R]]: ...
    def __get__(
        self, instance: "BackupComponents | None", owner: type
    ) -> Self | Callable[P, Awaitable[R]]:
        """Return the bound method."""
        if instance is None:
            return self

        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return await _run(instance.client, self.plan(*args, **kwargs))

        call.__doc__ = self.__doc__
        return call


class Operation(Generic[P]):
    """An asynchronous method of VSS: call it to wait for its end, or `begin` it."""

    def __init__(self, method: interface.Method[P, str]) -> None:
        self.method = method
        self.__doc__ = method.doc

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "BackupComponents", owner: type) -> "BoundOperation[P]": ...
    def __get__(
        self, instance: "BackupComponents | None", owner: type
    ) -> "Self | BoundOperation[P]":
        """Return the bound operation."""
        return self if instance is None else BoundOperation(instance.client, self.method)


class BoundOperation(Generic[P]):
    """An asynchronous method of one object."""

    def __init__(self, client: rpc.Client, method: interface.Method[P, str]) -> None:
        self._client = client
        self._method = method

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Hresult:
        """Begin, wait for the end, and return the success HRESULT. Raises VssError."""
        return await (await self.begin(*args, **kwargs)).wait()

    async def begin(self, *args: P.args, **kwargs: P.kwargs) -> "Async":
        """Begin and return the IVssAsync object."""
        return Async(self._client, await self._client.call(self._method, *args, **kwargs))


class Async:
    """IVssAsync: an operation under way."""

    def __init__(self, client: rpc.Client, operation: str) -> None:
        self._client = client
        self.operation = operation

    async def wait(self, timeout: float | None = None) -> Hresult:
        """Wait for the end, or `timeout` seconds.

        Returns the success code it ended with, or VSS_S_ASYNC_PENDING. Raises the VssError
        that it ended with.
        """
        return await _run(self._client, plans.waited(self.operation, timeout))

    async def query_status(self) -> Hresult:
        """Return how it stands. Raises the VssError that it ended with."""
        return plans.check(await self._client.call(table.query_status, self.operation))

    async def cancel(self) -> Hresult:
        """Cancel it: S_OK, or how it ended already."""
        return plans.check(await self._client.call(table.cancel, self.operation))


class BackupComponents:
    """IVssBackupComponents."""

    def __init__(self, client: rpc.Client, session: str) -> None:
        self.session = session
        self.client = client.scoped(session)

    initialize_for_backup = Method(plans.plain(table.initialize_for_backup))
    set_context = Method(plans.plain(table.set_context))
    set_backup_state = Method(plans.plain(table.set_backup_state))
    gather_writer_metadata = Method(plans.gather_writer_metadata)
    writer_metadata = Method(plans.writer_metadata)
    add_component = Method(plans.add_component)
    start_snapshot_set = Method(plans.plain(table.start_snapshot_set))
    add_to_snapshot_set = Method(plans.plain(table.add_to_snapshot_set))
    is_volume_supported = Method(plans.plain(table.is_volume_supported))
    prepare_for_backup = Operation(table.prepare_for_backup)
    do_snapshot_set = Operation(table.do_snapshot_set)
    gather_writer_status = Method(plans.gather_writer_status)
    save_as_xml = Method(plans.plain(table.save_as_xml))
    import_snapshots = Operation(table.import_snapshots)
    get_snapshot_properties = Method(plans.plain(table.get_snapshot_properties))
    get_snapshot_luns = Method(plans.plain(table.get_snapshot_luns))
    query = Method(plans.plain(table.query))
    query_providers = Method(plans.plain(table.query_providers))
    delete_snapshots = Method(plans.plain(table.delete_snapshots))
    break_snapshot_set = Method(plans.plain(table.break_snapshot_set))
    break_snapshot_set_ex = Operation(table.break_snapshot_set_ex)
    expose_snapshot = Method(plans.plain(table.expose_snapshot))
    unexpose_snapshot = Method(plans.plain(table.unexpose_snapshot))
    set_backup_succeeded = Method(plans.set_backup_succeeded)
    backup_complete = Operation(table.backup_complete)
    abort_backup = Method(plans.plain(table.abort_backup))
    release = Method(plans.plain(table.release))
