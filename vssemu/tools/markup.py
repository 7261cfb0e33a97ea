"""Elements of a page, built as a tree so that no foreign text can become markup."""

import re
from collections.abc import Iterable
from typing import TypeAlias

from lxml import etree

Element: TypeAlias = etree._Element
Child: TypeAlias = "str | Element | Iterable[str | Element]"

# What XML, and so lxml, does not take, and what commands a terminal; writers and providers
# may send it all the same.
_UNFIT = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def el(tag: str, *children: Child, **attributes: object) -> Element:
    """Return an element; strings are text, `class_` is `class`, `_` in names is `-`.

    An attribute that is None or False is left out, True is one without a value.
    """
    made = etree.Element(tag)
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        made.set(key, "" if value is True else clean(str(value)))
    for child in children:
        add(made, child)
    return made


def add(parent: Element, child: Child) -> None:
    """Put text, an element or several of them behind what an element has."""
    if isinstance(child, str):
        if len(parent):
            parent[-1].tail = (parent[-1].tail or "") + clean(child)
        else:
            parent.text = (parent.text or "") + clean(child)
    elif isinstance(child, etree._Element):
        parent.append(child)
    else:
        for each in child:
            add(parent, each)


def clean(text: str) -> str:
    """Return a text with a replacement character for whatever a page or terminal cannot take."""
    return _UNFIT.sub("\ufffd", text)


def page(root: Element) -> str:
    """Return a page as text."""
    markup: str = etree.tostring(root, method="html", encoding="unicode", pretty_print=False)
    return f"<!doctype html>\n{markup}\n"
