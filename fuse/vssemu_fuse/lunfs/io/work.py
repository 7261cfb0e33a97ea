"""Running operations over asynchronous I/O: one thread, no locks, no tasks of a framework.

An *operation* is a generator that yields what it waits for and is resumed with the result:

    yield io                bytes done; an OSError is raised at the yield
    yield operation         what it returns, or its OSError
    yield [io, operation]   a list of their results when all are done; the first OSError
    yield gate              None, once the gate has been opened

Between two yields nothing else runs: what is looked up and decided there holds, and what is
yielded in the same step is submitted before anything can change it. The first step of an
operation runs when it is started.

Requests gather until `turn` (or `push`) and go in one system call. A transfer that is shorter
than what was asked fails with EIO. An exception that is no OSError is a bug and passes out of
`turn`, `start` or `run`.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import select
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, Self, TypeVar

from vssemu.linux import timers
from vssemu.linux.aio import Context, Io

T = TypeVar("T")

DEPTH: Final = 1024
"""Requests under way at most; others wait in line."""


class Gate:
    """What operations wait for. Opening lets those go on that wait now; it may be used again."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[_Task] = []

    def open(self) -> None:
        """Have everybody who waits go on, in the next turn of their worker."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for task in waiting:
                task.ready(task)

    def add(self, task: _Task) -> None:
        """Let a task wait."""
        self._waiting.append(task)


class Tally:
    """How many of something are under way, and a gate that opens whenever there are none."""

    __slots__ = ("count", "none")

    def __init__(self) -> None:
        self.count = 0
        self.none = Gate()

    def left(self) -> None:
        """One is done."""
        self.count -= 1
        if not self.count:
            self.none.open()


Operation = Generator[Any, Any, T]
"""Yields Io, Operation, list[Work] or Gate; returns T."""

Work = Io | Operation[T]
"""A request, or an operation that returns T; a request gives the bytes done."""

Done = Callable[[Any], object]
"""Called with the result, or with an OSError."""


class _Task:
    """An operation that was started and has not ended."""

    __slots__ = ("completed", "done", "left", "operation", "ready", "results")

    def __init__(
        self, operation: Operation[Any], done: Done, ready: Callable[[_Task], object]
    ) -> None:
        self.operation = operation
        self.done = done
        self.ready = ready
        self.left = 0
        self.results: list[Any] = []


class Worker:
    """Runs operations and bare requests; to be used as a context manager."""

    def __init__(self, depth: int = DEPTH) -> None:
        self._context = Context(depth)
        self._timer = timers.create()
        self._epoll = select.epoll(sizehint=2)
        self._epoll.register(self._context.fileno(), select.EPOLLIN)
        self._epoll.register(self._timer, select.EPOLLIN)
        self._outgoing: list[Io] = []
        self._ready: deque[_Task | Callable[[], object]] = deque()
        self._tasks = 0
        self._times: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for requests that were submitted and drop everything; nobody hears of it."""
        self._context.close()
        self._epoll.close()
        if self._timer >= 0:
            os.close(self._timer)
            self._timer = -1

    def fileno(self) -> int:
        """Return a descriptor that is readable when `turn` has something to do.

        Unless something was started since the last turn: then there is, at once.
        """
        return self._epoll.fileno()

    @property
    def idle(self) -> bool:
        """Whether nothing was begun that has not ended. Timers do not count."""
        return not (self._tasks or self._outgoing or self._ready or self._context.under_way)

    @property
    def is_due(self) -> bool:
        """Whether `turn` has something to do at once, of which `fileno` tells nothing."""
        return bool(self._ready or self._outgoing)

    def run(self, work: Work[Any], done: Done) -> None:
        """Submit a request or start an operation; `done` gets the result or an OSError."""
        if isinstance(work, Io):
            self.submit_io(work, done)
        else:
            self.start(work, done)

    def submit_io(self, io: Io, done: Done) -> None:
        """Have a bare request submitted; `done` gets the bytes done or an OSError."""
        io.done = done
        self._outgoing.append(io)

    def start(self, operation: Operation[Any], done: Done) -> None:
        """Start an operation: its first step runs now."""
        self._tasks += 1
        self._step(_Task(operation, done, self._ready.append), None)

    def soon(self, function: Callable[[], object]) -> None:
        """Call a function in the next turn, after what is to be done before it."""
        self._ready.append(function)

    def at(self, when: float, function: Callable[[], object]) -> None:
        """Call a function once `time.monotonic()` has come to `when`."""
        heapq.heappush(self._times, (when, next(self._numbers), function))
        if self._times[0][0] == when:
            timers.set_at(self._timer, when)

    def turn(self) -> bool:
        """Do what can be done without waiting; tell whether there was anything."""
        did = bool(self._ready or self._outgoing)
        if self._ready:
            self._run_ready()
        if self._outgoing:
            self.push()
        context = self._context
        if context.has_answers or not did:
            # Not always: it is a system call. What sleeps next finds it calm.
            context.calm()
        answers = context.reap()
        if answers:
            did = True
            for io, count in answers:
                self._answer(io, count)
            if self._ready:
                self._run_ready()
            if self._outgoing:
                self.push()
        if self._times:
            did |= self._run_times()
        return did

    def push(self) -> None:
        """Submit what has gathered."""
        outgoing = self._outgoing
        self._outgoing = []
        taken = self._context.submit(outgoing)
        if taken < len(outgoing):
            self._outgoing[:0] = outgoing[taken:]

    # --- inside

    def _run_ready(self) -> None:
        ready = self._ready
        for _ in range(len(ready)):
            each = ready.popleft()
            if isinstance(each, _Task):
                self._step(each, None)
            else:
                each()

    def _run_times(self) -> bool:
        did = False
        now = time.monotonic()
        while self._times and self._times[0][0] <= now:
            heapq.heappop(self._times)[2]()
            did = True
        if did:
            timers.calm(self._timer)
            if self._times:
                timers.set_at(self._timer, self._times[0][0])
        return did

    def _answer(self, io: Io, count: int) -> None:
        tally = io.tally
        if tally is not None:
            tally.left()
        if count == io.length:
            io.done(count)
        else:
            io.done(_failure(io, count))

    def _step(self, task: _Task, value: Any) -> None:
        """Resume an operation with a result, or with an OSError that is raised there."""
        try:
            if isinstance(value, OSError):
                wanted = task.operation.throw(value)
            else:
                wanted = task.operation.send(value)
        except StopIteration as end:
            self._tasks -= 1
            task.done(end.value)
            return
        except OSError as error:
            self._tasks -= 1
            task.done(error)
            return
        kind = type(wanted)
        if kind is Io:
            wanted.done = lambda result: self._step(task, result)
            self._outgoing.append(wanted)
        elif kind is list:
            self._all(task, wanted)
        elif isinstance(wanted, Gate):
            wanted.add(task)
        else:
            self.start(wanted, lambda result: self._step(task, result))

    def _all(self, task: _Task, works: list[Work[Any]]) -> None:
        task.left = len(works)
        task.results = [None] * len(works)
        if not works:
            self._ready.append(lambda: self._step(task, []))
            return
        for index, work in enumerate(works):
            self.run(work, _Part(self._one_done, task, index))

    def _one_done(self, task: _Task, index: int, result: Any) -> None:
        task.results[index] = result
        task.left -= 1
        if not task.left:
            results, task.results = task.results, []
            failed = (each for each in results if isinstance(each, OSError))
            self._step(task, next(failed, results))


class _Part:
    """The `done` of one of several."""

    __slots__ = ("_function", "_index", "_task")

    def __init__(
        self, function: Callable[[_Task, int, Any], None], task: _Task, index: int
    ) -> None:
        self._function = function
        self._task = task
        self._index = index

    def __call__(self, result: Any) -> None:
        self._function(self._task, self._index, result)


def _failure(io: Io, count: int) -> OSError:
    if count < 0:
        return OSError(-count, os.strerror(-count))
    return OSError(errno.EIO, f"{count} of {io.length} bytes at {io.offset}")
