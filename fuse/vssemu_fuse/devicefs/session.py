"""The connection to the kernel, which outlives the process that answers it.

Owns the way from a connection, new or kept, to a FUSE library that answers it.

The starter of devicefs keeps a copy of the connection's descriptor. So when devicefs is killed
the kernel goes on queueing requests, and walkers and readers wait. The next devicefs gets the
descriptor and asks the kernel to send again what its predecessor took and did not answer
(kernel 6.9). Nothing has failed, nothing was unmounted.

The library would wait for INIT, which the kernel sends once. So it always meets the kernel's
INIT on a pair of sockets, from here, and the connection takes the place of that pair
afterwards. A first devicefs passes the answer on to the kernel; a later one sees to it that
the answer is the same, for the kernel acts on the first.

When nobody keeps descriptors, or the kernel does not send again, the mount dies with devicefs
and the next one puts a new mount in its place (`vssemu_fuse.devicefs.mounting`).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyfuse3
import structlog
import trio

from vssemu.linux import fuse
from vssemu.linux.fdstore import Store
from vssemu_fuse.devicefs import mounting
from vssemu_fuse.devicefs.memory import Memory, Past

KEPT_NAME: Final = "fuse"
_ANSWER_LIMIT: Final = 10.0
"""Seconds for the library's answer to INIT, which takes a millisecond."""
MAX_WAITING: Final = 1_000_000
"""Requests in progress. Walkers waiting for a tree must never use up the tasks that answer
the service's own look-ups, so this is more than a machine has threads."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A FUSE connection that nobody answers yet; the descriptors belong to the holder.

    init: the kernel's first request. mounted: of a new connection, its detached mount.
    past: of a kept connection, what its last devicefs knew. is_lasting: it can be kept.
    """

    connection: int
    init: bytes
    mounted: int | None
    past: Past | None
    is_lasting: bool


def connect(store: Store, kept: dict[str, int], mountpoint: Path) -> Link:
    """Return the kept connection if it can go on, else a new one.

    kept: what the starter kept; without a connection that goes on it is closed and emptied.
    Raises OSError as `mounting.make` does.
    """
    past = Memory(mountpoint).recall()
    connection = kept.get(KEPT_NAME)
    is_mounted = connection is not None and fuse.is_connected(connection)
    if connection is not None and is_mounted and past and mounting.ours(mountpoint):
        del kept[KEPT_NAME]
        return Link(
            connection=connection, init=past.init, mounted=None, past=past, is_lasting=True
        )
    if kept:
        _give_back(store, kept)
    made = mounting.make()
    try:
        init = fuse.read_init(made.connection)
    except OSError:
        os.close(made.connection)
        os.close(made.mounted)
        raise
    return Link(
        connection=made.connection,
        init=init,
        mounted=made.mounted,
        past=None,
        is_lasting=store.is_there and fuse.offers_resend(init),
    )


def _give_back(store: Store, kept: dict[str, int]) -> None:
    """Close what was kept, here and in the store: a mount that nobody answers is dead then."""
    for name, descriptor in kept.items():
        os.close(descriptor)
        store.forget(name)
    kept.clear()
    store.settle()


@asynccontextmanager
async def greeted(operations: pyfuse3.Operations, link: Link) -> AsyncIterator[bytes]:
    """Have the FUSE library know the connection during the block; yield its answer to INIT.

    Nothing else is answered before `serve`. Raises OSError: EPROTO when the answer is not the
    one that the kernel once got.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        number = theirs.detach()
        try:
            pyfuse3.init(operations, f"/dev/fd/{number}", set())
        except RuntimeError:
            os.close(number)
            raise
        try:
            ours.send(link.init)
            reply = await _answer_to_init(ours)
            if link.past is None:
                os.write(link.connection, reply)
            elif link.past.reply != reply:
                raise OSError(errno.EPROTO, "the FUSE library is not the one of the last start")
            # The library reads from the number; from now on that is the kernel.
            os.dup2(link.connection, number, inheritable=False)
            yield reply
        finally:
            pyfuse3.close(unmount=False)


async def serve(link: Link) -> None:
    """Answer requests, the unanswered ones of a predecessor first, until it is unmounted."""
    if link.past is not None:
        fuse.resend(link.connection)
    os.close(link.connection)
    await pyfuse3.main(max_tasks=MAX_WAITING)


async def _answer_to_init(ours: socket.socket) -> bytes:
    """Let the library run until it has answered what was sent to it."""
    with trio.fail_after(_ANSWER_LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pyfuse3.main)
            await trio.lowlevel.wait_readable(ours)
            # It waits for the next request now, which the kernel will send.
            nursery.cancel_scope.cancel()
    return ours.recv(1 << 16)
