"""Holding writes: while a hold lasts, nothing changes a node's view.

What arrives is parked, and so is what waits for its copies; both are evaluated anew after the
release. What has been submitted is waited for. A hold ends by itself after its time.
"""

from __future__ import annotations

import time

from vssemu_fuse.lunfs.chain.nodes import Node
from vssemu_fuse.lunfs.io.work import Operation, Worker


class Hold:
    """A hold of one node, from its making on."""

    def __init__(self, worker: Worker, node: Node, seconds: float) -> None:
        self._node = node
        node.holds.add(self)
        worker.at(time.monotonic() + seconds, self.release)

    @property
    def is_on(self) -> bool:
        """Whether it lasts."""
        return self in self._node.holds

    def quiet(self) -> Operation[bool]:
        """Wait for the writes that were submitted before; tell whether the hold still lasts."""
        while self.is_on and self._node.writes.count:
            yield self._node.writes.none
        return self.is_on

    def release(self) -> bool:
        """End it; tell whether it lasted until now. Again does nothing."""
        was_on = self.is_on
        self._node.holds.discard(self)
        if was_on and not self._node.holds:
            self._node.released.open()
        return was_on
