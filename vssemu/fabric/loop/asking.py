"""Threads that ask about the files of a LUN, and do not come back when nobody serves them.

Who serves a file may hang. Then what is asked about this LUN fails after a limit, and what is
asked about others goes on: each LUN has threads of its own, a few.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

import trio

from vssemu.vss.errors import Fail
from vssemu.vss.identity import LunId

R = TypeVar("R")

ANSWER_SECONDS: Final = 20.0
"""How long a file system in user space may take to answer."""

_THREADS: Final = 2


class Asking:
    """Asks about LUNs."""

    def __init__(self) -> None:
        self._limiters: dict[LunId, trio.CapacityLimiter] = {}

    async def ask(
        self,
        lun: LunId,
        work: Callable[..., R],
        *args: object,
        unwanted: Callable[[R], None] = lambda _: None,
    ) -> R:
        """Return what the work returns, done in a thread.

        unwanted: takes what it returns when nobody waits for it any more. Raises what the work
        raises; Fail when it takes too long.
        """
        outcome = _Outcome(unwanted)
        limiter = self._limiters.setdefault(lun, trio.CapacityLimiter(_THREADS))
        try:
            with trio.move_on_after(ANSWER_SECONDS):
                await trio.to_thread.run_sync(
                    outcome.have, work, *args, limiter=limiter, abandon_on_cancel=True
                )
                return outcome.taken()
            raise Fail(
                f"nothing is to be had of LUN {lun}: who serves its file does not answer",
                item=lun,
                hint="see the log of the array's shards",
            )
        finally:
            outcome.leave()
            if limiter.borrowed_tokens == 0 and limiter.statistics().tasks_waiting == 0:
                self._limiters.pop(lun, None)


class _Outcome(Generic[R]):
    """What work in a thread returned, until it is taken, or nobody waits for it any more."""

    def __init__(self, unwanted: Callable[[R], None]) -> None:
        self._unwanted = unwanted
        self._is_left = False
        self._values: list[R] = []

    def have(self, work: Callable[..., R], *args: object) -> None:
        """Do the work. Raises what it raises."""
        self._values.append(work(*args))
        if self._is_left:
            self._drop()

    def taken(self) -> R:
        """Return what the work returned."""
        return self._values.pop()

    def leave(self) -> None:
        """Say that nobody takes it any more."""
        self._is_left = True
        self._drop()

    def _drop(self) -> None:
        # Both sides may come here at once, and one of them finds it.
        with suppress(IndexError):
            self._unwanted(self._values.pop())
