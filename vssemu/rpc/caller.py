"""Who is calling: the peer of one connection, as implementations see it."""

import uuid
from collections.abc import Awaitable, Callable

import trio

from vssemu import logs
from vssemu.linux.credentials import PeerCredentials
from vssemu.rpc.errors import RpcClosed

logger = logs.get_logger(__name__)

OnClose = Callable[[], Awaitable[object]]


class Caller:
    """The peer of one connection; all calls of that connection get the same object.

    credentials: of the process that connected, as the kernel vouches for them;
    connection_id: unique, never used again; closed: set as soon as the peer has gone, also
    while a call of it runs, and when the connection ends for any other reason.
    """

    def __init__(self, credentials: PeerCredentials) -> None:
        self.credentials = credentials
        self.connection_id = uuid.uuid4().hex
        self.closed = trio.Event()
        self._callbacks: list[OnClose] | None = []

    def on_close(self, callback: OnClose) -> None:
        """Have an async function run when the connection has ended.

        The last registered runs first; each has the server's time limit to itself. What they
        raise is logged. Raises RpcClosed when they have begun to run.
        """
        if self._callbacks is None:
            raise RpcClosed(f"connection {self.connection_id} has ended")
        self._callbacks.append(callback)

    async def run_callbacks(self, seconds: float) -> None:
        """Run what on_close collected, once and shielded; for the server alone."""
        callbacks, self._callbacks = self._callbacks or [], None
        for callback in reversed(callbacks):
            with trio.CancelScope(shield=True, deadline=trio.current_time() + seconds) as scope:
                try:
                    await callback()
                except Exception:
                    logger.exception("on_close_failed", connection=self.connection_id)
            if scope.cancelled_caught:
                logger.error("on_close_timed_out", connection=self.connection_id, seconds=seconds)

    def __repr__(self) -> str:
        return f"<Caller {self.connection_id[:8]} {self.credentials}>"
