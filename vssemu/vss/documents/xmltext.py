"""Bytes and strings to XML trees, and trees to the text that VSS writes.

Owns: encodings, size limits, the refusal of document types, the form of what is written.
Refuses: to fetch, expand or validate anything. Whatever is wrong with a text comes out as
InvalidXmlDocument; parsers of the single documents know nothing of lxml's exceptions.

A text may come from another machine, so it is hostile until parsed. Entities are the known
way to make a parser work for ever, and they live in a document type, so that is refused
before the parser sees it (libxml2 replaces entities in attributes whatever it is told).
"""

import re
from collections.abc import Mapping
from typing import Final, NoReturn

from lxml import etree

from vssemu.vss.errors import InvalidXmlDocument

MAX_CHARACTERS: Final = 16 * 1024 * 1024
"""Largest document read, in characters; the largest known real one has 2.1 million."""

MAX_TAGS: Final = 1_000_000
"""Most markup read, so that a text of nothing but tags does not become gigabytes of tree."""

MAX_DEPTH: Final = 64
"""Deepest nesting read; documents have seven levels, and the code that walks them recurses."""

EXTENSION: Final = "urn:vss-emulation:ext:1"
"""Namespace of everything whose name on Windows is not known."""

_BOMS: Final = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_SINGLE_BYTE: Final = {"iso-8859-1": "latin-1", "windows-1252": "cp1252"}
_TRAILING: Final = "\0 \t\r\n\ufeff"

_TOO_DEEP: Final = etree.XPath(f"boolean({'/*' * (MAX_DEPTH + 1)})")

etree.register_namespace("ve", EXTENSION)


def decode(data: bytes, *, document: str, limit: int = MAX_CHARACTERS) -> str:
    """Return the characters of a document file, without BOM, final NULs and white space.

    The bytes decide: a BOM first, then where the zero bytes lie, else UTF-8. A declaration is
    believed only if the bytes are not UTF-8 and it names a single-byte encoding.
    document: what the text should be, for messages. limit: characters.
    Raises InvalidXmlDocument.
    """
    if len(data) > 4 * limit + 4:
        _refuse_size(document, f"{len(data)} bytes", limit)
    encoding, body = _encoding(data)
    if encoding.startswith("utf-16") and len(body) % 2 and body.endswith(b"\0"):
        body = body[:-1]
    try:
        return body.decode(encoding).rstrip(_TRAILING)
    except UnicodeDecodeError as cause:
        raise InvalidXmlDocument(
            f"the {document} is not {encoding.upper()} text: byte {cause.start}: {cause.reason}",
            hint="copy the file again in binary mode",
            item=document,
        ) from cause


def _encoding(data: bytes) -> tuple[str, bytes]:
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return encoding, data[len(bom) :]
    if len(data) >= 2 and data[0] and not data[1]:
        return "utf-16-le", data
    if len(data) >= 2 and data[1] and not data[0]:
        return "utf-16-be", data
    try:
        data.decode()
    except UnicodeDecodeError:
        declared = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)", data[:200])
        name = declared.group(1).decode("ascii").lower() if declared else ""
        return _SINGLE_BYTE.get(name, "utf-8"), data
    return "utf-8", data


def parse(
    source: str | bytes,
    *,
    root: str,
    namespace: str,
    document: str,
    limit: int = MAX_CHARACTERS,
) -> etree._Element:
    """Return the root element of a document.

    root, namespace: what the root element must be. document: the document's name for messages.
    Raises InvalidXmlDocument: too large, wrong encoding, a document type, not well-formed,
    another root element.
    """
    text = decode(source, document=document, limit=limit) if isinstance(source, bytes) else source
    if len(text) > limit:
        _refuse_size(document, f"{len(text)} characters", limit)
    text = text.lstrip("\ufeff").rstrip(_TRAILING)
    body = _without_declaration(text)
    _refuse_odd_text(body, document)
    element = _tree(body, document)
    if _TOO_DEEP(element):
        raise InvalidXmlDocument(
            f"{document}: elements are nested more than {MAX_DEPTH} deep", item=document
        )
    name = etree.QName(element)
    if name.localname != root or (name.namespace or "") != namespace:
        raise InvalidXmlDocument(
            f"{document}: the root element is {name.localname!r} in namespace"
            f" {name.namespace or ''!r}, expected {root!r} in {namespace!r}",
            hint=f"give the {document} that SaveAsXML returned",
            item=name.localname,
        )
    return element


def _tree(text: str, document: str) -> etree._Element:
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=True,
        collect_ids=False,
    )
    try:
        return etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as cause:
        fact = " ".join(str(cause.msg or "no element found").split())
        raise InvalidXmlDocument(
            f"{document}: not well-formed: {fact[:300]}",
            hint="the file may be cut off or edited; transport it again, unchanged",
            item=document,
        ) from cause
    except UnicodeEncodeError as cause:
        raise InvalidXmlDocument(
            f"{document}: character {cause.start} is half of a surrogate pair", item=document
        ) from cause


def _without_declaration(text: str) -> str:
    """Return the text without its XML declaration, lines counted as before."""
    if not re.match(r"\s*<\?xml[\s?]", text):
        return text
    end = text.find("?>")
    return text if end < 0 else "\n" * text.count("\n", 0, end) + text[end + 2 :]


def _refuse_odd_text(text: str, document: str) -> None:
    if text.count("<") > MAX_TAGS:
        raise InvalidXmlDocument(
            f"{document}: more than {MAX_TAGS} tags", hint=_size_hint(document), item=document
        )
    if _begins_with_doctype(text):
        raise InvalidXmlDocument(
            f"{document}: it has a document type (<!DOCTYPE), which no VSS document has",
            hint="give the document as SaveAsXML returned it",
            item="DOCTYPE",
        )
    if not text.strip():
        raise InvalidXmlDocument(
            f"{document}: it is empty", hint=f"give a {document}", item=document
        )


def _begins_with_doctype(text: str) -> bool:
    """Tell whether a document type stands before the root element, its only legal place."""
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        closing = next((c for o, c in _PROLOG if text.startswith(o, at)), None)
        if closing is None:
            return text[at : at + 9].upper() == "<!DOCTYPE"
        end = text.find(closing, at + 2)
        if end < 0:
            return False
        at = end + len(closing)


_PROLOG: Final = (("<!--", "-->"), ("<?", "?>"))


def _refuse_size(document: str, size: str, limit: int) -> NoReturn:
    raise InvalidXmlDocument(
        f"{document}: {size} are more than the limit of {limit} characters",
        hint=_size_hint(document),
        item=document,
    )


def _size_hint(document: str) -> str:
    return f"is this file a {document}? raise the limit if it is"


def new_root(tag: str, nsmap: Mapping[str | None, str]) -> etree._Element:
    """Return the root element of a new document with its namespace declarations."""
    return etree.Element(tag, nsmap=nsmap)  # type: ignore[arg-type]  # the stubs forget None


def serialise(root: etree._Element) -> str:
    """Return the text of a document: no declaration, no line added, double quotes.

    Line breaks inside attributes are written as `&#10;`, so they survive the next reader.
    """
    return etree.tostring(root.getroottree(), encoding="unicode").rstrip("\n")


def encode_vshadow(text: str) -> bytes:
    """Return a document file as VShadow writes it: UTF-16LE, no BOM, a final NUL character."""
    return (text + "\0").encode("utf-16-le")
