"""devicefs: the FUSE file system of a host's device objects.

Owns the order of things: the first list from the service, the mount, then each further list
put in force and confirmed. One file system a process (pyfuse3 keeps its session in a
global). It runs until SIGTERM or SIGINT, which unmount it, or until somebody else does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pyfuse3
import structlog
import trio
from pyfuse3 import InodeT

from vssemu_fuse import mounting
from vssemu_fuse.catalog import Catalog, Change
from vssemu_fuse.client import ServiceCopies
from vssemu_fuse.copies import Copies
from vssemu_fuse.image import open_block_device
from vssemu_fuse.names import View
from vssemu_fuse.operations import DeviceOperations
from vssemu_fuse.surfacing import SURFACE_LIMIT, Surfacer

MAX_WAITING: Final = 1_000_000
"""Requests in progress. Walkers waiting for a tree must never use up the tasks that answer
the service's own look-ups, so this is more than a machine has threads."""

_log = structlog.get_logger(__name__)


async def serve(
    mountpoint: Path,
    copies: Copies,
    *,
    operators_gid: int,
    surface_limit: float = SURFACE_LIMIT,
    opener: Callable[[int, int], int] = open_block_device,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the device objects at a directory until cancelled or unmounted.

    operators_gid: the group that may use the names, beside root. surface_limit: seconds a
    look-up waits for a tree. opener: opens a raw device read-only by major and minor.
    Started when the path answers. The first list decides when that is: until then a
    predecessor's mount stays.
    Raises OSError when it cannot be mounted: EBUSY when another devicefs serves there.
    """
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        born_ns = time.time_ns()
        catalog = Catalog()
        operations = DeviceOperations(
            catalog,
            Surfacer(copies, nursery, limit=surface_limit),
            operators_gid=operators_gid,
            born_ns=born_ns,
            opener=opener,
        )
        lists = await stack.enter_async_context(aclosing(copies.lists()))
        first = await anext(lists)
        catalog.apply(first, now_ns=born_ns)
        _keep_devices(catalog, operations)
        async with _session(operations, mountpoint):
            task_status.started()
            await copies.settled(first.revision)
            _log.info("serving", mountpoint=str(mountpoint), copies=len(first.copies))
            async for latest in lists:
                try:
                    change = catalog.apply(latest, now_ns=time.time_ns())
                except ValueError as error:
                    # The copies that have names must not pay for it.
                    _log.error("list refused", revision=latest.revision, reason=str(error))
                    continue
                await _enforce(change, operations)
                _keep_devices(catalog, operations)
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
async def _session(operations: DeviceOperations, mountpoint: Path) -> AsyncIterator[None]:
    """Serve a mount at its place during the block.

    The block is cancelled, and left quietly, when somebody else unmounts it.
    """
    fuse = await trio.to_thread.run_sync(mounting.make)
    try:
        pyfuse3.init(operations, f"/dev/fd/{fuse.connection}", set())
    except RuntimeError:
        os.close(fuse.connection)
        os.close(fuse.mounted)
        raise
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_answer, nursery.cancel_scope)
            mount_id = await trio.to_thread.run_sync(mounting.install, fuse.mounted, mountpoint)
            try:
                _widen_read_ahead(mountpoint)
                yield
            finally:
                mounting.remove(mount_id, mountpoint)
            nursery.cancel_scope.cancel()
    finally:
        # Closes the connection, which the session took over.
        pyfuse3.close(unmount=False)


async def _answer(ended: trio.CancelScope) -> None:
    await pyfuse3.main(max_tasks=MAX_WAITING)
    _log.warning("unmounted by somebody else")
    ended.cancel()


def _widen_read_ahead(mountpoint: Path) -> None:
    try:
        mounting.set_read_ahead(mountpoint)
    except OSError as error:
        _log.warning("the Image view has a small read-ahead", reason=str(error))


def _keep_devices(catalog: Catalog, operations: DeviceOperations) -> None:
    for copy in catalog.after(0):
        try:
            operations.keep(copy)
        except OSError as error:
            # The next list is the next attempt.
            _log.warning("device not kept", number=copy.facts.number, reason=str(error))


async def _enforce(change: Change, operations: DeviceOperations) -> None:
    """Make open files feel what a change made untrue."""
    for copy in change.removed:
        _log.info("names removed", number=copy.facts.number)
        await operations.retire(copy)
        for view in (View.IMAGE, View.PROPERTIES):
            await trio.to_thread.run_sync(_drop_attributes, copy.inode(view))
    for copy in change.edited:
        await trio.to_thread.run_sync(_drop_attributes, copy.inode(View.PROPERTIES))


def _drop_attributes(inode: int) -> None:
    """Have the kernel ask for attributes before the next use, reads of cached pages included.

    The pages themselves stay: taking them away waits for reads that devicefs has to answer,
    and a devicefs killed just then could not die.
    """
    # ENOENT: the kernel has no such inode.
    with contextlib.suppress(FileNotFoundError):
        pyfuse3.invalidate_inode(InodeT(inode), attr_only=True)
