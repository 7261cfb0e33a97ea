"""Several awaitable jobs at once, with one plain error instead of a group."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import trio

from vssemu.vss.errors import VssError

T = TypeVar("T")


@contextmanager
def ungrouped() -> Iterator[None]:
    """Let an exception group out of the block as the one exception it holds, if it is one."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from None


async def all_of(jobs: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run the jobs at once and return their results in order.

    The first VssError cancels the others and is raised when they have ended; other
    exceptions are bugs and pass as they come.
    """
    results: dict[int, T] = {}
    failures: list[VssError] = []

    async def run(number: int, job: Callable[[], Awaitable[T]], scope: trio.CancelScope) -> None:
        try:
            results[number] = await job()
        except VssError as error:
            failures.append(error)
            scope.cancel()

    async with trio.open_nursery() as nursery:
        for number, job in enumerate(jobs):
            nursery.start_soon(run, number, job, nursery.cancel_scope)
    if failures:
        raise failures[0]
    return [results[number] for number in range(len(jobs))]
