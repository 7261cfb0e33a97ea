"""Long work in a thread: how far it is, told while it goes on, and its end before its time."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

R = TypeVar("R")

PAUSE: Final = 0.2
"""Seconds between two tellings."""


class Progress:
    """How far some work is. done, total: bytes, as it counts them."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 0

    def advance(self, count: int) -> None:
        """Note that more is done; in a thread of trio's. Raises Cancelled when it is to end."""
        trio.from_thread.check_cancelled()
        self.done += count


async def told(work: Callable[[], Awaitable[R]], tell: Callable[[], Awaitable[None]]) -> R:
    """Return what some work returns; meanwhile, tell about it again and again.

    Raises what either raises; the work is cancelled when telling fails.
    """
    results: list[R] = []
    errors: list[Exception] = []
    over = trio.Event()

    async def run() -> None:
        try:
            results.append(await work())
        except Exception as error:  # noqa: BLE001  (raised below, in the caller's task)
            errors.append(error)
        finally:
            over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        while not over.is_set():
            try:
                await tell()
            except Exception as error:  # noqa: BLE001  (raised below, once the work has ended)
                errors.insert(0, error)
                nursery.cancel_scope.cancel()
                break
            with trio.move_on_after(PAUSE):
                await over.wait()
    if errors:
        raise errors[0]
    return results[0]
