"""Fault points at the array's border: before what a host or the administrator asked, and after.

A point `NAME` comes before the call of that name, `NAME.after` when the work is done and only
the answer is not out yet.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from vssemu.faults import POINTS, FaultPoints


class Pointed:
    """An interface's implementation whose calls have fault points, where the table says so."""

    def __init__(self, implementation: object, faults: FaultPoints) -> None:
        self._implementation = implementation
        self._faults = faults

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Return a method of the implementation, between its points."""
        method: Callable[..., Awaitable[Any]] = getattr(self._implementation, name)
        if name not in POINTS["array"]:
            return method

        @wraps(method)
        async def between_points(*arguments: Any, **named: Any) -> Any:
            await self._faults.reach(name)
            result = await method(*arguments, **named)
            await self._faults.reach(f"{name}.after")
            return result

        return between_points
