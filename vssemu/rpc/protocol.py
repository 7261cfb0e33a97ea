"""Varlink messages without any I/O: framing and envelopes.

A message is a JSON object ended by one NUL byte.

    call    {"method": "a.b.Method", "parameters": {...}, "more"?: true, "oneway"?: true}
    reply   {"parameters": {...}, "continues"?: true}
    error   {"error": "a.b.Name", "parameters": {...}}

Everything that arrives is foreign: whatever is wrong with it becomes a ProtocolViolation, and
never an exception of the JSON library. Descriptors given to a Framer belong to it until a
message takes them.
Source: https://varlink.org/Method-Call
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vssemu.rpc.errors import MessageTooLarge, ProtocolViolation

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of the longest message, without its NUL."""

MAX_DESCRIPTORS = 4
"""Descriptors that one message may carry before the peer counts as hostile."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """One message: its JSON, and the descriptors that came with it, now owned by the taker."""

    data: bytes
    descriptors: tuple[int, ...] = ()


class Framer:
    """Cuts a byte stream into messages, however the bytes were split on their way.

    limit: bytes of the longest message; discard: how descriptors that nobody takes are closed.

    Linux delivers descriptors with the bytes they were sent with and ends that read after
    them, so they belong to the message that contains the last byte of their chunk.
    """

    def __init__(
        self, limit: int = MAX_MESSAGE, *, discard: Callable[[int], None] = os.close
    ) -> None:
        self._limit = limit
        self._discard = discard
        self._buffer = bytearray()
        self._searched = 0
        self._base = 0  # position of buffer[0] in the whole stream
        self._descriptors: list[tuple[int, int]] = []  # position in the stream, descriptor

    def receive_data(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Take the bytes (at least one) and the descriptors of one read."""
        self._buffer += data
        last = self._base + len(self._buffer) - 1
        self._descriptors += [(last, descriptor) for descriptor in descriptors]

    def next_message(self) -> Message | None:
        """Return the next whole message, or None when more bytes are needed.

        Raises MessageTooLarge or ProtocolViolation; the stream is of no use then.
        """
        end = self._buffer.find(b"\0", self._searched)
        if (len(self._buffer) if end < 0 else end) > self._limit:
            raise MessageTooLarge(f"the message is longer than {self._limit} bytes")
        if end < 0:
            self._searched = len(self._buffer)
            return None
        data = bytes(memoryview(self._buffer)[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        self._base += end + 1
        mine = [number for position, number in self._descriptors if position < self._base]
        self._descriptors = self._descriptors[len(mine) :]
        if len(mine) > MAX_DESCRIPTORS:
            self._close_all(mine)
            raise ProtocolViolation(f"{len(mine)} descriptors came with one message")
        return Message(data=data, descriptors=tuple(mine))

    @property
    def is_between_messages(self) -> bool:
        """Whether the stream may end here without cutting a message."""
        return not self._buffer

    def close(self) -> None:
        """Close the descriptors that no message has taken."""
        waiting, self._descriptors = self._descriptors, []
        self._close_all([number for _, number in waiting])

    def _close_all(self, descriptors: Sequence[int]) -> None:
        for descriptor in descriptors:
            self._discard(descriptor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """A call as it arrived: the qualified method name, its parameters as JSON, the flags."""

    method: str
    parameters: bytes
    more: bool
    oneway: bool
    upgrade: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawReply:
    """A reply as it arrived: its parameters as JSON; error: the name of an error reply."""

    parameters: bytes
    continues: bool
    error: str | None

    @property
    def is_last(self) -> bool:
        """Whether no other reply to the same call follows."""
        return self.error is not None or not self.continues


class _CallEnvelope(msgspec.Struct):
    method: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    more: bool | None = None
    oneway: bool | None = None
    upgrade: bool | None = None


class _ReplyEnvelope(msgspec.Struct):
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    continues: bool | None = None
    error: str | None = None


_decode_call = msgspec.json.Decoder(_CallEnvelope).decode
_decode_reply = msgspec.json.Decoder(_ReplyEnvelope).decode


def parse_call(data: bytes) -> Call:
    """Return the call in a message. Raises ProtocolViolation when it is none."""
    try:
        envelope = _decode_call(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"this is no varlink call: {error}") from error
    return Call(
        method=envelope.method,
        parameters=_object(envelope.parameters),
        more=bool(envelope.more),
        oneway=bool(envelope.oneway),
        upgrade=bool(envelope.upgrade),
    )


def parse_reply(data: bytes) -> RawReply:
    """Return the reply in a message. Raises ProtocolViolation when it is none."""
    try:
        envelope = _decode_reply(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"this is no varlink reply: {error}") from error
    return RawReply(
        parameters=_object(envelope.parameters),
        continues=bool(envelope.continues),
        error=envelope.error,
    )


def call_message(
    method: str,
    parameters: bytes,
    *,
    more: bool = False,
    oneway: bool = False,
    limit: int = MAX_MESSAGE,
) -> bytes:
    """Return a call as the bytes to send. Raises MessageTooLarge."""
    flags = (b',"more":true' if more else b"") + (b',"oneway":true' if oneway else b"")
    name = msgspec.json.encode(method)
    return _framed(b'{"method":%b,"parameters":%b%b}' % (name, parameters, flags), limit)


def reply_message(
    parameters: bytes, *, continues: bool = False, limit: int = MAX_MESSAGE
) -> bytes:
    """Return a reply as the bytes to send. Raises MessageTooLarge."""
    flag = b',"continues":true' if continues else b""
    return _framed(b'{"parameters":%b%b}' % (parameters, flag), limit)


def error_message(name: str, parameters: Any, *, limit: int = MAX_MESSAGE) -> bytes:
    """Return an error reply as the bytes to send.

    parameters: a JSON-able dict. Raises MessageTooLarge, TypeError or ValueError.
    """
    return _framed(msgspec.json.encode({"error": name, "parameters": parameters}), limit)


def _object(raw: msgspec.Raw) -> bytes:
    parameters = bytes(raw)
    return b"{}" if parameters == b"null" else parameters


def _framed(payload: bytes, limit: int) -> bytes:
    if len(payload) > limit:
        raise MessageTooLarge(f"the message has {len(payload)} bytes, {limit} are allowed")
    return payload + b"\0"
