"""Single items of a document: read with a type, written in the pinned order.

An item that is missing or spoilt is named by its element's path, so that a person finds it:
`BACKUP_COMPONENTS/WRITER_COMPONENTS[2]/COMPONENT[1]/@componentName, line 1`.
Elements are looked for by local name in the document's namespace or in none: one real element
(BACKUP_METADATA) is in none. Our own elements are looked for in our namespace alone.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from lxml import etree

from vssemu.vss.documents.xmltext import EXTENSION
from vssemu.vss.errors import InvalidArgument, InvalidXmlDocument
from vssemu.vss.identity import parse_guid

T = TypeVar("T")

_NUMBER = re.compile(r"(?:0[xX][0-9A-Fa-f]{1,16}|[0-9]{1,20})")


def ve(name: str) -> str:
    """Return the qualified name of an item in our own namespace."""
    return f"{{{EXTENSION}}}{name}"


def where(element: etree._Element, item: str | None = None) -> str:
    """Return the element's path from the root, and its line."""
    steps = [_step(element), *(_step(above) for above in element.iterancestors())]
    tail = "" if item is None else f"/@{_shown(item)}"
    line = f", line {element.sourceline}" if element.sourceline else ""
    return f"{'/'.join(reversed(steps))}{tail}{line}"


def _step(element: etree._Element) -> str:
    name = _shown(str(element.tag))
    if element.getparent() is None:
        return name
    before = sum(1 for _ in element.itersiblings(str(element.tag), preceding=True))
    return f"{name}[{before + 1}]"


def _shown(name: str) -> str:
    qualified = etree.QName(name)
    prefix = "ve:" if qualified.namespace == EXTENSION else ""
    return prefix + qualified.localname


def invalid(
    element: etree._Element, fact: str, *, item: str | None = None, hint: str | None = None
) -> InvalidXmlDocument:
    """Return the error for a missing or spoilt item; `item` is an attribute's name."""
    place = where(element, item)
    return InvalidXmlDocument(
        f"{place}: {fact}",
        hint=hint or "give the document unchanged, as SaveAsXML returned it",
        item=place,
    )


def local_name(element: etree._Element) -> str:
    """Return an element's name without its namespace."""
    return etree.QName(element).localname


def elements(parent: etree._Element) -> Iterator[etree._Element]:
    """Yield the child elements, without comments and processing instructions."""
    return parent.iterchildren("*")


def children(parent: etree._Element, name: str) -> Iterator[etree._Element]:
    """Yield the children called `name`; a name from `ve()` only in our own namespace."""
    if name.startswith("{"):
        yield from parent.iterchildren(name)
        return
    for child in elements(parent):
        qualified = etree.QName(child)
        if qualified.localname == name and qualified.namespace != EXTENSION:
            yield child


def child(parent: etree._Element, name: str) -> etree._Element | None:
    """Return the first child called `name`, None when there is none."""
    return next(children(parent, name), None)


def required(element: etree._Element, name: str) -> str:
    """Return an attribute. Raises InvalidXmlDocument when it is missing."""
    value = element.get(name)
    if value is None:
        raise invalid(element, "the attribute is missing", item=name)
    return value


def read_guid(element: etree._Element, name: str) -> UUID:
    """Return a GUID attribute, written in any case, with or without braces."""
    value = required(element, name)
    try:
        return parse_guid(value)
    except ValueError:
        raise invalid(element, f"{value[:80]!r} is not a GUID", item=name) from None


def read_number(
    element: etree._Element, name: str, *, bits: int = 32, default: int | None = None
) -> int:
    """Return an unsigned number attribute, decimal or 0x and hexadecimal digits.

    default: what a missing attribute means; None when it must be there.
    """
    if default is not None and element.get(name) is None:
        return default
    value = required(element, name)
    number = int(value, 0 if value[:2] in {"0x", "0X"} else 10) if _NUMBER.fullmatch(value) else -1
    if not 0 <= number < 1 << bits:
        raise invalid(element, f"{value[:80]!r} is not a number of {bits} bits", item=name)
    return number


def read_yes_no(element: etree._Element, name: str, *, default: bool | None = None) -> bool:
    """Return a yes/no attribute. default: what a missing one means, None when it must be there."""
    if default is not None and element.get(name) is None:
        return default
    return read_word(element, name, {"yes": True, "no": False})


def read_word(element: etree._Element, name: str, table: Mapping[str, T]) -> T:
    """Return what a word attribute means by a table of `vssemu.vss.documents.words`."""
    value = required(element, name)
    if value not in table:
        raise invalid(element, f"{value[:80]!r} is none of {', '.join(sorted(table))}", item=name)
    return table[value]


def read_base64(element: etree._Element, value: str, item: str | None = None) -> bytes:
    """Return the bytes that `value`, an attribute or the text of `element`, encodes."""
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(element, "the value is not base64", item=item) from None


def write_base64(value: bytes) -> str:
    """Return bytes as base64 text."""
    return base64.b64encode(value).decode("ascii")


def write_yes_no(value: bool) -> str:
    """Return `yes` or `no`, the only spelling of a truth value in these documents."""
    return "yes" if value else "no"


def put(element: etree._Element, name: str, value: str | None, order: Sequence[str] = ()) -> None:
    """Set an attribute, or remove it with None, keeping the pinned attribute order.

    order: the attributes that come first, in their order; others follow as they came.
    Raises InvalidArgument for characters that no XML document can hold.
    """
    if value is None:
        if name in element.attrib:
            del element.attrib[name]
        return
    fresh = name not in element.attrib
    try:
        element.set(name, value)
    except ValueError:
        raise InvalidArgument(
            f"{where(element, name)}: the value has characters that XML cannot carry",
            hint="encode binary values, for example as base64",
            item=_shown(name),
        ) from None
    if fresh and order:
        _reorder(element, order)


def _reorder(element: etree._Element, order: Sequence[str]) -> None:
    rank = {name: number for number, name in enumerate(order)}
    names = [str(name) for name in element.attrib]
    wanted = sorted(names, key=lambda name: rank.get(name, len(rank)))
    if names == wanted:
        return
    pairs = [(name, required(element, name)) for name in wanted]
    element.attrib.clear()
    for name, value in pairs:
        element.set(name, value)


def add(
    parent: etree._Element, name: str, attributes: Mapping[str, str | None], text: str = ""
) -> etree._Element:
    """Append a child with those attributes that are not None, in the order given.

    name: a local name, taken in the parent's document namespace, or one from `ve()`.
    """
    namespace = etree.QName(parent.getroottree().getroot()).namespace
    element = etree.SubElement(parent, name if name.startswith("{") else f"{{{namespace}}}{name}")
    for key, value in attributes.items():
        if value is not None:
            put(element, key, value)
    if text:
        put_text(element, text)
    return element


def put_text(element: etree._Element, text: str) -> None:
    """Set an element's text. Raises InvalidArgument for characters XML cannot carry."""
    try:
        element.text = text
    except ValueError:
        raise InvalidArgument(
            f"{where(element)}: the text has characters that XML cannot carry",
            hint="encode binary values, for example as base64",
            item=local_name(element),
        ) from None
