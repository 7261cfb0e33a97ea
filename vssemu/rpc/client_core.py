"""The client's side of one connection without I/O: both clients are this plus a socket.

A connection answers one call at a time, in order.

    idle --start--> waiting --last reply or error--> idle
                    waiting --abandon--> idle, with one reply to drop when it comes
    anything --closed, or broken by the peer--> the end

A stream cannot be abandoned, for nothing says when it would end: its owner closes.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from vssemu.rpc.errors import (
    BadReply,
    ProtocolViolation,
    RpcBroken,
    RpcBusy,
    RpcClosed,
    standard_error,
)
from vssemu.rpc.interface import Method
from vssemu.rpc.protocol import MAX_MESSAGE, Framer, Message, RawReply, call_message, parse_reply

DecodeError = Callable[[dict[str, Any]], Exception]
"""Makes an exception of the parameters of a service's `Failed`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """A decoded reply. is_end: the empty last reply of a stream, which carries no element."""

    value: Any
    is_last: bool
    is_end: bool = False
    descriptor: int | None = None


class ClientCore:
    """State of a client's connection. Raises the errors of `vssemu.rpc.errors`."""

    def __init__(
        self, *, decode_error: DecodeError | None = None, max_message: int = MAX_MESSAGE
    ) -> None:
        self._framer = Framer(max_message)
        self._limit = max_message
        self._decode_error = decode_error
        self._waiting_for: Method[..., Any] | None = None
        self._stale = 0
        self._end: RpcClosed | RpcBroken | None = None

    def encode(
        self,
        method: Method[..., Any],
        scope: object | None,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        *,
        oneway: bool = False,
    ) -> bytes:
        """Return the bytes of a call. Raises TypeError, ValueError, MessageTooLarge."""
        parameters = method.encode_parameters(scope, arguments, keywords)
        more = method.more and not oneway
        return call_message(
            method.qualified_name, parameters, more=more, oneway=oneway, limit=self._limit
        )

    def check_idle(self) -> None:
        """Raise what stands against a call now: RpcClosed, RpcBroken or RpcBusy."""
        if self._end is not None:
            raise self.why_over()
        if self._waiting_for is not None:
            raise RpcBusy(f"{self._waiting_for.qualified_name} is under way on this connection")

    def start(self, method: Method[..., Any]) -> None:
        """Note that a call of the method is being sent."""
        self.check_idle()
        if self._stale == 0 and not self._framer.is_between_messages:
            # It would be taken for the reply to this call.
            self.finish(RpcBroken("the peer broke the protocol: a reply that nobody waits for"))
            raise self.why_over()
        self._waiting_for = method

    def abandon(self) -> None:
        """Note that nobody waits for the reply any more, if one is due: it will be dropped."""
        if self._waiting_for is not None:
            self._waiting_for = None
            self._stale += 1

    def interrupted(self, sent: int) -> None:
        """Note that sending the call stopped after so many bytes, not all.

        Half a message makes the connection useless; none at all leaves it idle.
        """
        self._waiting_for = None
        if sent:
            self.finish(RpcClosed("a call was interrupted while it was being sent"))

    @property
    def is_waiting(self) -> bool:
        """Whether a reply to the call under way is still to come."""
        return self._waiting_for is not None

    def finish(self, end: RpcClosed | RpcBroken) -> None:
        """Note that the connection is over; the first reason counts."""
        self._end = self._end or end
        self._waiting_for = None
        self._framer.close()

    @property
    def is_over(self) -> bool:
        """Whether the connection was closed or broke."""
        return self._end is not None

    def why_over(self) -> RpcClosed | RpcBroken:
        """Return a new exception that says who ended the connection."""
        assert self._end is not None
        return type(self._end)(*self._end.args)

    def receive_data(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Take what one read brought; descriptors belong to the core from here on."""
        self._framer.receive_data(data, descriptors)

    def end_of_stream(self) -> RpcClosed | RpcBroken:
        """Note that the peer has closed the connection; return the error to raise."""
        where = "" if self._framer.is_between_messages else " in the middle of a message"
        self.finish(RpcBroken(f"the peer closed the connection{where}"))
        return self.why_over()

    def next_reply(self) -> Reply | None:
        """Return the next reply to the call under way, or None when more bytes are needed.

        Raises the service's own error, a ServiceError, BadReply, or RpcBroken (then the
        owner closes the socket).
        """
        if self._end is not None:
            raise self.why_over()
        try:
            while (message := self._framer.next_message()) is not None:
                raw = self._parse(message)
                if self._stale == 0:
                    return self._accept(raw, message.descriptors)
                _close(message.descriptors)
                self._stale -= raw.is_last
        except ProtocolViolation as violation:
            self.finish(RpcBroken(f"the peer broke the protocol: {violation}"))
            raise RpcBroken(f"the peer broke the protocol: {violation}") from violation
        return None

    def _parse(self, message: Message) -> RawReply:
        try:
            return parse_reply(message.data)
        except ProtocolViolation:
            _close(message.descriptors)
            raise

    def _accept(self, raw: RawReply, descriptors: tuple[int, ...]) -> Reply:
        method = self._waiting_for
        last = raw.is_last
        wanted = int(method is not None and method.sends_descriptor and last)
        fits = raw.error is None and len(descriptors) == wanted
        if method is None or not fits:
            _close(descriptors)
            descriptors = ()
        if method is None:
            raise ProtocolViolation("a reply came that nobody waits for")
        if not last and not method.more:
            raise ProtocolViolation(f"{method.qualified_name} was answered with a stream")
        if last:
            self._waiting_for = None
        if raw.error is not None:
            raise self._error(method, raw.error, raw.parameters)
        if not fits:
            raise ProtocolViolation(f"{method.qualified_name} must come with {wanted} descriptors")
        return self._reply(method, raw.parameters, descriptors)

    def _reply(
        self, method: Method[..., Any], parameters: bytes, descriptors: tuple[int, ...]
    ) -> Reply:
        last = self._waiting_for is None
        descriptor = descriptors[0] if descriptors else None
        if method.more and last and parameters == b"{}":
            return Reply(value=None, is_last=True, is_end=True, descriptor=descriptor)
        try:
            value = method.result.decode(parameters)
        except (ValueError, RecursionError) as error:
            _close(descriptors)
            raise BadReply(f"{method.qualified_name}: {error}") from error
        return Reply(value=value, is_last=last, descriptor=descriptor)

    def _error(self, method: Method[..., Any], name: str, parameters: bytes) -> Exception:
        try:
            values = msgspec.json.decode(parameters, type=dict[str, Any])
            if name == f"{method.interface.name}.Failed" and self._decode_error is not None:
                return self._decode_error(values)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadReply(f"{method.qualified_name}, {name}: {error!r}") from error
        return standard_error(name, values)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def refuse_misuse(method: Method[..., Any], *, more: bool, sends_descriptor: bool) -> None:
    """Raise TypeError when a method is called through the wrong function of a client."""
    if method.more != more:
        raise TypeError(f"{method.qualified_name}: use {'call' if more else 'stream'}")
    if method.sends_descriptor != sends_descriptor:
        use = "call" if sends_descriptor else "call_with_descriptor"
        raise TypeError(f"{method.qualified_name}: use {use}")
