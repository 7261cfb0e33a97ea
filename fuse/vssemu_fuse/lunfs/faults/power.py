"""The power of a chain: it goes, with a part of what was not flushed, and comes back.

Origin and snapshots have one supply. When it goes:

    requests at their views fail (EIO), those under way too: done or not, nobody is told
    holds end; commits and removals run into disks that fail, and end
    files are put back, block by block, to what a power loss may have left of them

When it comes back the chain is read from its files anew, as after a restart. The record of the
chain is the array's own and loses nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from vssemu_fuse.lunfs.chain.chain import Chain
from vssemu_fuse.lunfs.chain.nodes import Node
from vssemu_fuse.lunfs.faults.volatile import Lost, Power, VolatileDisk
from vssemu_fuse.lunfs.io.disk import Disk, FileDisk
from vssemu_fuse.lunfs.io.view import View
from vssemu_fuse.lunfs.io.work import Gate, Operation, Tally, Work

T = TypeVar("T")


class Supply:
    """The power of one chain, on at first.

    losses: how many there were. requests: at views, and calls that change the chain.
    """

    def __init__(self) -> None:
        self.is_off = False
        self.losses = 0
        self.requests = Tally()
        self._power = Power()
        self._is_changing = False
        self._changed = Gate()

    @property
    def pending(self) -> int:
        """How many bytes a loss could take back now."""
        return self._power.pending

    # --- disks

    def plug(self, disk: FileDisk, name: str) -> Disk:
        """Have a disk lose what is not flushed from now on. name: among those of the chain."""
        return VolatileDisk(disk, name, self._power)

    def plug_all(self, chain: Chain, name: Callable[[Node], str]) -> None:
        """Have all disks of a chain lose what is not flushed; what they have counts as durable."""
        for node in nodes_of(chain):
            if isinstance(node.disk, FileDisk):
                node.disk = self.plug(node.disk, name(node))

    def unplug_all(self, chain: Chain) -> None:
        """Have no disk of a chain lose anything any more."""
        for node in nodes_of(chain):
            if isinstance(node.disk, VolatileDisk):
                node.disk.unplug()
                node.disk = node.disk.file

    # --- off and on

    def stay_off(self) -> None:
        """Be off, as before a restart; nothing is lost."""
        self.is_off = self._power.is_off = True

    def lose(self, chain: Chain, seed: int) -> Operation[Lost]:
        """Go off; put back a part of what was not flushed. Raises OSError: off, and unsure."""
        yield from self._begin_change()
        try:
            self.losses += 1
            self.is_off = self._power.is_off = True
            for hold in [hold for node in nodes_of(chain) for hold in node.holds]:
                hold.release()
            yield from self._quiet(chain)
            # The origin first: what becomes of it is not moved by snapshots that come and go.
            disks = [node.disk for node in reversed(nodes_of(chain))]
            return (yield from self._power.lose(seed, disks))
        finally:
            self._end_change()

    def come_back(self, chain: Chain) -> Operation[None]:
        """Go on, the chain being what its files say. Raises OSError, and stays off."""
        yield from self._begin_change()
        try:
            if not self.is_off:
                return
            self._power.is_off = False
            try:
                yield from chain.reload()
            except OSError:
                self._power.is_off = True
                raise
            self.is_off = False
        finally:
            self._end_change()

    def _quiet(self, chain: Chain) -> Operation[None]:
        """Wait until nothing is under way at a chain whose disks fail."""
        while self.requests.count:
            yield self.requests.none
        while chain.endings.count:
            yield chain.endings.none
        for node in nodes_of(chain):
            while node.is_committing:
                yield node.committed
            while node.reads.count:
                yield node.reads.none
            while node.writes.count:
                yield node.writes.none

    def _begin_change(self) -> Operation[None]:
        while self._is_changing:
            yield self._changed
        self._is_changing = True

    def _end_change(self) -> None:
        self._is_changing = False
        self._changed.open()


class PoweredView:
    """A view that fails while its supply is off. A `View`."""

    def __init__(self, view: View, supply: Supply) -> None:
        self._view = view
        self._supply = supply

    @property
    def size(self) -> int:
        """As `View.size`."""
        return self._view.size

    def read(self, room: memoryview, offset: int) -> Operation[int]:
        """As `View.read`."""
        return self._powered(lambda: self._view.read(room, offset))

    def write(self, data: memoryview, offset: int) -> Operation[int]:
        """As `View.write`."""
        return self._powered(lambda: self._view.write(data, offset))

    def flush(self) -> Operation[object]:
        """As `View.flush`."""
        return self._powered(self._view.flush)

    def zero(self, offset: int, length: int) -> Operation[object]:
        """As `View.zero`."""
        return self._powered(lambda: self._view.zero(offset, length))

    def _powered(self, ask: Callable[[], Work[T]]) -> Operation[T]:
        supply = self._supply
        if supply.is_off:
            raise OSError(errno.EIO, "the power is off")
        supply.requests.count += 1
        try:
            done: T = yield ask()
        finally:
            supply.requests.left()
        return done


def nodes_of(chain: Chain) -> list[Node]:
    """Return the nodes of a chain, eldest first."""
    return [chain.node(lun) for lun in chain.luns]
