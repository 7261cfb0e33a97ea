"""Waiting for a condition with a deadline, in programs that have no event loop."""

import time
from collections.abc import Callable

_POLL_SECONDS = 0.02


def until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Return True as soon as the condition holds, False when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
