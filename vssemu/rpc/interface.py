"""Declarations: an interface is written once, as typed Python function stubs.

    SESSIONS = Interface("org.example.Sessions", "What it is for.", scope=("session", str))

    @SESSIONS.method(returns="snapshot_id")
    def add_to_snapshot_set(volume: str, provider: ProviderId | None = None) -> SnapshotId:
        \"\"\"Say what it does; this becomes the comment in the .varlink text.\"\"\"
        raise Declared

`add_to_snapshot_set` is then a `Method[[str, ProviderId | None], SnapshotId]`: clients pass it
to `call`, servers find the implementation by its function name. Declarations hold no state
and do no I/O. What can go wrong with a declaration raises TypeError when it is imported.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

import msgspec

from vssemu.rpc.wiretypes import MEMBER_NAME, TypeTable, check_field_name, is_nullable

P = ParamSpec("P")
R = TypeVar("R")

RESERVED = frozenset({"self", "caller", "reply"})
"""Parameter names that implementations receive from the server itself."""


class Declared(AssertionError):
    """The body of every stub: `raise Declared`. A stub is never run."""


_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Result(Generic[R]):
    """The shape of a reply: one named field, a flattened dataclass, or nothing.

    annotation: the declared return type; field: the name of the single reply field, None
    when the record's own fields are the reply; record: what the JSON object is decoded as.
    """

    annotation: Any
    field: str | None
    record: type | None

    def encode(self, value: R) -> bytes:
        """Return the reply parameters as JSON. Raises ValueError or TypeError if it has none."""
        if self.record is None:
            return b"{}"
        return msgspec.json.encode(value if self.field is None else self.record(value))

    def decode(self, parameters: bytes) -> R:
        """Return the value of reply parameters.

        Raises msgspec.ValidationError, or another ValueError, when they have another shape.
        """
        if self.record is None:
            msgspec.json.decode(parameters, type=dict[str, msgspec.Raw])
            return typing.cast("R", None)
        record: Any = msgspec.json.decode(parameters, type=self.record)
        return typing.cast("R", record if self.field is None else getattr(record, self.field))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Method(Generic[P, R]):
    """One declared method. `P` are the stub's parameters, `R` its result (or stream element).

    name: on the wire; function_name: in Python; parameters: the struct that is on the wire,
    scope first; defaults: parameters that a caller may leave out or send as null, with the
    value they then have; more: replies stream; operation: asynchronous in VSS, the reply is an
    operation id; scoped: carries the interface's scope; sends_descriptor: the last reply
    carries exactly one descriptor.
    """

    interface: "Interface"
    name: str
    function_name: str
    doc: str
    signature: inspect.Signature
    annotations: Mapping[str, Any]
    parameters: type[msgspec.Struct]
    defaults: Mapping[str, Any]
    result: Result[R]
    more: bool
    operation: bool
    scoped: bool
    sends_descriptor: bool

    @property
    def qualified_name(self) -> str:
        """Return the name that a call message carries: interface, dot, method."""
        return f"{self.interface.name}.{self.name}"

    def encode_parameters(
        self, scope: object | None, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> bytes:
        """Return the call parameters as JSON.

        Raises TypeError when the arguments do not fit the stub, or when the method is scoped
        and scope is None; ValueError for a str that UTF-8 cannot express.
        """
        bound = self.signature.bind(*arguments, **keywords)
        values = dict(bound.arguments)
        if self.scoped:
            assert self.interface.scope is not None
            if scope is None:
                raise TypeError(
                    f"{self.qualified_name} needs a {self.interface.scope[0]}: call it through "
                    "client.scoped(...)"
                )
            values[self.interface.scope[0]] = scope
        return msgspec.json.encode(self.parameters(**values))

    def decode_parameters(self, parameters: bytes) -> dict[str, Any]:
        """Return the keyword arguments that call parameters stand for, scope included.

        Raises msgspec.ValidationError, or another ValueError, when they have another shape;
        RecursionError when they are nested too deep.
        """
        record = msgspec.json.decode(parameters, type=self.parameters)
        values = {name: getattr(record, name) for name in self.parameters.__struct_fields__}
        for name, default in self.defaults.items():
            if values[name] is None:
                values[name] = default
        return values

    def __repr__(self) -> str:
        return f"<Method {self.qualified_name}>"


class Interface:
    """A named set of methods.

    name: reverse domain, as varlink has it; doc: becomes the comment at the top;
    scope: name and type of a first parameter that all (or some) methods carry and that
    clients add by themselves, such as the session that a call belongs to.
    """

    def __init__(self, name: str, doc: str, *, scope: tuple[str, type] | None = None) -> None:
        self.name = name
        self.doc = inspect.cleandoc(doc)
        self.scope = scope
        self.methods: dict[str, Method[..., Any]] = {}
        self.types = TypeTable()
        if scope is not None:
            check_field_name(scope[0], name)
            self.types.text(scope[1], f"{name}, scope")

    @overload
    def method(
        self,
        *,
        operation: Literal[True],
        scoped: bool | None = None,
        name: str | None = None,
    ) -> Callable[[Callable[P, Any]], Method[P, str]]: ...

    @overload
    def method(
        self,
        *,
        returns: str | None = None,
        more: bool = False,
        operation: Literal[False] = False,
        scoped: bool | None = None,
        sends_descriptor: bool = False,
        name: str | None = None,
    ) -> Callable[[Callable[P, R]], Method[P, R]]: ...

    def method(
        self,
        *,
        returns: str | None = None,
        more: bool = False,
        operation: bool = False,
        scoped: bool | None = None,
        sends_descriptor: bool = False,
        name: str | None = None,
    ) -> Callable[[Callable[P, Any]], Method[P, Any]]:
        """Declare the decorated stub as a method of this interface.

        returns: the name of the single reply field. Without it a dataclass result is
        flattened into reply fields and None makes an empty reply.
        more: the result annotation is the type of one element of a stream; None makes a
        stream of bare prompts.
        operation: whatever the stub says, the result is a str, the operation id, in the
        reply field `operation`.
        scoped: whether the interface's scope is carried; default: if there is one.
        name: on the wire, where CamelCase of the function's name is not it.
        Raises TypeError for whatever varlink or this room cannot carry.
        """
        if scoped and self.scope is None:
            raise TypeError(f"{self.name} has no scope")
        if more and (operation or sends_descriptor):
            raise TypeError(f"{self.name}: a stream is no operation and carries no descriptor")

        def declare(stub: Callable[P, Any]) -> Method[P, Any]:
            wire_name = name or camel_case(stub.__name__)
            where = f"{self.name}.{wire_name}"
            if not MEMBER_NAME.match(wire_name) or wire_name in self.methods:
                raise TypeError(f"{where}: the name is taken, or is not CamelCase")
            carries_scope = self.scope is not None and scoped is not False
            hints = typing.get_type_hints(stub, include_extras=True)
            signature = inspect.signature(stub)
            annotations = self._annotations(signature, hints, carries_scope, where)
            parameters, defaults = _parameters(wire_name, signature, annotations, where)
            field = "operation" if operation else returns
            if operation:
                hints["return"] = str
            method: Method[P, Any] = Method(
                interface=self,
                name=wire_name,
                function_name=stub.__name__,
                doc=inspect.getdoc(stub) or "",
                signature=signature,
                annotations=annotations,
                parameters=parameters,
                defaults=defaults,
                result=_result(self.types, hints, field, where),
                more=more,
                operation=operation,
                scoped=carries_scope,
                sends_descriptor=sends_descriptor,
            )
            self.methods[wire_name] = method
            return method

        return declare

    def _annotations(
        self, signature: inspect.Signature, hints: Mapping[str, Any], scoped: bool, where: str
    ) -> dict[str, Any]:
        annotations: dict[str, Any] = {}
        if scoped and self.scope is not None:
            annotations[self.scope[0]] = self.scope[1]
        for name, parameter in signature.parameters.items():
            if name in RESERVED or name in annotations:
                raise TypeError(f"{where}: the parameter name {name} is reserved")
            if parameter.kind not in _KINDS or name not in hints:
                raise TypeError(f"{where}: {name} must be annotated, and usable as a keyword")
            check_field_name(name, where)
            self.types.text(hints[name], f"{where}({name})")
            annotations[name] = hints[name]
        return annotations

    def __repr__(self) -> str:
        return f"<Interface {self.name}>"


def camel_case(name: str) -> str:
    """Return add_to_snapshot_set as AddToSnapshotSet."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _parameters(
    name: str, signature: inspect.Signature, annotations: Mapping[str, Any], where: str
) -> tuple[type[msgspec.Struct], dict[str, Any]]:
    """Return the struct of the call parameters, and the defaults that null stands for.

    varlink has no defaults, only nullable fields: a parameter with a default is nullable on
    the wire, and null means the default.
    """
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    defaults: dict[str, Any] = {}
    for field, annotation in annotations.items():
        parameter = signature.parameters.get(field)
        if parameter is None or parameter.default is inspect.Parameter.empty:
            fields.append((field, annotation))
            continue
        if parameter.default is not None:
            if is_nullable(annotation):
                raise TypeError(f"{where}({field}): a nullable parameter's default is None")
            defaults[field] = parameter.default
        fields.append((field, annotation | None, None))
    struct = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
    return struct, defaults


def _result(
    types: TypeTable, hints: Mapping[str, Any], field: str | None, where: str
) -> Result[Any]:
    if "return" not in hints:
        raise TypeError(f"{where}: the result must be annotated")
    annotation = hints["return"]
    if annotation is type(None):
        if field is not None:
            raise TypeError(f"{where}: None is no reply field")
        return Result(annotation=None, field=None, record=None)
    types.text(annotation, f"{where} -> result")
    if field is not None:
        check_field_name(field, where)
        record = msgspec.defstruct(f"{where.rpartition('.')[2]}Reply", [(field, annotation)])
        return Result(annotation=annotation, field=field, record=record)
    if not dataclasses.is_dataclass(annotation) or not dataclasses.fields(annotation):
        raise TypeError(f"{where}: say returns=..., {annotation!r} has no fields of its own")
    return Result(annotation=annotation, field=None, record=typing.cast("type", annotation))
