"""The initiator of the loop fabric: what a host bus adapter is to a host.

LUNs arrive as descriptors over the host's own socket to the array; a part of one becomes a
block device of the host. Owns that socket's line and the two sources of prompts, the array's
and the kernel's. Both only say that a look may be worth while.
"""

import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
import trio

from vssemu.api import array
from vssemu.fabric.arraylink import RETRY_SECONDS, ArrayLink, connect_patiently
from vssemu.fabric.loop.binding import bind
from vssemu.fabric.loop.nodes import Nodes
from vssemu.linux import blockdev, loop
from vssemu.linux.uevents import BlockMonitor
from vssemu.rpc.errors import RpcError
from vssemu.vss.array import View
from vssemu.vss.errors import VssError
from vssemu.vss.fabric import Arrived, BoundDevice
from vssemu.vss.identity import Initiator, LunId

UNBINDING_LIMIT: Final = 10.0
"""Seconds for closing a device, which writes out what its cache holds."""

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_initiator(link: ArrayLink, nodes: Nodes) -> AsyncIterator["LoopInitiator"]:
    """Give the host's adapter for the block; `nodes` makes its device nodes.

    Raises OSError when the kernel's events cannot be heard.
    """
    # The monitor is closed after the task that listens to it has ended.
    with BlockMonitor() as monitor:
        async with trio.open_nursery() as nursery:
            adapter = LoopInitiator(link, nodes)
            await adapter.drop_stale_nodes()
            nursery.start_soon(adapter.listen_to_kernel, monitor)
            nursery.start_soon(adapter.listen_to_array)
            yield adapter
            nursery.cancel_scope.cancel()


class LoopInitiator:
    """A `HostBusAdapter` over loop devices."""

    def __init__(self, link: ArrayLink, nodes: Nodes) -> None:
        self._link = link
        self._nodes = nodes
        self._prompt, self._prompts = trio.open_memory_channel[None](1)
        self._left: set[int] = set()
        """Devices that were let go of while somebody still had them open."""

    async def names(self) -> Sequence[Initiator]:
        """Return the names by which the array knows this host. Raises as `ArrayLink.call`."""
        return await self._link.call(array.initiator_names)

    async def rescan(self) -> Sequence[Arrived]:
        """Return all LUNs that are unmasked to this host. Raises as `ArrayLink.call`."""
        luns = await self._link.call(array.luns)
        return [
            Arrived(lun=each.id, information=each.information, size=each.size) for each in luns
        ]

    async def open(self, lun: LunId, view: View, *, writable: bool) -> int:
        """Return a descriptor of a LUN's bytes, which the caller closes.

        Raises VssError when the LUN is not unmasked to this host, else as `ArrayLink.call`.
        """
        _, descriptor = await self._link.call_with_descriptor(array.attach, lun, view, writable)
        return descriptor

    @asynccontextmanager
    async def bound(
        self, lun: LunId, view: View, *, offset: int, length: int, writable: bool
    ) -> AsyncIterator[BoundDevice]:
        """Bind a part of a LUN to a block device while the block runs.

        offset, length: bytes, multiples of 4096. Raises as `open`; OSError EBUSY when the bytes
        are bound otherwise, EINVAL when direct I/O, size or block size are not to be had.
        """
        backing = await self.open(lun, view, writable=writable)
        try:
            # In a thread: who serves the file may be asked.
            if offset + length > await trio.to_thread.run_sync(blockdev.size, backing):
                raise OSError(errno.EINVAL, f"{offset} + {length} bytes are beyond its end", lun)
            device, keeper = await bind(
                backing,
                offset,
                length,
                writable=writable,
                nodes=self._nodes,
                reserve=self._reserve,
            )
        finally:
            os.close(backing)
        try:
            yield device
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + UNBINDING_LIMIT):
                await trio.to_thread.run_sync(os.close, keeper, abandon_on_cancel=True)
                await self._drop_node(device.number)

    async def changes(self) -> AsyncIterator[None]:
        """Yield whenever something may have arrived or gone; prompts are merged."""
        async for prompt in self._prompts:
            yield prompt

    async def listen_to_kernel(self, monitor: BlockMonitor) -> None:
        """Turn the kernel's block events into prompts, for ever."""
        while True:
            await trio.lowlevel.wait_readable(monitor.fileno())
            try:
                while monitor.receive_nowait() is not None:
                    pass
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            await self._drop_left_nodes()
            self._hint()

    async def listen_to_array(self) -> None:
        """Turn the array's notices into prompts, for ever, over a connection of their own."""
        while True:
            try:
                async with await connect_patiently(self._link.path) as client:
                    # Whatever changed while nobody listened.
                    self._hint()
                    async with client.stream(array.watch) as notices:
                        async for _ in notices:
                            self._hint()
            except (OSError, RpcError, VssError) as error:
                _log.warning("the array's notices stopped", reason=str(error))
            await trio.sleep(RETRY_SECONDS)

    def _hint(self) -> None:
        try:
            self._prompt.send_nowait(None)
        except trio.WouldBlock:
            # One that nobody took yet will do.
            return

    async def drop_stale_nodes(self) -> None:
        """Remove the nodes that a killed predecessor left of devices that are free or foreign."""
        for number in await trio.to_thread.run_sync(_stale_nodes):
            await self._remove_node(number)

    async def _reserve(self) -> int:
        number = await self._link.call(array.reserve_device)
        self._left.discard(number)
        return number

    async def _drop_node(self, number: int) -> None:
        """Remove the node of a device that is free; a mounted one keeps its own."""
        if loop.sysfs_facts(number) is None:
            await self._remove_node(number)
        else:
            self._left.add(number)

    async def _remove_node(self, number: int) -> None:
        try:
            await self._nodes.remove(number)
        except OSError as error:
            _log.warning("node not removed", number=number, reason=str(error))

    async def _drop_left_nodes(self) -> None:
        """Remove the nodes of devices that meanwhile became free, or another host's."""
        for number in sorted(self._left):
            if not await trio.to_thread.run_sync(_is_here, number) and number in self._left:
                self._left.discard(number)
                await self._remove_node(number)


def _stale_nodes() -> list[int]:
    """Return the numbers of the nodes here whose devices are not bound by this host."""
    stale = []
    for path in loop.node(0).parent.glob("loop[0-9]*"):
        number = path.name.removeprefix("loop")
        if number.isdecimal() and path.is_block_device() and not _is_here(int(number)):
            stale.append(int(number))
    return stale


def _is_here(number: int) -> bool:
    if loop.sysfs_facts(number) is None:
        return False
    try:
        os.close(loop.open_device(number))
    except OSError:
        # The fence knows it as another host's.
        return False
    return True
