"""Threads that devicefs expects to hear of again within a moment."""

from __future__ import annotations

from typing import Final

MOMENT: Final = 1.0
"""Seconds. The kernel repeats a walk that got ESTALE at once; this is for a busy machine."""

_MANY: Final = 1024


class Recent:
    """The threads noted within the last moment. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def note(self, thread: int, now: float) -> None:
        """Expect a thread for a moment."""
        if len(self._until) >= _MANY:
            self._until = {each: until for each, until in self._until.items() if until > now}
        self._until[thread] = now + MOMENT

    def take(self, thread: int, now: float) -> bool:
        """Return whether a thread is expected, and expect it no more."""
        return self._until.pop(thread, now) > now

    def expected(self) -> set[int]:
        """Return the threads that were noted, and did not come yet."""
        return set(self._until)

    def __len__(self) -> int:
        return len(self._until)
