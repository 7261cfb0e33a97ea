"""The varlink interface language: an interface declared in Python, as the text others read.

Owns the wording of the text alone; which Python type is which varlink type is said by
`wiretypes`. The text depends on the declaration only, so it can be kept in a file and
compared.
Source: https://varlink.org/Interface-Definition
"""

import dataclasses
import enum
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import msgspec

from vssemu.rpc.interface import Interface, Method
from vssemu.rpc.wiretypes import TypeTable, fields_of, innermost, is_nullable

FAILED = "error Failed (hresult: int, name: string, fact: string, hint: ?string, item: ?string)"
"""The one error of every interface of ours."""

_WIDTH = 99
_LARGEST_PLAIN = 0xFFFF


def describe(interface: Interface, *, errors: Iterable[str] = (FAILED,)) -> str:
    """Return the interface as varlink text, ended by a newline.

    errors: the `error` lines at the end.
    """
    table = TypeTable()
    for method in interface.methods.values():
        _visit(table, method)
    numbers_told: set[type] = set()
    blocks = [f"{_comment(interface.doc)}interface {interface.name}"]
    blocks += [_record(table, record, numbers_told) for record in table.records.values()]
    blocks += [_method(table, method, numbers_told) for method in interface.methods.values()]
    blocks += list(errors)
    return "\n\n".join(blocks) + "\n"


def _visit(table: TypeTable, method: Method[..., Any]) -> None:
    for annotation in method.annotations.values():
        table.text(annotation, method.name)
    if method.result.annotation is not None and method.result.field is not None:
        table.text(method.result.annotation, method.name)
    elif method.result.record is not None:
        for annotation in fields_of(method.result.record).values():
            table.text(annotation, method.name)


def _record(table: TypeTable, record: type, numbers_told: set[type]) -> str:
    if issubclass(record, enum.Enum):
        values = _listed([str(member.value) for member in record])
        return f"{_comment(_doc(record))}type {record.__name__} {values}"
    fields = fields_of(record)
    texts = {name: table.text(annotation, record.__name__) for name, annotation in fields.items()}
    comment = _comment(_doc(record)) + _notes(fields, numbers_told)
    return f"{comment}type {record.__name__} {_struct(texts)}"


def _method(table: TypeTable, method: Method[..., Any], numbers_told: set[type]) -> str:
    texts = {}
    for name, annotation in method.annotations.items():
        parameter = method.signature.parameters.get(name)
        optional = parameter is not None and parameter.default is not inspect.Parameter.empty
        texts[name] = _text(table, annotation, nullable=optional)
    reply = _reply_fields(method)
    # The last reply of a stream carries no element, so each of its fields may be missing.
    reply_texts = {name: _text(table, each, nullable=method.more) for name, each in reply.items()}
    comment = _comment(method.doc) + _comment("\n".join(_remarks(method)))
    comment += _notes({**method.annotations, **reply}, numbers_told)
    return f"{comment}method {method.name}{_struct(texts)} -> {_struct(reply_texts)}"


def _reply_fields(method: Method[..., Any]) -> Mapping[str, Any]:
    result = method.result
    if result.record is None:
        return {}
    return fields_of(result.record) if result.field is None else {result.field: result.annotation}


def _remarks(method: Method[..., Any]) -> Iterable[str]:
    for name, default in method.defaults.items():
        yield f"{name}: null is {msgspec.json.encode(default).decode()}"
    if method.more:
        yield "Call with more: a stream; the last reply is empty."
    if method.operation:
        yield "Asynchronous: the reply is an operation to wait for."
    if method.sends_descriptor:
        yield "The last reply carries one file descriptor (SCM_RIGHTS)."


def _text(table: TypeTable, annotation: Any, *, nullable: bool) -> str:
    text = table.text(annotation, "")
    return f"?{text}" if nullable and not is_nullable(annotation) else text


def _struct(fields: Mapping[str, str]) -> str:
    return _listed([f"{name}: {text}" for name, text in fields.items()])


def _listed(parts: list[str]) -> str:
    if sum(map(len, parts)) + 2 * len(parts) <= _WIDTH - 40:
        return f"({', '.join(parts)})"
    return "(\n" + ",\n".join(f"  {part}" for part in parts) + "\n)"


def _notes(fields: Mapping[str, Any], numbers_told: set[type]) -> str:
    """Return comment lines on what varlink's int and string do not say."""
    lines = []
    for name, annotation in fields.items():
        kind = innermost(annotation)
        if kind is UUID:
            lines.append(f"{name}: GUID, lower case, no braces")
        elif kind is bytes:
            lines.append(f"{name}: base64")
        elif isinstance(kind, type) and issubclass(kind, enum.Enum) and issubclass(kind, int):
            lines.append(f"{name}: {kind.__name__}")
            if kind not in numbers_told:
                numbers_told.add(kind)
                lines.append(_numbers(kind))
    return _comment("\n".join(lines))


def _numbers(kind: type[enum.Enum]) -> str:
    members = kind.__members__.items()
    hexadecimal = issubclass(kind, enum.Flag) or any(m.value > _LARGEST_PLAIN for _, m in members)
    told = [f"{name} {m.value:#x}" if hexadecimal else f"{name} {m.value}" for name, m in members]
    return f"{kind.__name__}: {', '.join(told)}"


def _doc(record: type) -> str:
    doc = inspect.cleandoc(record.__doc__ or "")
    # dataclass() writes a signature where there is no docstring.
    generated = dataclasses.is_dataclass(record) and doc.startswith(f"{record.__name__}(")
    return "" if generated else doc


def _comment(text: str) -> str:
    lines = []
    for line in text.splitlines():
        lines += textwrap.wrap(line, _WIDTH - 2, break_long_words=False) or [""]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)
