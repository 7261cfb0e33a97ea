"""`vssemu writer`: the program that runs a writer, and short forms for those that come along.

A short form makes the configuration that the writer's class takes, nothing else; what an
option does not reach, a TOML file does: `vssemu writer run MODULE:CLASS --config FILE`.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from vssemu.tools.running import run_instead
from vssemu.vss.writer import FREEZE_LIMIT_MS
from vssemu.writers.configuration import toml

RUNNER = "vssemu.daemons.writer_runner"

_DRIVE = re.compile(r"[A-Za-z]:")

instance_option = click.option(
    "--instance-name", default=None, help="Tells several writers of one kind apart."
)


@click.group()
def writer() -> None:
    """Writers: applications that a shadow copy stops and starts again."""


@writer.command()
@click.argument("target", metavar="MODULE:CLASS")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file: the arguments of the class.",
)
def run(target: str, config: Path | None) -> None:
    """Run the writer MODULE:CLASS until it is told to end."""
    run_instead(RUNNER, target, *(("--config", str(config)) if config else ()))


@writer.command()
@click.argument("databases", metavar="DATABASE...", nargs=-1, required=True)
@click.option("--no-log", is_flag=True, help="Keep no log of transactions between backups.")
@click.option("--lock-seconds", type=float, help="How long Freeze tries to get the lock.")
@instance_option
def sqlite(
    databases: tuple[str, ...],
    no_log: bool,
    lock_seconds: float | None,
    instance_name: str | None,
) -> None:
    """Protect SQLite databases that other processes write to."""
    _run_with(
        "vssemu.writers.sqlite:SqliteWriter",
        {
            "databases": [_absolute(path) for path in databases],
            "keep_log": not no_log,
            "lock_seconds": lock_seconds,
            "instance_name": instance_name,
        },
    )


@writer.command()
@click.argument("groups", metavar="NAME=DIRECTORY...", nargs=-1, required=True)
@click.option("--filespec", default="*", show_default=True, help="Which files of them.")
@instance_option
def files(groups: tuple[str, ...], filespec: str, instance_name: str | None) -> None:
    """Name directories, with all below, as components to back up; nothing is stopped."""
    _run_with(
        "vssemu.writers.files:FilesWriter",
        {"group": _groups(groups, filespec), "instance_name": instance_name},
    )


def _groups(groups: Sequence[str], filespec: str) -> list[dict[str, str]]:
    tables = []
    for text in groups:
        name, equals, directory = text.partition("=")
        if not name or not equals or not directory:
            raise click.BadParameter(f"{text!r} is not NAME=DIRECTORY")
        tables.append({"name": name, "path": _absolute(directory), "filespec": filespec})
    return tables


@writer.command()
@click.argument("groups", metavar="NAME=DIRECTORY...", nargs=-1, required=True)
@click.option("--label", help="Its points are writer:LABEL, which tells several apart.")
@instance_option
def faulty(groups: tuple[str, ...], label: str | None, instance_name: str | None) -> None:
    """Be a writer for directories that misbehaves where `vssemu fault` says."""
    _run_with(
        "vssemu.writers.faulty:FaultyWriter",
        {"group": _groups(groups, "*"), "label": label, "instance_name": instance_name},
    )


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from None


@writer.command()
@click.option("--pre-freeze", type=_words, metavar="COMMAND", required=True, help="On Freeze.")
@click.option("--post-thaw", type=_words, metavar="COMMAND", required=True, help="On Thaw.")
@click.option("--abort", type=_words, metavar="COMMAND", help="On Abort.  [default: that of Thaw]")
@click.option(
    "--limit",
    type=click.FloatRange(min=0, max=FREEZE_LIMIT_MS / 1000, min_open=True),
    help="Seconds that each command may take.",
)
@click.option("--component", help="Name of the component.")
@click.option("--path", "paths", multiple=True, metavar="DIRECTORY", help="Its files. Repeatable.")
@instance_option
def command(
    pre_freeze: list[str],
    post_thaw: list[str],
    abort: list[str] | None,
    limit: float | None,
    component: str | None,
    paths: tuple[str, ...],
    instance_name: str | None,
) -> None:
    """Stop and start any application with commands; each is words, no shell."""
    _run_with(
        "vssemu.writers.command:CommandWriter",
        {
            "pre_freeze": pre_freeze,
            "post_thaw": post_thaw,
            "abort": abort,
            "limit": limit,
            "component": component,
            "paths": [{"path": _absolute(path)} for path in paths],
            "instance_name": instance_name,
        },
    )


def _absolute(path: str) -> str:
    return path if _DRIVE.match(path) else str(Path(path).absolute())


def _run_with(target: str, config: Mapping[str, Any]) -> NoReturn:
    given = {key: value for key, value in config.items() if value is not None}
    try:
        text = toml(given).encode()
    except UnicodeEncodeError:
        raise click.UsageError("A configuration is UTF-8, and an argument is not.") from None
    # Not close-on-exec: the runner, which this process becomes, opens it by its number.
    descriptor = os.memfd_create("writer.toml", 0)
    os.write(descriptor, text)
    run_instead(RUNNER, target, "--config", f"/proc/self/fd/{descriptor}")
