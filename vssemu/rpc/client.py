r"""The blocking client, for scripts, plain tests and threads.

    with connect("/run/vssemu/vss.sock", decode_error=..., timeout=30) as client:
        session = client.call(OPEN)
        client.scoped(session).within(5).call(ADD_TO_SNAPSHOT_SET, "F:\\")
        with client.stream(SUBSCRIBE, writer=identity) as events:
            for event in events: ...

One client is one connection, usable from any thread but by one at a time: a second one gets
RpcBusy instead of waiting for what may be a stream. A call whose time is up leaves the client
usable: its reply is dropped when it comes. A stream left before its end closes the connection.
"""

import contextlib
import dataclasses
import socket
import threading  # noqa: TID251 - a lock alone; no thread is started here
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from vssemu.rpc.ancillary import ANCILLARY_BYTES, RECEIVE_BYTES, RECEIVE_FLAGS, descriptors_in
from vssemu.rpc.client_core import ClientCore, DecodeError, Reply, refuse_misuse
from vssemu.rpc.errors import RpcBroken, RpcBusy, RpcClosed, RpcTimeout
from vssemu.rpc.interface import Method
from vssemu.rpc.protocol import MAX_MESSAGE

P = ParamSpec("P")
R = TypeVar("R")


def connect(
    path: str | Path,
    *,
    decode_error: DecodeError | None = None,
    timeout: float | None = None,
    max_message: int = MAX_MESSAGE,
) -> "Client":
    """Connect to the service that listens on a unix socket.

    decode_error: makes the exception of a `Failed`; without it RemoteError is raised.
    timeout: seconds for connecting, and for each call (or stream element) unless `within`
    says otherwise; None waits for ever. max_message: bytes.
    Raises OSError with the path as filename.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(str(path))
    except OSError as error:
        sock.close()
        raise type(error)(error.errno, error.strerror or str(error), str(path)) from error
    client = Client.over(sock, decode_error=decode_error, max_message=max_message)
    return client.within(timeout)


class _Channel:
    """The socket and the protocol state that all views of one client share."""

    def __init__(self, sock: socket.socket, core: ClientCore) -> None:
        self.core = core
        self._turn = threading.Lock()
        self._sock = sock

    def take_turn(self, what: str) -> None:
        """Become the one user. Raises RpcBusy when there is one."""
        if not self._turn.acquire(blocking=False):
            raise RpcBusy(f"{what}: another call or stream is using this client")

    def end_turn(self) -> None:
        self._turn.release()

    def close(self, reason: RpcClosed | RpcBroken) -> None:
        self.core.finish(reason)
        # Wakes a thread that is waiting in recvmsg; close alone does not.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def send(self, data: bytes, deadline: float | None) -> bool:
        """Send all bytes; False: the peer has hung up, and what it said last is to be read."""
        sent = 0
        try:
            while sent < len(data):
                self._limit(deadline)
                sent += self._sock.send(memoryview(data)[sent:])
        except BrokenPipeError:
            return False
        except BaseException as error:
            self.core.interrupted(sent)
            if self.core.is_over:
                self._sock.close()
            if isinstance(error, TimeoutError):
                raise RpcTimeout("the peer does not take the call") from None
            if isinstance(error, OSError):
                raise self._broken(error) from error
            raise
        return True

    def reply(self, deadline: float | None) -> Reply:
        while True:
            reply = self._decoded()
            if reply is not None:
                return reply
            try:
                self._limit(deadline)
                data, ancillary, flags, _ = self._sock.recvmsg(
                    RECEIVE_BYTES, ANCILLARY_BYTES, RECEIVE_FLAGS
                )
                descriptors = descriptors_in(ancillary, flags)
            except TimeoutError:
                raise RpcTimeout("no reply came in time") from None
            except (OSError, ValueError) as error:
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

    def _limit(self, deadline: float | None) -> None:
        if deadline is None:
            self._sock.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)

    def _broken(self, error: Exception) -> RpcClosed | RpcBroken:
        """Close, and return the error to raise: RpcClosed if this side closed before."""
        self.close(RpcBroken(f"the connection broke: {error}"))
        return self.core.why_over()


@dataclasses.dataclass(frozen=True)
class Client:
    """A connection to a service, or a view of it with a scope or a time limit of its own."""

    _channel: _Channel
    _scope: object | None = None
    _timeout: float | None = None

    @classmethod
    def over(
        cls,
        sock: socket.socket,
        *,
        decode_error: DecodeError | None = None,
        max_message: int = MAX_MESSAGE,
    ) -> "Client":
        """Return a client over a connected stream socket, which it owns from here on."""
        return cls(_Channel(sock, ClientCore(decode_error=decode_error, max_message=max_message)))

    def scoped(self, scope: object) -> "Client":
        """Return this connection with a scope (a session) that scoped methods carry."""
        return dataclasses.replace(self, _scope=scope)

    def within(self, seconds: float | None) -> "Client":
        """Return this connection with a time limit for each call or stream element."""
        return dataclasses.replace(self, _timeout=seconds)

    def call(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method and return its result.

        Raises the service's own error, or an RpcError; TypeError for arguments that do not
        fit, ValueError for a str that UTF-8 cannot express, and then nothing was sent.
        """
        refuse_misuse(method, more=False, sends_descriptor=False)
        result: R = self._exchange(method, args, kwargs).value
        return result

    def call_with_descriptor(
        self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[R, int]:
        """Call a method whose reply carries a descriptor; as `call`.

        The descriptor is close-on-exec and belongs to the caller.
        """
        refuse_misuse(method, more=False, sends_descriptor=True)
        reply = self._exchange(method, args, kwargs)
        assert reply.descriptor is not None
        return reply.value, reply.descriptor

    def send_oneway(self, method: Method[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method without waiting for, or ever learning of, what comes of it."""
        channel = self._channel
        data = channel.core.encode(method, self._scope, args, kwargs, oneway=True)
        channel.take_turn(method.qualified_name)
        try:
            channel.core.check_idle()
            if not channel.send(data, self._deadline()):
                channel.close(RpcBroken("the peer closed the connection"))
                raise channel.core.why_over()
        finally:
            channel.end_turn()

    def stream(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Stream[R]":
        """Return the elements that a `more` method streams; the call is sent at the first."""
        refuse_misuse(method, more=True, sends_descriptor=False)
        data = self._channel.core.encode(method, self._scope, args, kwargs)
        return Stream(self, method, data)

    def _exchange(
        self, method: Method[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Reply:
        channel, deadline = self._channel, self._deadline()
        data = channel.core.encode(method, self._scope, args, kwargs)
        channel.take_turn(method.qualified_name)
        try:
            channel.core.start(method)
            channel.send(data, deadline)
            return channel.reply(deadline)
        finally:
            # Only when the reply did not come: time was up, or a signal's exception passed.
            channel.core.abandon()
            channel.end_turn()

    def _deadline(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    @property
    def is_over(self) -> bool:
        """Whether the connection was closed or has broken."""
        return self._channel.core.is_over

    def close(self) -> None:
        """Close the connection, for all views and threads; the service ends what hangs on it."""
        self._channel.close(RpcClosed("this client was closed"))

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Stream(Iterator[R], Generic[R]):
    """The replies of one `more` call. Use it as a block, or close it.

    After RpcTimeout the next element can be asked for again. Leaving before the end closes
    the connection of the client.
    """

    def __init__(self, client: Client, method: Method[..., R], data: bytes) -> None:
        self._client = client
        self._channel = client._channel
        self._method = method
        self._data: bytes | None = data
        self._done = False

    def __next__(self) -> R:
        """Return the next element. Raises as `Client.call`."""
        if self._done:
            raise StopIteration
        deadline = self._client._deadline()
        if self._data is not None:
            self._start(self._data, deadline)
        try:
            reply = self._channel.reply(deadline)
        except Exception:
            if not self._channel.core.is_waiting:
                self._end()
            raise
        if reply.is_last:
            self._end()
        if reply.is_end:
            raise StopIteration
        value: R = reply.value
        return value

    def close(self) -> None:
        """End the stream; if it was under way, the connection too."""
        if self._data is None and not self._done:
            self._channel.close(RpcClosed("a stream of this client was left before its end"))
            self._end()
        self._done = True

    def _start(self, data: bytes, deadline: float | None) -> None:
        self._channel.take_turn(self._method.qualified_name)
        try:
            self._channel.core.start(self._method)
            self._channel.send(data, deadline)
        except BaseException:
            self._channel.end_turn()
            raise
        self._data = None

    def _end(self) -> None:
        self._done = True
        self._channel.end_turn()

    def __enter__(self) -> "Stream[R]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
