r"""The client for trio programs.

    async with await connect("/run/vssemu/vss.sock", decode_error=...) as client:
        session = await client.call(OPEN)
        await client.scoped(session).call(ADD_TO_SNAPSHOT_SET, "F:\\")
        async with client.stream(SUBSCRIBE, writer=identity) as events:
            async for event in events: ...

One client is one connection. Calls from several tasks queue. A cancelled call leaves the
client usable: its reply is dropped when it comes, though the service goes on working on it and
the next call waits for that; who wants the service to stop closes. A stream left before its
end closes the connection, for nothing else ends it.
Time limits are the caller's cancel scopes.
"""

import dataclasses
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

import trio

from vssemu.rpc.ancillary import ANCILLARY_BYTES, RECEIVE_BYTES, RECEIVE_FLAGS, descriptors_in
from vssemu.rpc.client_core import ClientCore, DecodeError, Reply, refuse_misuse
from vssemu.rpc.errors import RpcBroken, RpcClosed
from vssemu.rpc.interface import Method
from vssemu.rpc.protocol import MAX_MESSAGE

P = ParamSpec("P")
R = TypeVar("R")


async def connect(
    path: str | Path, *, decode_error: DecodeError | None = None, max_message: int = MAX_MESSAGE
) -> "Client":
    """Connect to the service that listens on a unix socket.

    decode_error: makes the exception of a `Failed`; without it RemoteError is raised.
    max_message: bytes. Raises OSError with the path as filename.
    """
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await sock.connect(str(path))
    except OSError as error:
        sock.close()
        raise type(error)(error.errno, error.strerror or str(error), str(path)) from error
    except BaseException:
        sock.close()
        raise
    return Client.over(sock, decode_error=decode_error, max_message=max_message)


class _Channel:
    """The socket and the protocol state that all views of one client share."""

    def __init__(self, sock: trio.socket.SocketType, core: ClientCore) -> None:
        self.core = core
        self.turn = trio.Lock()
        self._sock = sock

    def close(self, reason: RpcClosed | RpcBroken) -> None:
        self.core.finish(reason)
        self._sock.close()

    async def send(self, data: bytes) -> bool:
        """Send all bytes; False: the peer has hung up, and what it said last is to be read."""
        sent = 0
        try:
            while sent < len(data):
                sent += await self._sock.send(memoryview(data)[sent:])
        except BrokenPipeError:
            return False
        except BaseException as error:
            self.core.interrupted(sent)
            if self.core.is_over:
                self._sock.close()
            if isinstance(error, OSError | trio.ClosedResourceError):
                raise self._broken(error) from error
            raise
        return True

    async def reply(self) -> Reply:
        while True:
            reply = self._decoded()
            if reply is not None:
                return reply
            try:
                data, ancillary, flags, _ = await self._sock.recvmsg(
                    RECEIVE_BYTES, ANCILLARY_BYTES, RECEIVE_FLAGS
                )
                descriptors = descriptors_in(ancillary, flags)
            except (OSError, ValueError, trio.ClosedResourceError) as error:
                raise self._broken(error) from error
            if not data:
                end = self.core.end_of_stream()
                self._sock.close()
                raise end
            self.core.receive_data(data, descriptors)

    def _decoded(self) -> Reply | None:
        try:
            return self.core.next_reply()
        finally:
            if self.core.is_over:
                self._sock.close()

    def _broken(self, error: Exception) -> RpcClosed | RpcBroken:
        """Close, and return the error to raise: RpcClosed if this side closed before."""
        self.close(RpcBroken(f"the connection broke: {error}"))
        return self.core.why_over()


@dataclasses.dataclass(frozen=True)
class Client:
    """A connection to a service, or a view of it that adds the scope to scoped methods."""

    _channel: _Channel
    _scope: object | None = None

    @classmethod
    def over(
        cls,
        sock: trio.socket.SocketType,
        *,
        decode_error: DecodeError | None = None,
        max_message: int = MAX_MESSAGE,
    ) -> "Client":
        """Return a client over a connected stream socket, which it owns from here on."""
        return cls(_Channel(sock, ClientCore(decode_error=decode_error, max_message=max_message)))

    def scoped(self, scope: object) -> "Client":
        """Return this connection with a scope (a session) that scoped methods carry."""
        return Client(self._channel, scope)

    async def call(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method and return its result.

        Raises the service's own error, or an RpcError; TypeError for arguments that do not
        fit, ValueError for a str that UTF-8 cannot express, and then nothing was sent.
        """
        refuse_misuse(method, more=False, sends_descriptor=False)
        result: R = (await self._exchange(method, args, kwargs)).value
        return result

    async def call_with_descriptor(
        self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[R, int]:
        """Call a method whose reply carries a descriptor; as `call`.

        The descriptor is close-on-exec and belongs to the caller.
        """
        refuse_misuse(method, more=False, sends_descriptor=True)
        reply = await self._exchange(method, args, kwargs)
        assert reply.descriptor is not None
        return reply.value, reply.descriptor

    async def send_oneway(
        self, method: Method[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call a method without waiting for, or ever learning of, what comes of it."""
        channel = self._channel
        data = channel.core.encode(method, self._scope, args, kwargs, oneway=True)
        async with channel.turn:
            channel.core.check_idle()
            if not await channel.send(data):
                channel.close(RpcBroken("the peer closed the connection"))
                raise channel.core.why_over()

    def stream(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Stream[R]":
        """Return the elements that a `more` method streams; the call is sent at the first."""
        refuse_misuse(method, more=True, sends_descriptor=False)
        data = self._channel.core.encode(method, self._scope, args, kwargs)
        return Stream(self._channel, method, data)

    async def _exchange(
        self, method: Method[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Reply:
        channel = self._channel
        data = channel.core.encode(method, self._scope, args, kwargs)
        async with channel.turn:
            await _start(channel, method, data)
            try:
                return await channel.reply()
            except trio.Cancelled:
                channel.core.abandon()
                raise

    @property
    def is_over(self) -> bool:
        """Whether the connection was closed or has broken."""
        return self._channel.core.is_over

    async def aclose(self) -> None:
        """Close the connection, for all views; the service ends what hangs on it."""
        self._channel.close(RpcClosed("this client was closed"))
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class Stream(AsyncIterator[R], Generic[R]):
    """The replies of one `more` call. Use it as a block, or close it.

    Cancelling the wait for an element loses none. Leaving before the end closes the
    connection of the client.
    """

    def __init__(self, channel: _Channel, method: Method[..., R], data: bytes) -> None:
        self._channel = channel
        self._method = method
        self._data: bytes | None = data
        self._done = False

    async def __anext__(self) -> R:
        """Return the next element. Raises as `Client.call`."""
        if self._done:
            raise StopAsyncIteration
        if self._data is not None:
            async with self._channel.turn:
                data, self._data = self._data, None
                await _start(self._channel, self._method, data)
        try:
            reply = await self._channel.reply()
        except Exception:
            self._done = not self._channel.core.is_waiting
            raise
        self._done = reply.is_last
        if reply.is_end:
            raise StopAsyncIteration
        value: R = reply.value
        return value

    async def aclose(self) -> None:
        """End the stream; if it was under way, the connection too."""
        if self._data is None and not self._done:
            self._channel.close(RpcClosed("a stream of this client was left before its end"))
        self._done = True
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> "Stream[R]":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


async def _start(channel: _Channel, method: Method[..., Any], data: bytes) -> None:
    channel.core.start(method)
    await channel.send(data)
