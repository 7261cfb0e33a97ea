"""Prompts to initiators: what you may see has changed, look again.

A prompt says no more than that; prompts that nobody took yet become one.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import trio

from vssemu.vss.identity import Initiator


class Views:
    """Who watches, by initiator."""

    def __init__(self) -> None:
        self._watchers: defaultdict[Initiator, set[trio.MemorySendChannel[None]]] = defaultdict(
            set
        )

    def changed(self, *initiators: Initiator) -> None:
        """Prompt all who watch for one of these initiators. Never waits."""
        for initiator in initiators:
            for watcher in tuple(self._watchers.get(initiator, ())):
                try:
                    watcher.send_nowait(None)
                except trio.WouldBlock:
                    continue

    @contextmanager
    def watching(self, initiator: Initiator) -> Iterator[AsyncIterator[None]]:
        """Give the prompts for an initiator, the first of them at once.

        So whoever has received one misses no change that comes after.
        """
        send, receive = trio.open_memory_channel[None](1)
        send.send_nowait(None)
        self._watchers[initiator].add(send)
        try:
            yield receive
        finally:
            self._watchers[initiator].discard(send)
            if not self._watchers[initiator]:
                del self._watchers[initiator]
            send.close()
            receive.close()
