"""From a call that arrived to the messages that answer it, without sockets.

Owns the check that implementations fit their declarations, the order of checks of a call
(authorization first, then parameters), and the border where exceptions become error replies.
"""

import dataclasses
import inspect
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from vssemu import logs
from vssemu.rpc.caller import Caller
from vssemu.rpc.errors import (
    ExpectedMore,
    InterfaceNotFound,
    InvalidParameter,
    MethodNotFound,
    MethodNotImplemented,
    ServiceError,
)
from vssemu.rpc.interface import Interface, Method
from vssemu.rpc.introspection import SERVICE, Introspection, ServiceInfo
from vssemu.rpc.protocol import MAX_MESSAGE, Call, error_message, reply_message

logger = logs.get_logger(__name__)

EncodeError = Callable[[Exception], dict[str, Any] | None]
"""Makes the parameters of `Failed` of an exception; None for one it does not know."""

Authorize = Callable[[Caller], None]
"""Raises what the caller is to be answered when he may not call at all."""


class Send(Protocol):
    """Sends one message; raises PeerGone. The descriptor stays the dispatcher's."""

    def __call__(self, message: bytes, descriptor: int | None = None, /) -> Awaitable[None]:
        """Send."""


class PeerGone(Exception):
    """The peer hung up before its reply was out; the connection ends."""


def unexpected_failure(error: Exception) -> dict[str, Any]:
    """Return the `Failed` of an exception that nobody translated: COM's E_UNEXPECTED."""
    return {
        "hresult": 0x8000FFFF,
        "name": "E_UNEXPECTED",
        "fact": f"an internal error: {type(error).__name__}: {error}",
        "hint": "the service's log has the details",
        "item": None,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Binding:
    method: Method[..., Any]
    function: Callable[..., Awaitable[Any]]
    guarded: bool


class Dispatcher:
    """The interfaces of one service with their implementations.

    Raises TypeError when an implementation lacks a method, or has it with other parameters.
    """

    def __init__(
        self,
        interfaces: Mapping[Interface, object],
        *,
        info: ServiceInfo,
        encode_error: EncodeError,
        authorize: Authorize | None = None,
        unexpected: Callable[[Exception], dict[str, Any]] = unexpected_failure,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self._encode_error = encode_error
        self._authorize = authorize
        self._unexpected = unexpected
        self._limit = max_message
        self._bindings: dict[str, dict[str, _Binding]] = {}
        own: dict[Interface, object] = {SERVICE: Introspection(info, list(interfaces))}
        for interface, implementation in (own | dict(interfaces)).items():
            self._bindings[interface.name] = {
                name: _Binding(
                    method=method,
                    function=_implementation_of(method, implementation),
                    guarded=interface is not SERVICE,
                )
                for name, method in interface.methods.items()
            }

    async def answer(self, call: Call, caller: Caller, send: Send) -> None:
        """Run a call and send its replies. Only PeerGone and cancellation come out."""
        interface_name = call.method.rpartition(".")[0]
        try:
            binding = self._find(call)
            if binding.guarded and self._authorize is not None:
                self._authorize(caller)
            if binding.method.more and not call.more and not call.oneway:
                raise ExpectedMore("")
            arguments = _arguments(binding.method, call.parameters)
            await self._run(binding, arguments, caller, send)
        except PeerGone:
            raise
        except ServiceError as error:
            await send(error_message(error.wire_name, error.to_wire()))
        except Exception as error:  # noqa: BLE001 - the border of the service
            await send(self._failed(interface_name, call.method, caller, error))

    def _find(self, call: Call) -> _Binding:
        interface, _, name = call.method.rpartition(".")
        methods = self._bindings.get(interface)
        if methods is None:
            raise InterfaceNotFound(interface)
        if name not in methods:
            raise MethodNotFound(name)
        if call.upgrade:
            raise MethodNotImplemented(name, "no method upgrades the connection")
        return methods[name]

    async def _run(
        self, binding: _Binding, arguments: dict[str, Any], caller: Caller, send: Send
    ) -> None:
        method = binding.method
        if method.more:

            async def reply(element: Any) -> None:
                await send(self._reply(method, element, continues=True))

            last = await binding.function(caller, reply=reply, **arguments)
            await send(b'{"parameters":{}}\0' if last is None else self._reply(method, last))
        elif method.sends_descriptor:
            value, descriptor = await binding.function(caller, **arguments)
            try:
                await send(self._reply(method, value), descriptor)
            finally:
                os.close(descriptor)
        else:
            await send(self._reply(method, await binding.function(caller, **arguments)))

    def _reply(self, method: Method[..., Any], value: Any, *, continues: bool = False) -> bytes:
        return reply_message(method.result.encode(value), continues=continues, limit=self._limit)

    def _failed(self, interface: str, method: str, caller: Caller, error: Exception) -> bytes:
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        try:
            parameters = self._encode_error(error)
            if parameters is not None:
                return error_message(f"{interface}.Failed", parameters, limit=self._limit)
        except Exception as worse:  # noqa: BLE001 - an error's text that cannot be sent
            error.add_note(f"and it could not be encoded: {worse!r}")
        logger.error("unexpected_exception", method=method, caller=repr(caller), exc_info=error)
        parameters = self._unexpected(error)
        readable = {name: _readable(value) for name, value in parameters.items()}
        return error_message(f"{interface}.Failed", readable, limit=self._limit)


def _readable(value: Any) -> Any:
    """Return a str as UTF-8 can express it, and any other value as it is."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def _arguments(method: Method[..., Any], parameters: bytes) -> dict[str, Any]:
    try:
        return method.decode_parameters(parameters)
    except RecursionError:
        raise InvalidParameter("parameters", "nested too deep") from None
    except ValueError as error:
        text = str(error)
        raise InvalidParameter(_parameter_in(text), _readable(text)) from error


def _parameter_in(text: str) -> str:
    """Return which parameter a message of msgspec is about."""
    path = re.search(r"at `\$\.?(.*)`$", text)
    field = re.search(r"(?:missing required|contains unknown) field `(.*?)`", text)
    return ".".join(found[1] for found in (path, field) if found) or "parameters"


def _implementation_of(
    method: Method[..., Any], implementation: object
) -> Callable[..., Awaitable[Any]]:
    where = f"{type(implementation).__name__}.{method.function_name}"
    function = getattr(implementation, method.function_name, None)
    if function is None:
        raise TypeError(f"{where} is missing; {method.qualified_name} declares it")
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{where} must be an async method")
    found = list(inspect.signature(function).parameters.values())
    if not found or found[0].name != "caller":
        raise TypeError(f"{where}: the first parameter must be `caller`")
    wanted = set(method.annotations) | ({"reply"} if method.more else set())
    names = {parameter.name for parameter in found[1:]}
    if wrong := wanted ^ names:
        missing, more = sorted(wrong & wanted), sorted(wrong & names)
        raise TypeError(f"{where}: parameters missing {missing}, undeclared {more}")
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if bad := [parameter.name for parameter in found[1:] if parameter.kind not in plain]:
        raise TypeError(f"{where}: {bad} cannot be given as keywords")
    result: Callable[..., Awaitable[Any]] = function
    return result
