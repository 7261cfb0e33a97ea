"""The program `diskshadow`: its command line, banner, log file, prompt and exit status.

    diskshadow [/s FILE [PARAMETER...]] [/l LOG]

`/` and `-` are the same, case does not count. What is no switch after the script belongs to
the script, a Linux path with a leading `/` too. Source: tools.md A.1, A.3.
"""

import io
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TextIO

import click

from vssemu.api.blocking import Vss
from vssemu.tools.diskshadow import language, requester
from vssemu.tools.diskshadow.console import Console, OutputLost
from vssemu.tools.diskshadow.failures import ExitStatus, Failed, Misused
from vssemu.tools.diskshadow.interpreter import run_prompt, run_script
from vssemu.tools.diskshadow.paths import Roots, load_roots
from vssemu.tools.diskshadow.requester import Requester
from vssemu.tools.diskshadow.session import Session
from vssemu.tools.output import describe
from vssemu.tools.windows_text import clock

PROMPT: Final = "DISKSHADOW> "
NOTE: Final = (
    "Note: END BACKUP was not commanded, writers not notified BackupComplete.",
    "DiskShadow is exiting.",
)
USAGE: Final = (
    "DISKSHADOW [/s <script> [<parameter> ...]] [/l <log>]",
    "",
    "\t/s <script>  Runs a script; without it commands are read from a prompt.",
    "\t<parameter>  Is %DISKSH_PARAM_1%, %DISKSH_PARAM_2%, ... in the script.",
    "\t/l <log>     Writes all output to a file as well.",
    "\t/?           Shows this text.",
    "",
    "Exit status: 0 done, 1 the command line or a command is wrong, 2 a command failed.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandLine:
    """What the arguments say. Paths are as typed."""

    script: str | None = None
    log: str | None = None
    parameters: tuple[str, ...] = ()
    is_help: bool = False


def parse(arguments: Sequence[str]) -> CommandLine:
    """Return what the arguments say. Raises Misused with one line."""
    script = log = None
    parameters: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        switch = word[1:].lower() if word[:1] in {"/", "-"} else ""
        if switch in {"?", "h", "help", "-help"}:
            return CommandLine(is_help=True)
        if switch == "s" and script is None:
            script = _value(left, word)
        elif switch in {"l", "log"} and log is None:
            log = _value(left, word)
        elif script is None:
            raise Misused(f'Unexpected: "{word}".')
        else:
            parameters.append(word)
    return CommandLine(script=script, log=log, parameters=tuple(parameters))


def _value(left: list[str], switch: str) -> str:
    if not left or not left[0]:
        raise Misused(f"{switch} needs a file.")
    return left.pop(0)


def banner(now: datetime) -> list[str]:
    """Return what every start prints: the lines that the tool's users and their logs have."""
    return [
        "Microsoft DiskShadow version 1.0",
        "Copyright (C) 2013 Microsoft Corporation",
        f"On computer:  {platform.node()},  {clock(now)}",
        "",
    ]


def run(
    arguments: Sequence[str],
    *,
    out: TextIO,
    connect: Callable[[], Vss] = requester.connect,
    environment: Mapping[str, str] | None = None,
) -> ExitStatus:
    """Run DiskShadow and return its exit status; nothing of it is held after that."""
    with ExitStack() as open_files:
        console = Console(out)
        try:
            line = parse(arguments)
            if line.is_help:
                console.lines([*banner(datetime.now()), *USAGE])
                return ExitStatus.OK
            roots = load_roots()
            if line.log is not None:
                console = Console(out, open_files.enter_context(_log(roots, line.log)))
            script = None if line.script is None else _script(roots, line.script)
        except Misused as error:
            console.lines([*banner(datetime.now()), *error.lines, "", *USAGE])
            return ExitStatus.USAGE
        except Failed as error:
            console.lines([*banner(datetime.now()), *error.lines])
            return ExitStatus.FAILED
        except OSError as error:
            console.lines([*banner(datetime.now()), describe(error)])
            return ExitStatus.FAILED
        console.lines(banner(datetime.now()))
        session = Session(
            console=console,
            requester=Requester(connect),
            roots=roots,
            environment=_environment(os.environ if environment is None else environment, line),
        )
        return _run(session, script)


def _run(session: Session, script: str | None) -> ExitStatus:
    """Run a script or the prompt, then release all; Ctrl-C ends both."""
    try:
        try:
            if script is None:
                status = run_prompt(session, lambda: _ask(session.console))
            else:
                status = run_script(session, script)
        except KeyboardInterrupt:
            session.console.lines(["", "Interrupted."])
            status = ExitStatus.FAILED
        if session.owes_backup_complete:
            session.console.lines(["", *NOTE])
        return status
    finally:
        session.release_all()
        session.requester.close()
        session.console.flush()


def _ask(console: Console) -> str | None:
    """Return the line that the user types, None at the end of the input."""
    console.flush()
    try:
        line = input(PROMPT)
    except EOFError:
        console.line()
        return None
    console.typed(PROMPT + line)
    return line


def _environment(environment: Mapping[str, str], line: CommandLine) -> dict[str, str]:
    parameters = {
        f"DISKSH_PARAM_{number}": language.clean(value)
        for number, value in enumerate(line.parameters, start=1)
    }
    return {**environment, **parameters}


def _log(roots: Roots, text: str) -> io.FileIO:
    path = roots.linux(text)
    try:
        return path.open("wb", buffering=0)
    except OSError as error:
        raise Failed(f"The log file {path} cannot be written: {error.strerror}.") from error


def _script(roots: Roots, text: str) -> str:
    path = roots.linux(text)
    try:
        return language.decode(path.read_bytes())
    except OSError as error:
        raise Failed(f"The script file {path} cannot be read: {error.strerror}.") from error
    except language.LanguageError as error:
        raise Misused(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program `diskshadow`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    try:
        status = run(sys.argv[1:] if arguments is None else arguments, out=sys.stdout)
    except (OutputLost, KeyboardInterrupt):
        # Ctrl-C while all is released, for the second time; or our output cannot be written,
        # most often because its reader has gone. Python would complain of that at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = ExitStatus.FAILED
    sys.exit(status)


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    help="\n".join(USAGE),
    short_help="Run DiskShadow scripts: [/s FILE [P1...]] [/l LOG].",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def diskshadow(arguments: tuple[str, ...]) -> None:
    """Run DiskShadow as a command of `vssemu`; `--help` is its own, as `/?` is."""
    main(arguments)
