"""Locks by name: one operation a LUN, or a set, at a time.

Order, so that nobody waits in a ring: the set's lock before the locks of LUNs; several LUNs
in the order of their ids (`holding` sorts). The journal's own lock is inside all of them.
"""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio


class NamedLocks:
    """A lock for every name; names cost nothing while nobody holds or wants them."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)
        self._wanted: defaultdict[str, int] = defaultdict(int)

    @asynccontextmanager
    async def holding(self, *names: str) -> AsyncIterator[None]:
        """Hold the locks of all these names during the block."""
        wanted = sorted(set(names))
        for name in wanted:
            self._wanted[name] += 1
        try:
            async with AsyncExitStack() as stack:
                for name in wanted:
                    await stack.enter_async_context(self._locks[name])
                yield
        finally:
            for name in wanted:
                self._wanted[name] -= 1
                if not self._wanted[name]:
                    del self._wanted[name], self._locks[name]

    def __len__(self) -> int:
        """Return how many names are held or waited for."""
        return len(self._locks)
