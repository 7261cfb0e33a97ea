r"""The DiskShadow language below its commands: bytes, lines, words, quotes, comments, `%NAME%`.

Pure. One command a line; words stand between blanks or tabs; double quotes hold blanks; a
word that begins with `#` begins a comment, and a `#` that ends a line is dropped, for people
add one to scripts whose last characters the Windows program eats. Expansion comes after the
split into words, so that a value with blanks stays one word. Source: tools.md A.2.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_BLANKS: Final = " \t\v\f\r\x1a\ufeff"
_NAME: Final = re.compile(r"%([^%=:\s]+)%")

Lookup = Callable[[str], str | None]


class LanguageError(Exception):
    """A script or a line that cannot be read; the text is one line for the user."""


class UnknownName(Exception):
    """`%NAME%` of something that is neither an alias nor an environment variable."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True)
class Expanded:
    """A word after expansion. names: what was replaced, as written, in order."""

    text: str
    names: tuple[tuple[str, str], ...] = ()


def decode(data: bytes) -> str:
    """Return the text of a script: 8-bit, UTF-8 if it is that, else the Western code page.

    Raises LanguageError for UTF-16 and for what is no text.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise LanguageError("The script is UTF-16 text; save it as 8-bit text (ANSI or UTF-8).")
    if b"\0" in data:
        raise LanguageError("The script is not 8-bit text: it has NUL characters.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def lines(text: str) -> list[str]:
    """Return the lines of a script; they end with CR LF, LF or CR."""
    found = re.split(r"\r\n|\n|\r", text)
    if found and not found[-1].strip(_BLANKS):
        found.pop()
    return found


def is_comment(line: str) -> bool:
    """Tell whether a line is nothing but a comment."""
    return line.lstrip(_BLANKS).startswith("#")


def words(line: str) -> list[str]:
    """Return the words of a line, unexpanded; none for a blank line or a comment.

    Raises LanguageError for a quotation mark that is not closed.
    """
    found: list[str] = []
    word: str | None = None
    is_quoted = ends_quoted = False
    for character in line:
        if character == '"':
            is_quoted = not is_quoted
            word, ends_quoted = word or "", True
        elif is_quoted:
            word = (word or "") + character
        elif character in _BLANKS:
            if word is not None:
                found.append(word)
            word = None
        elif character == "#" and word is None:
            break
        else:
            word, ends_quoted = (word or "") + character, False
    if is_quoted:
        raise LanguageError("A quotation mark is not closed.")
    if word is not None:
        found.append(word if ends_quoted else _without_hash(word))
    return found


def _without_hash(word: str) -> str:
    return word[:-1] if word.endswith("#") and len(word) > 1 else word


def expand(word: str, lookup: Lookup) -> Expanded:
    """Return a word with every `%NAME%` replaced, once, from left to right.

    Raises UnknownName.
    """
    names: list[tuple[str, str]] = []

    def value(match: re.Match[str]) -> str:
        found = lookup(match[1])
        if found is None:
            raise UnknownName(match[1])
        names.append((match[1], found))
        return found

    text = _NAME.sub(value, word)
    return Expanded(clean(text), tuple(names))


def clean(text: str) -> str:
    """Return text that any system call and any message takes: no NUL, no lone surrogate."""
    whole = text.encode("utf-8", errors="surrogateescape" if _is_escaped(text) else "replace")
    return whole.decode("utf-8", errors="replace").replace("\0", "\ufffd")


def _is_escaped(text: str) -> bool:
    return not any(0xD800 <= ord(c) < 0xDC80 or 0xDCFF < ord(c) <= 0xDFFF for c in text)
