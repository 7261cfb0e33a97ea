"""The loop that serves data, between the turns of trio's.

Synchronous and single-threaded: requests are taken, begun, submitted and answered in turns,
and trio is left alone as long as there is something to do, up to SLICE. With nothing to do the
loop sleeps by itself until the slice is over, since a sleep by way of trio takes several times
as long to end. Only then trio waits, for one descriptor.

A task of trio's may start work, open gates and end holds as it likes: before trio sleeps, the
loop is told of what is to be done.
"""

from __future__ import annotations

import os
import select
import time
from typing import Any, Final, Self, TypeVar

import trio

from vssemu_fuse.lunfs.fuse.connection import Connection
from vssemu_fuse.lunfs.io.work import Work, Worker

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
        await done.wait()
        if isinstance(results[0], OSError):
            raise results[0]
        value: T = results[0]
        return value

    async def run(self) -> None:
        """Serve until the file system is gone."""
        waker = _Waker(self._worker, self._wake)
        trio.lowlevel.add_instrument(waker)
        try:
            while not self._connection.has_ended:
                if self._slice():
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(self._poll().fileno())
        finally:
            trio.lowlevel.remove_instrument(waker)

    def _poll(self) -> select.epoll:
        return self._some if self._connection.is_full else self._all

    def _slice(self) -> bool:
        """Serve for SLICE; tell whether there was something to do until the end."""
        connection, worker = self._connection, self._worker
        clock, asked, woken = time.monotonic, connection.fd, self._wake
        end = clock() + SLICE
        left = SLICE
        while left > 0:
            # Nothing can be done before there is an event: all that was begun is submitted.
            ready = self._poll().poll(0 if worker.is_due else left)
            if not ready and not worker.is_due:
                return False
            for fd, _ in ready:
                if fd == asked:
                    connection.take()
                    if connection.has_ended:
                        return True
                elif fd == woken:
                    os.eventfd_read(woken)
            worker.turn()
            left = end - clock()
        return True


class _Waker(trio.abc.Instrument):
    """Has trio not sleep while a worker has something to do."""

    def __init__(self, worker: Worker, wake: int) -> None:
        self._worker = worker
        self._wake = wake

    def before_io_wait(self, timeout: float) -> None:
        """Called by trio before it sleeps."""
        del timeout
        if self._worker.is_due:
            os.eventfd_write(self._wake, 1)
