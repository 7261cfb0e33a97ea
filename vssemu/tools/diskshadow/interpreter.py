"""One line of a script or of the prompt: read, expanded, matched, done; and whole scripts.

Whatever happens to a command leaves here as a `CommandEnd` that carries all that is to be
printed, the help block of a misused command included. Source: tools.md A.2, A.3.
"""

from collections.abc import Callable
from typing import Final

from vssemu.tools.diskshadow import grammar, language
from vssemu.tools.diskshadow.commands import do
from vssemu.tools.diskshadow.failures import (
    CommandEnd,
    ExitStatus,
    Failed,
    Leave,
    Misused,
)
from vssemu.tools.diskshadow.session import Session
from vssemu.tools.output import describe

MAX_LINE: Final = 8191
"""Characters of a line, before and after expansion; that of the Windows command line."""

_HELP: Final = frozenset({"/?", "-?"})


def execute(session: Session, line: str) -> None:
    """Do what a line says. Raises CommandEnd: Misused, Failed, Leave."""
    if language.is_comment(line):
        return
    words = _expanded(session, line)
    if not words:
        return
    found = grammar.find(words)
    if found is None:
        raise Misused(f'The command "{words[0]}" is not known.', *grammar.overview())
    command, rest = found
    if rest and rest[0] in _HELP:
        session.console.lines(command.help_block())
        return
    try:
        do(session, command.parse(rest))
    except Misused as error:
        raise Misused(*(text for text in error.lines if text), *command.help_block()) from error
    except OSError as error:
        # A path that the system does not take: too long, or no right to look.
        raise Failed(describe(error)) from error


def _expanded(session: Session, line: str) -> list[str]:
    """Return the words of a line, and tell what its aliases stand for."""
    try:
        if len(line) > MAX_LINE:
            raise language.LanguageError(f"The line has more than {MAX_LINE} characters.")
        found = [language.expand(w, session.aliases.lookup) for w in language.words(line)]
    except language.LanguageError as error:
        raise Misused(str(error)) from error
    except language.UnknownName as error:
        raise Failed(
            f"%{error.name}% is not set: neither an alias nor an environment variable has that"
            " name."
        ) from error
    if sum(len(word.text) for word in found) > MAX_LINE:
        raise Misused(f"The line has more than {MAX_LINE} characters when it is expanded.")
    for word in found:
        for name, value in word.names:
            if session.aliases.get(name) is not None:
                session.console.line(f"-> %{name}% = {value}")
    return [word.text for word in found]


def run_script(session: Session, text: str) -> ExitStatus:
    """Run a script up to its end, its EXIT, or the first command that fails."""
    for line in language.lines(text):
        session.console.line(f"-> {line}")
        try:
            execute(session, line)
        except CommandEnd as end:
            session.console.lines(end.lines)
            return end.status
    session.console.line("->")
    return ExitStatus.OK


def run_prompt(session: Session, ask: Callable[[], str | None]) -> ExitStatus:
    """Run what the user types, up to EXIT or the end of the input.

    ask: returns a line, None at the end. A failed command leaves the prompt standing.
    """
    while (line := ask()) is not None:
        try:
            execute(session, line)
        except CommandEnd as end:
            session.console.lines(end.lines)
            if isinstance(end, Leave):
                return end.status
    return ExitStatus.OK
