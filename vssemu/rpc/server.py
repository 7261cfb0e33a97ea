"""A varlink service on a unix socket, for trio.

One task serves a connection, one call at a time and in order. A second one watches for the
peer's death: its call is then cancelled at once, whatever it is doing, and `Caller.closed` is
set. Only a peer that has closed both directions counts as gone, so one that shut down its
sending side still gets its replies. Oneway calls run to their end, for their peer may leave at
once. Bytes are read only when no call runs: the kernel's buffer holds back a flood.
Descriptors that clients send are dropped by the kernel, for nothing here asks for them.
"""

import contextlib
import select
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import trio

from vssemu import logs
from vssemu.linux.credentials import peer_credentials
from vssemu.rpc.ancillary import RECEIVE_BYTES, with_descriptor
from vssemu.rpc.caller import Caller
from vssemu.rpc.dispatch import Authorize, Dispatcher, EncodeError, PeerGone, unexpected_failure
from vssemu.rpc.errors import InvalidParameter, ProtocolViolation
from vssemu.rpc.interface import Interface
from vssemu.rpc.introspection import ServiceInfo
from vssemu.rpc.listening import identity_of, listen_unix, remove_name
from vssemu.rpc.protocol import MAX_MESSAGE, Framer, error_message, parse_call

logger = logs.get_logger(__name__)

CLOSE_SECONDS = 30.0
"""How long each on_close callback may take; a hold is over after 10 s, a thaw is quick."""

GOODBYE_SECONDS = 1.0
"""How long a peer that broke the protocol may take to accept the answer that says so."""

CONNECTIONS_PER_USER = 256


