"""A host's line to the array: one socket, connected when needed, again after a restart.

Every call made through it must bear being made twice, for a call whose answer was lost with
the connection is repeated once. No call waits for ever, whatever the array does. VssErrors of
the array come out as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import structlog
import trio

from vssemu.api.errors import decode_error
from vssemu.rpc import client_trio
from vssemu.rpc.errors import RpcBroken, RpcTimeout
from vssemu.rpc.interface import Method

P = ParamSpec("P")
R = TypeVar("R")

RESTART_LIMIT: Final = 10.0
"""Seconds that the array may be away, as it is while its supervisor restarts it."""

ANSWER_LIMIT: Final = 30.0
"""Seconds that a call may take in all; the longest, clones of scratch, take a few."""

RETRY_SECONDS: Final = 0.1

_log = structlog.get_logger(__name__)


class ArrayLink:
    """Calls to the service that listens at a path. Close it when done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._client: client_trio.Client | None = None
        self._connecting = trio.Lock()

    async def call(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method.

        Raises VssError, RpcError (RpcTimeout after ANSWER_LIMIT), and OSError when nobody
        listens.
        """
        with self._limited(method.name):
            client = await self.connected()
            try:
                return await client.call(method, *args, **kwargs)
            except RpcBroken as broken:
                _log.warning("array went away", method=method.qualified_name, reason=str(broken))
            return await (await self.connected()).call(method, *args, **kwargs)

    async def call_with_descriptor(
        self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[R, int]:
        """Call a method that answers with a descriptor, which is the caller's; as `call`.

        Over a connection of its own: who serves the file may hang, and that is nothing to wait
        for with what is about others.
        """
        with self._limited(method.name):
            try:
                async with await connect_patiently(self.path) as client:
                    return await client.call_with_descriptor(method, *args, **kwargs)
            except RpcBroken as broken:
                _log.warning("array went away", method=method.qualified_name, reason=str(broken))
            async with await connect_patiently(self.path) as client:
                return await client.call_with_descriptor(method, *args, **kwargs)

    @contextmanager
    def _limited(self, method: str) -> Iterator[None]:
        try:
            with trio.fail_after(ANSWER_LIMIT):
                yield
        except trio.TooSlowError:
            fact = f"{method}: no answer from {self.path} within {ANSWER_LIMIT:g} s"
            raise RpcTimeout(fact) from None

    async def connected(self) -> client_trio.Client:
        """Return the connection, made anew if it broke. Raises OSError after RESTART_LIMIT."""
        async with self._connecting:
            if self._client is None or self._client.is_over:
                self._client = await connect_patiently(self.path)
            return self._client

    async def aclose(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.aclose()


async def connect_patiently(path: Path) -> client_trio.Client:
    """Connect, waiting for a service that is being restarted. Raises OSError."""
    deadline = trio.current_time() + RESTART_LIMIT
    while True:
        try:
            return await client_trio.connect(path, decode_error=decode_error)
        except (ConnectionRefusedError, FileNotFoundError):
            if trio.current_time() >= deadline:
                raise
        await trio.sleep(RETRY_SECONDS)
