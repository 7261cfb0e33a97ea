"""devicefs: the FUSE file system of a host's device objects.

Owns the order of things: the connection, new or kept; for a new one the first list from the
service and then the mount; then each further list put in force and confirmed. One file system
a process (pyfuse3 keeps its session in a global). It runs until SIGTERM or SIGINT, which
unmount it, or until somebody else does.

A devicefs that takes over a kept connection answers at once, from what its predecessor noted.
It must not wait for the service: that may be dying at this moment, and cannot while a walk of
it waits for an answer.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import pyfuse3
import structlog
import trio
from pyfuse3 import InodeT

from vssemu.linux import fdstore
from vssemu_fuse.devicefs import mounting, session
from vssemu_fuse.devicefs.catalog import Change
from vssemu_fuse.devicefs.client import ServiceCopies
from vssemu_fuse.devicefs.copies import Copies
from vssemu_fuse.devicefs.holdings import Holdings
from vssemu_fuse.devicefs.names import View
from vssemu_fuse.devicefs.operations import DeviceOperations
from vssemu_fuse.devicefs.session import Link
from vssemu_fuse.devicefs.surfacing import SURFACE_LIMIT, Surfacer

_log = structlog.get_logger(__name__)


async def serve(
    mountpoint: Path,
    copies: Copies,
    *,
    operators_gid: int,
    surface_limit: float = SURFACE_LIMIT,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the device objects at a directory until cancelled or unmounted.

    operators_gid: the group that may use the names, beside root. surface_limit: seconds a
    look-up waits for a tree. Started when the path answers. Without a kept connection the
    first list decides when that is: until then a predecessor's mount stays.
    Raises OSError when it cannot be mounted: EBUSY when another devicefs serves there.
    """
    store, kept = fdstore.Store.of_starter(), fdstore.inherited()
    link = await trio.to_thread.run_sync(session.connect, store, kept, mountpoint)
    holdings = Holdings(link, store, kept, mountpoint)
    catalog = holdings.catalog
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        # Whoever ends in order, or fails, has no successor: it might fail as well, for ever.
        stack.callback(holdings.end)
        surfacer = Surfacer(copies, nursery, limit=surface_limit, on_mounted=holdings.note)
        operations = DeviceOperations(
            catalog,
            surfacer,
            holdings.handles,
            operators_gid=operators_gid,
            born_ns=holdings.born_ns,
            remember=holdings.note,
        )
        lists = await stack.enter_async_context(aclosing(copies.lists()))
        if link.past is None:
            catalog.apply(await anext(lists), now_ns=holdings.born_ns)
        holdings.keep_devices()
        async with _mounted(link, operations, holdings, mountpoint):
            task_status.started()
            _log.info("serving", mountpoint=str(mountpoint), took_over=link.past is not None)
            if link.past is None:
                await copies.settled(catalog.revision)
            async for latest in lists:
                try:
                    change = catalog.apply(latest, now_ns=time.time_ns())
                except ValueError as error:
                    # The copies that have names must not pay for it.
                    _log.error("list refused", revision=latest.revision, reason=str(error))
                    continue
                holdings.note()
                for copy in change.removed:
                    _log.info("names removed", number=copy.facts.number)
                    surfacer.give_up(copy)
                await holdings.retire(*change.removed)
                await trio.to_thread.run_sync(_drop_attributes, change)
                holdings.keep_devices()
                await copies.settled(latest.revision)
        nursery.cancel_scope.cancel()


async def serve_until_signal(
    mountpoint: Path,
    socket: Path,
    *,
    operators_gid: int,
    surface_limit: float,
    on_ready: Callable[[], None] = lambda: None,
) -> bool:
    """Serve the copies of the service at a socket; return whether a signal ended it.

    on_ready: called when the path answers.
    """
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, scope)
            async with trio.open_nursery() as serving:
                await serving.start(
                    partial(
                        serve,
                        mountpoint,
                        ServiceCopies(socket),
                        operators_gid=operators_gid,
                        surface_limit=surface_limit,
                    )
                )
                on_ready()
            nursery.cancel_scope.cancel()
    return scope.cancel_called


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    """Cancel a scope at the first SIGTERM or SIGINT."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            _log.info("leaving", signal=signal.Signals(number).name)
            scope.cancel()
            return


@asynccontextmanager
async def _mounted(
    link: Link, operations: DeviceOperations, holdings: Holdings, mountpoint: Path
) -> AsyncIterator[None]:
    """Serve a mount at its place during the block.

    The block is cancelled, and left quietly, when somebody else unmounts it.
    """
    async with session.greeted(operations, link) as reply, trio.open_nursery() as nursery:
        holdings.begin(reply)
        nursery.start_soon(_answer, link, nursery.cancel_scope)
        if link.mounted is not None:
            await trio.to_thread.run_sync(mounting.install, link.mounted, mountpoint)
            _widen_read_ahead(mountpoint)
        mount_id = mounting.mount_id(mountpoint)
        try:
            yield
        finally:
            mounting.remove(mount_id, mountpoint)
        nursery.cancel_scope.cancel()


async def _answer(link: Link, ended: trio.CancelScope) -> None:
    await session.serve(link)
    _log.warning("unmounted by somebody else")
    ended.cancel()


def _widen_read_ahead(mountpoint: Path) -> None:
    try:
        mounting.set_read_ahead(mountpoint)
    except OSError as error:
        _log.warning("the Image view has a small read-ahead", reason=str(error))


def _drop_attributes(change: Change) -> None:
    """Have the kernel ask for attributes before the next use, reads of cached pages included.

    The pages themselves stay: taking them away waits for reads that devicefs has to answer,
    and a devicefs killed just then could not die.
    """
    inodes = [copy.inode(View.PROPERTIES) for copy in (*change.removed, *change.edited)]
    inodes += [copy.inode(View.IMAGE) for copy in change.removed]
    for inode in inodes:
        # ENOENT: the kernel has no such inode.
        with contextlib.suppress(FileNotFoundError):
            pyfuse3.invalidate_inode(InodeT(inode), attr_only=True)