async def serve_unix(
    where: str | Path | socket.socket,
    interfaces: Mapping[Interface, object],
    *,
    vendor: str,
    product: str,
    version: str,
    url: str,
    encode_error: EncodeError,
    authorize: Authorize | None = None,
    unexpected: Callable[[Exception], dict[str, Any]] = unexpected_failure,
    mode: int = 0o666,
    max_message: int = MAX_MESSAGE,
    connections_per_user: int = CONNECTIONS_PER_USER,
    close_seconds: float = CLOSE_SECONDS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve interfaces until cancelled; started when connections are accepted.

    where: a path, whose socket file gets `mode` and is removed at the end, or a listening
    socket, which is closed at the end.
    interfaces: each with an object whose async methods have the declared function names; their
    first parameter is `caller: Caller`, a scope comes as keyword, and `more` methods get the
    async function `reply`, to be called with each element, as keyword. A `sends_descriptor`
    method returns (result, descriptor), and the descriptor is the server's from there.
    encode_error: the parameters of `Failed` for an exception; for those it answers None to,
    the traceback is logged and `unexpected` is asked.
    authorize: called before every call of ours, raises what the caller is answered.
    Raises TypeError, before anything listens, when an implementation does not fit; OSError.
    """
    dispatcher = Dispatcher(
        interfaces,
        info=ServiceInfo(vendor=vendor, product=product, version=version, url=url),
        encode_error=encode_error,
        authorize=authorize,
        unexpected=unexpected,
        max_message=max_message,
    )
    users: Counter[int] = Counter()

    async def serve(stream: trio.SocketStream) -> None:
        with _seat(users, stream, connections_per_user) as caller:
            if caller is not None:
                connection = _Connection(stream.socket, caller, dispatcher, max_message)
                await connection.run(close_seconds)

    with _listening(where, mode) as sock:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, serve, [listener])
            task_status.started()


@contextlib.contextmanager
def _listening(where: str | Path | socket.socket, mode: int) -> Iterator[socket.socket]:
    if isinstance(where, socket.socket):
        with where:
            yield where
        return
    with listen_unix(where, mode=mode) as sock:
        identity = identity_of(where)
        try:
            yield sock
        finally:
            remove_name(where, identity)


@contextlib.contextmanager
def _seat(users: Counter[int], stream: trio.SocketStream, limit: int) -> Iterator[Caller | None]:
    """Give the caller of a new connection, or None when his user has enough of them."""
    with stream.socket as sock:
        try:
            # trio's sockets have the methods of the standard ones and are no subclass.
            caller = Caller(peer_credentials(cast("socket.socket", sock)))
        except OSError as error:
            logger.warning("no_peer_credentials", error=str(error))
            yield None
            return
        uid = caller.credentials.uid
        if users[uid] >= limit:
            logger.warning("too_many_connections", uid=uid, limit=limit)
            yield None
            return
        users[uid] += 1
        try:
            yield caller
        finally:
            users[uid] -= 1


class _Connection:
    """One connection, from its first byte to its callbacks."""

    def __init__(
        self,
        sock: trio.socket.SocketType,
        caller: Caller,
        dispatcher: Dispatcher,
        max_message: int,
    ) -> None:
        self._sock = sock
        self._caller = caller
        self._dispatcher = dispatcher
        self._framer = Framer(max_message)
        self._sending = trio.Lock()
        self._torn = False
        self._call_scope: trio.CancelScope | None = None

    async def run(self, close_seconds: float) -> None:
        """Serve until the peer is gone or breaks the protocol; raises nothing."""
        try:
            async with self._watch_for_hangup():
                await self._converse()
        except Exception:
            logger.exception("connection_failed", caller=repr(self._caller))
        finally:
            self._caller.closed.set()
            self._sock.close()
            await self._caller.run_callbacks(close_seconds)

    @contextlib.asynccontextmanager
    async def _watch_for_hangup(self) -> AsyncIterator[None]:
        with select.epoll() as poll:
            # No event asked for: EPOLLHUP comes unasked, and bytes that wait do not hide it.
            poll.register(self._sock.fileno(), 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._notice_hangup, poll)
                yield
                nursery.cancel_scope.cancel()

    async def _notice_hangup(self, poll: select.epoll) -> None:
        await trio.lowlevel.wait_readable(poll.fileno())
        self._caller.closed.set()
        if self._call_scope is not None:
            self._call_scope.cancel()

    async def _converse(self) -> None:
        try:
            while data := await self._receive():
                self._framer.receive_data(data)
                await self._answer_what_is_here()
        except ProtocolViolation as violation:
            logger.warning("bad_input", caller=repr(self._caller), error=str(violation))
            answer = InvalidParameter(violation.parameter, str(violation))
            with trio.move_on_after(GOODBYE_SECONDS), contextlib.suppress(PeerGone):
                await self._send(error_message(answer.wire_name, answer.to_wire()))
        except PeerGone:
            logger.debug("peer_gone", caller=repr(self._caller))

    async def _answer_what_is_here(self) -> None:
        """Answer all calls that have come in whole."""
        while (message := self._framer.next_message()) is not None:
            call = parse_call(message.data)
            if call.oneway:
                await self._dispatcher.answer(call, self._caller, _send_nothing)
            elif not self._caller.closed.is_set():
                with trio.CancelScope() as self._call_scope:
                    await self._dispatcher.answer(call, self._caller, self._send)
                self._call_scope = None

    async def _receive(self) -> bytes:
        try:
            return await self._sock.recv(RECEIVE_BYTES)
        except ConnectionError:
            return b""

    async def _send(self, message: bytes, descriptor: int | None = None) -> None:
        """Send one message whole, the descriptor with its first byte. Raises PeerGone."""
        async with self._sending:
            if self._torn:
                raise PeerGone
            self._torn = True
            sent = 0
            try:
                while sent < len(message):
                    rest = memoryview(message)[sent:]
                    ancillary = with_descriptor(None if sent else descriptor)
                    sent += await self._sock.sendmsg([rest], ancillary)
            except OSError as error:
                raise PeerGone from error
            finally:
                # Half a message followed by another would be taken for one.
                self._torn = 0 < sent < len(message)


async def _send_nothing(message: bytes, descriptor: int | None = None) -> None:
    """Stand for `send` where the caller wants no reply."""
    await trio.lowlevel.checkpoint()
