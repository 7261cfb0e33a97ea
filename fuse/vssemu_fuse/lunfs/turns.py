"""The loop that serves data, between the turns of trio's.

Synchronous and single-threaded: requests are taken, begun, submitted and answered in turns,
and trio is left alone as long as there is something to do, up to SLICE. With nothing to do the
loop sleeps by itself until the slice is over, since a sleep by way of trio takes several times
as long to end. Only then trio waits, for one descriptor.

Whoever starts work from a task of trio's calls `wake`, or lets `result` do all of it.
"""

from __future__ import annotations

import os
import select
import time
from typing import Any, Final, Self, TypeVar

import trio

from vssemu_fuse.lunfs.connection import Connection
from vssemu_fuse.lunfs.work import Work, Worker

T = TypeVar("T")

SLICE: Final = 0.002
"""Seconds that a call on the control socket waits at most for the loop."""


class Turns:
    """The loop over a connection and a worker; to be used as a context manager."""

    def __init__(self, connection: Connection, worker: Worker) -> None:
        self._connection = connection
        self._worker = worker
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._all = select.epoll()
        self._all.register(connection.fd, select.EPOLLIN)
        # While no place is free, only what frees one may wake the loop.
        self._some = select.epoll()
        for poll in (self._all, self._some):
            poll.register(worker.fileno(), select.EPOLLIN)
            poll.register(self._wake, select.EPOLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the descriptors."""
        if self._wake >= 0:
            self._all.close()
            self._some.close()
            os.close(self._wake)
            self._wake = -1

    def wake(self) -> None:
        """Have work done that was started from elsewhere."""
        os.eventfd_write(self._wake, 1)

    async def result(self, work: Work[T]) -> T:
        """Run a request or an operation, beside the requests; return what it gives.

        When the caller is cancelled it goes on all the same. Raises its OSError.
        """
        done = trio.Event()
        results: list[Any] = []

        def take(result: Any) -> None:
            results.append(result)
            done.set()

        self._worker.run(work, take)
        self.wake()
        await done.wait()
        if isinstance(results[0], OSError):
            raise results[0]
        value: T = results[0]
        return value

    async def run(self) -> None:
        """Serve until the file system is gone."""
        while not self._connection.has_ended:
            if self._slice():
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._poll().fileno())

    def _poll(self) -> select.epoll:
        return self._some if self._connection.is_full else self._all

    def _slice(self) -> bool:
        """Serve for SLICE, or until nothing came for so long; tell whether it was the first."""
        connection, worker = self._connection, self._worker
        end = time.monotonic() + SLICE
        while not connection.has_ended:
            did = connection.take()
            did |= worker.turn()
            left = end - time.monotonic()
            if did:
                if left <= 0:
                    return True
            elif left <= 0 or not self._sleep(left):
                return False
        return True

    def _sleep(self, seconds: float) -> bool:
        """Sleep until there is something to do; tell whether there is, or time was up."""
        ready = self._poll().poll(seconds)
        if any(fd == self._wake for fd, _ in ready):
            os.eventfd_read(self._wake)
        return bool(ready)
