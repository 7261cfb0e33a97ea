"""Command lines in the manner of the Windows tools: words, and options `/name=value`.

Pure. Words and names know no case; an option begins with `/`, `-` or `--` and may stand
anywhere. Refuses to know commands: what a word or an option means is the caller's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


class UsageError(Exception):
    """The command line is wrong; the text says how."""


@dataclass(frozen=True, slots=True)
class Line:
    """A command line. words: lower case; options: lower-case names, None for one without `=`."""

    words: tuple[str, ...] = ()
    options: dict[str, str | None] = field(default_factory=dict)

    def wants_help(self) -> bool:
        """Whether `/?` or a spelling of it is among the options."""
        return not self.options.keys().isdisjoint({"?", "h", "help"})


def parse(argv: Sequence[str]) -> Line:
    """Return a command line taken apart. Raises UsageError for an option given twice."""
    words: list[str] = []
    options: dict[str, str | None] = {}
    for text in argv:
        if not text.startswith(("/", "-")):
            words.append(text.lower())
            continue
        name, equals, value = text.lstrip("-/").partition("=")
        name = name.lower()
        if name in options:
            raise UsageError(f"The option /{name} is given twice.")
        options[name] = _unquoted(value) if equals else None
    return Line(tuple(words), options)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
