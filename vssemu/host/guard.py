"""The client's side of holdguard: no hold begins before the watchdog has answered.

A hold without a guard is refused, and one whose guard says that its time is over, or dies,
ends at once.
"""

import array
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from vssemu.vss.errors import HoldWritesTimeout

ARMING_LIMIT: Final = 5.0
"""Seconds; the guard does nothing but take descriptors before it answers."""

RELEASE_LIMIT: Final = 5.0
"""Seconds; the guard thaws what is thawed already."""

_HINT: Final = "holdguard must run outside the host before anything is frozen"


class Guard:
    """An armed guard. It is on watch until `release`, or until its limit has passed."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._over = trio.Event()
        self._said = b""

    async def watch(self, lost: trio.CancelScope) -> None:
        """Cancel `lost` when the guard gives up or dies; return when the watch is over."""
        try:
            while not self._said.endswith(b"\n"):
                data = await self._sock.recv(64)
                if not data:
                    break
                self._said += data
        except (OSError, trio.ClosedResourceError):
            self._said = b""
        finally:
            self._over.set()
        if not self.kept:
            lost.cancel()

    @property
    def kept(self) -> bool:
        """Whether the guard was there, with time left, when it was released."""
        return self._said.startswith(b"released\n")

    async def release(self) -> bool:
        """End the watch; return whether it lasted to this moment."""
        with trio.move_on_after(RELEASE_LIMIT):
            try:
                await self._sock.send(b"release\n")
            except OSError:
                return False
            await self._over.wait()
        return self.kept


@asynccontextmanager
async def armed(path: Path, descriptors: Sequence[int], limit: float) -> AsyncIterator[Guard]:
    """Have the guard watch file systems during the block, for `limit` seconds at most.

    descriptors: O_RDONLY ones of directories. Raises HoldWritesTimeout when no guard answers.
    """
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            with trio.fail_after(ARMING_LIMIT):
                await sock.connect(str(path))
                rights = array.array("i", descriptors).tobytes()
                control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                request = json.dumps({"limit": limit}).encode() + b"\n"
                await sock.sendmsg([request], control)
                answer = await sock.recv(64)
        except (OSError, trio.TooSlowError) as error:
            fact = f"writes cannot be held: no holdguard at {path}: {error}"
            raise HoldWritesTimeout(fact, hint=_HINT, item=str(path)) from error
        if answer != b"armed\n":
            said = answer.decode(errors="replace").strip() or "nothing"
            fact = f"writes cannot be held: holdguard at {path} answered {said!r}"
            raise HoldWritesTimeout(fact, hint=_HINT, item=str(path))
        yield Guard(sock)
