"""What a call can end with, apart from the service's own error.

    RpcError
      RpcClosed            this side closed the client, or it never was connected
      RpcBroken            the peer went away, or broke the protocol; the client is closed now
      RpcBusy              the client is in the middle of another call or stream
      RpcTimeout           the deadline passed; also a TimeoutError
      BadReply             the reply has not the declared shape; the client stays usable
      ServiceError         the peer's dispatcher refused the call; the client stays usable
        InterfaceNotFound, MethodNotFound, MethodNotImplemented, InvalidParameter, ExpectedMore
        RemoteError        an error that nobody here knows how to decode
    ProtocolViolation      the peer broke the framing or the envelope (inside servers)
      MessageTooLarge      also an RpcError: from a client, nothing was sent

The service's own error (`Failed`) is made an exception by the `decode_error` of the client's
owner and is none of these.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

SERVICE = "org.varlink.service"


class RpcError(Exception):
    """A call did not come back with what its method declares."""


class RpcClosed(RpcError):
    """You closed this client, by close() or by leaving its block; connect anew."""


class RpcBroken(RpcError):
    """The peer closed the connection, died, or broke the protocol.

    What the call under way did is unknown. You do not get this after your own close: that
    is RpcClosed.
    """


class RpcBusy(RpcError):
    """The client has one connection, and another call or stream is using it."""


class RpcTimeout(RpcError, TimeoutError):
    """The reply did not come in time. The client stays usable; the late reply is dropped."""


class BadReply(RpcError):
    """The peer's reply, or its error, has not the declared shape."""


class ProtocolViolation(Exception):
    """The peer sent what is no varlink message; its connection ends.

    parameter: what an InvalidParameter answer names.
    """

    parameter: ClassVar[str] = "message"


class MessageTooLarge(ProtocolViolation, RpcError):
    """A message is longer than the limit of the side that reports it.

    From a client it is the call's own: nothing was sent, and the client stays usable.
    """


class ServiceError(RpcError):
    """The dispatcher at the other end refused the call; nothing was done.

    item: the interface, method or parameter in question; reason: why, where the peer says so.
    """

    wire_name: ClassVar[str]
    field: ClassVar[str]

    def __init__(self, item: str, reason: str | None = None) -> None:
        super().__init__(f"{type(self).__name__}: {item}" + (f": {reason}" if reason else ""))
        self.item = item
        self.reason = reason

    def to_wire(self) -> dict[str, Any]:
        """Return the error's parameters as they travel."""
        parameters = {self.field: self.item} if self.field else {}
        return parameters | ({"reason": self.reason} if self.reason else {})


class InterfaceNotFound(ServiceError):
    """The service does not have this interface."""

    wire_name = f"{SERVICE}.InterfaceNotFound"
    field = "interface"


class MethodNotFound(ServiceError):
    """The interface does not have this method."""

    wire_name = f"{SERVICE}.MethodNotFound"
    field = "method"


class MethodNotImplemented(ServiceError):
    """The interface has this method, this service does not."""

    wire_name = f"{SERVICE}.MethodNotImplemented"
    field = "method"


class InvalidParameter(ServiceError):
    """A parameter is missing, unknown or of another type."""

    wire_name = f"{SERVICE}.InvalidParameter"
    field = "parameter"


class ExpectedMore(ServiceError):
    """The method streams its replies and must be called so."""

    wire_name = f"{SERVICE}.ExpectedMore"
    field = ""


class RemoteError(ServiceError):
    """An error of the peer that neither varlink nor this client's owner knows.

    item: its name; parameters: as they came.
    """

    def __init__(self, item: str, parameters: Mapping[str, Any]) -> None:
        super().__init__(item, repr(dict(parameters)))
        self.parameters = dict(parameters)


_STANDARD = (
    InterfaceNotFound,
    MethodNotFound,
    MethodNotImplemented,
    InvalidParameter,
    ExpectedMore,
)


def standard_error(name: str, parameters: Mapping[str, Any]) -> ServiceError:
    """Return the exception for an error that is not the service's own."""
    for cls in _STANDARD:
        if name == cls.wire_name:
            reason = parameters.get("reason")
            item = str(parameters.get(cls.field, "")) if cls.field else ""
            return cls(item, str(reason) if reason else None)
    return RemoteError(name, parameters)
