"""How Python types travel: the varlink type of each annotation an interface may use.

Owns the list of types that may stand in a declaration and their names in the varlink
interface language. Refuses everything else at declaration time, with the place in the
message: an interface that imports is an interface that can be served and described.

    Python                              varlink     JSON
    bool int float str                  same        same; int is 64 bits for other languages
    bytes                               string      base64
    UUID, NewType over it               string      lower case, no braces
    IntEnum, IntFlag                    int         the number
    Enum with str values                enum        the value (string, if a value is no identifier)
    frozen dataclass                    its name    object
    list, tuple[T, ...], frozenset,
    Sequence                            []T         array
    dict[str, T], Mapping[str, T]       [string]T   object
    T | None                            ?T          null or absent
"""

import dataclasses
import enum
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

FIELD_NAME = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*\Z")
MEMBER_NAME = re.compile(r"[A-Z][A-Za-z0-9]*\Z")

_PLAIN: dict[object, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "string",
    bytes: "string",
    UUID: "string",
}
_ARRAYS = (list, tuple, frozenset, Sequence)
_MAPS = (dict, Mapping)


def fields_of(record: type) -> dict[str, Any]:
    """Return the resolved annotation of every field of a dataclass, in order."""
    hints = typing.get_type_hints(record, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def is_nullable(annotation: Any) -> bool:
    """Return whether None is a value of this annotation."""
    return annotation is None or type(None) in typing.get_args(annotation)


def innermost(annotation: Any) -> Any:
    """Return what is left after null, arrays, maps and NewType are taken off."""
    while True:
        supertype = getattr(annotation, "__supertype__", None)
        inner = [part for part in typing.get_args(annotation) if part not in (type(None), ...)]
        if supertype is not None:
            annotation = supertype
        elif inner:
            annotation = inner[-1]
        else:
            return annotation


class TypeTable:
    """The varlink names of types, and the named types met while naming them.

    records: dataclasses and string enums that need a `type` line, in the order in which
    they were met, those inside before those around them.
    """

    def __init__(self) -> None:
        self.records: dict[str, type] = {}
        self._open: set[type] = set()

    def text(self, annotation: Any, where: str) -> str:
        """Return the varlink type of an annotation.

        where: named in the TypeError that an annotation outside the module's table raises.
        """
        supertype = getattr(annotation, "__supertype__", None)
        if supertype is not None:
            return self.text(supertype, where)
        if annotation in _PLAIN:
            return _PLAIN[annotation]
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in (typing.Union, types.UnionType):
            return self._nullable(arguments, where)
        if origin in _ARRAYS:
            return self._array(origin, arguments, where)
        if origin in _MAPS:
            if arguments[0] is not str:
                raise TypeError(f"{where}: the keys of a map are str, not {arguments[0]!r}")
            return f"[string]{self.text(arguments[1], where)}"
        if isinstance(annotation, type):
            return self._class(annotation, where)
        raise TypeError(f"{where}: {annotation!r} has no form on the wire")

    def _nullable(self, arguments: tuple[Any, ...], where: str) -> str:
        real = [part for part in arguments if part is not type(None)]
        if len(real) != 1 or len(arguments) != 2:
            raise TypeError(f"{where}: of unions only `T | None` has a form on the wire")
        return f"?{self.text(real[0], where)}"

    def _array(self, origin: Any, arguments: tuple[Any, ...], where: str) -> str:
        if origin is tuple and (len(arguments) != 2 or arguments[1] is not ...):
            raise TypeError(f"{where}: of tuples only tuple[T, ...] has a form on the wire")
        return f"[]{self.text(arguments[0], where)}"

    def _class(self, cls: type, where: str) -> str:
        if issubclass(cls, enum.Enum):
            return self._enum(cls, where)
        if not dataclasses.is_dataclass(cls):
            raise TypeError(f"{where}: {cls.__name__} has no form on the wire")
        if cls not in self._open and self.records.get(cls.__name__) is not cls:
            self._open.add(cls)
            for name, annotation in fields_of(cls).items():
                check_field_name(name, f"{where}, {cls.__name__}")
                self.text(annotation, f"{where}, {cls.__name__}.{name}")
            self._open.discard(cls)
            self._record(cls, where)
        return cls.__name__

    def _enum(self, cls: type[enum.Enum], where: str) -> str:
        if issubclass(cls, int):
            return "int"
        values = [member.value for member in cls]
        if not all(isinstance(value, str) for value in values):
            raise TypeError(f"{where}: the values of {cls.__name__} are neither all int nor str")
        # An enumeration of one value would read as a struct without types.
        if len(values) < 2 or not all(FIELD_NAME.match(value) for value in values):
            return "string"
        self._record(cls, where)
        return cls.__name__

    def _record(self, cls: type, where: str) -> None:
        if not MEMBER_NAME.match(cls.__name__):
            raise TypeError(f"{where}: {cls.__name__} is no varlink type name (CamelCase)")
        if self.records.setdefault(cls.__name__, cls) is not cls:
            raise TypeError(f"{where}: two types are named {cls.__name__}")


def check_field_name(name: str, where: str) -> None:
    """Raise TypeError unless varlink allows the name for a field or parameter."""
    if not FIELD_NAME.match(name):
        raise TypeError(f"{where}: {name!r} is no varlink field name")
