"""The service's copies over its socket, whether or not the service is there just now.

Owns the connections and the patience: while the service restarts the last list stays true,
and a request to surface waits for the service to come back as long as its caller likes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import structlog
import trio

from vssemu.api import device_objects
from vssemu.api.device_objects import CopyList
from vssemu.api.errors import decode_error
from vssemu.rpc.client_trio import Client, connect
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import VssError

RETRY: Final = 0.1
"""Seconds between two attempts to reach a service that is away."""

_log = structlog.get_logger(__name__)


class ServiceCopies:
    """`Copies` of the service that listens at a path.

    A connection answers one call at a time: the list has one of its own, and so has each
    request.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def lists(self) -> AsyncGenerator[CopyList, None]:
        """Yield the service's lists; from the next service's when this one ends."""
        reason = ""
        while True:
            try:
                async with (
                    await self._connect() as client,
                    client.stream(device_objects.watch) as lists,
                ):
                    async for each in lists:
                        reason = ""
                        yield each
            except (OSError, RpcError, VssError) as error:
                if str(error) != reason:
                    _log.warning("the service is away", reason=str(error))
                reason = str(error)
            await trio.sleep(RETRY)

    async def surface(self, number: int) -> None:
        """Have a tree mounted; wait for the service while it is away. Raises VssError."""
        while True:
            try:
                async with await self._connect() as client:
                    await client.call(device_objects.surface, number)
                    return
            except (OSError, RpcError) as error:
                _log.debug("the service is away", reason=str(error))
            await trio.sleep(RETRY)

    async def settled(self, revision: int) -> None:
        """Confirm a list. To a service that went away it is all the same."""
        try:
            async with await self._connect() as client:
                await client.call(device_objects.settled, revision)
        except (OSError, RpcError, VssError) as error:
            _log.warning("list not confirmed", revision=revision, reason=str(error))

    async def _connect(self) -> Client:
        return await connect(self._socket, decode_error=decode_error)
