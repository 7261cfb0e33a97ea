"""A view whose requests fail, wait or are stuck, as the faults of its LUN say.

There is one only while a LUN has faults: names serve the bare view otherwise. A request that is
delayed or stuck has not begun: nothing of it is counted, held or written before it goes on.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from vssemu.faults.luns import FaultState, LunFaultKind, Request
from vssemu_fuse.lunfs.io.view import View
from vssemu_fuse.lunfs.io.work import Gate, Operation, Work, Worker

T = TypeVar("T")

_ERRORS: Final = frozenset(
    {LunFaultKind.READ_ERROR, LunFaultKind.WRITE_ERROR, LunFaultKind.FLUSH_ERROR}
)


class SetFault:
    """A fault that is set: its state, and the requests that are stuck at it."""

    def __init__(self, state: FaultState) -> None:
        self.state = state
        self.standing = 0
        self._gate = Gate()

    @property
    def is_stuck(self) -> bool:
        """Whether requests that meet it wait for their release."""
        return self.state.fault.kind is LunFaultKind.STUCK

    @property
    def is_counted(self) -> bool:
        """Whether what it did so far says what it does next."""
        fault = self.state.fault
        return bool(fault.times or fault.after) or fault.probability < 1

    def stand(self) -> Operation[None]:
        """Wait until requests are let go."""
        self.standing += 1
        try:
            yield self._gate
        finally:
            self.standing -= 1

    def release(self) -> int:
        """Let go who stands; return how many."""
        self._gate.open()
        return self.standing

    @property
    def kept(self) -> tuple[int, int]:
        """What counts after a restart: seen and drawn, without the requests that stand.

        They are sent again, and are to be stuck again.
        """
        return self.state.seen - self.standing, self.state.drawn - self.standing


class Parking:
    """Where requests wait that are delayed or stuck.

    make_room: called with how many there are: they have places that others want.
    """

    def __init__(self, worker: Worker, make_room: Callable[[int], object]) -> None:
        self._worker = worker
        self._make_room = make_room
        self._count = 0

    def wait(self, seconds: float) -> Operation[None]:
        """Wait for so long."""
        gate = Gate()
        self._worker.at(time.monotonic() + seconds, gate.open)
        yield from self.park(gate)

    def park(self, waiting: Gate | Operation[None]) -> Operation[None]:
        """Wait for a gate, or for the end of an operation."""
        self._count += 1
        self._make_room(self._count)
        try:
            yield waiting
        finally:
            self._count -= 1


class FaultyView:
    """A view with faults. A `View`. on_counted: called when counts that are kept changed."""

    def __init__(
        self,
        view: View,
        faults: Sequence[SetFault],
        parking: Parking,
        on_counted: Callable[[], object] = lambda: None,
    ) -> None:
        self._view = view
        self._faults = faults
        self._parking = parking
        self._on_counted = on_counted
        self._are_counted = any(one.is_counted for one in faults)

    @property
    def size(self) -> int:
        """As `View.size`."""
        return self._view.size

    def read(self, room: memoryview, offset: int) -> Work[int]:
        """As `View.read`."""
        met = self._meets("read", offset, len(room))
        if not met:
            return self._view.read(room, offset)
        return self._run_into(met, lambda: self._view.read(room, offset))

    def write(self, data: memoryview, offset: int) -> Work[int]:
        """As `View.write`."""
        met = self._meets("write", offset, len(data))
        if not met:
            return self._view.write(data, offset)
        return self._run_into(met, lambda: self._view.write(data, offset))

    def flush(self) -> Work[object]:
        """As `View.flush`."""
        met = self._meets("flush", 0, 0)
        if not met:
            return self._view.flush()
        return self._run_into(met, self._view.flush)

    def zero(self, offset: int, length: int) -> Work[object]:
        """As `View.zero`."""
        met = self._meets("zero", offset, length)
        if not met:
            return self._view.zero(offset, length)
        return self._run_into(met, lambda: self._view.zero(offset, length))

    def _meets(self, request: Request, offset: int, length: int) -> list[SetFault]:
        met = [one for one in self._faults if one.state.meets(request, offset, length)]
        if self._are_counted and not any(one.is_stuck for one in met):
            self._on_counted()
        return met

    def _run_into(self, met: Sequence[SetFault], ask: Callable[[], Work[T]]) -> Operation[T]:
        if seconds := sum(one.state.fault.seconds or 0.0 for one in met):
            yield from self._parking.wait(seconds)
        for one in met:
            if one.is_stuck:
                yield from self._parking.park(one.stand())
                # From now on it would not be stuck again.
                self._on_counted()
        if any(one.state.fault.kind in _ERRORS for one in met):
            raise OSError(errno.EIO, "a fault was set")
        done: T = yield ask()
        return done
