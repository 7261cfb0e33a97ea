"""Every command of `vssemu`, found by walking the tree: none can be forgotten."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from vssemu.tools.main import main

ACTS = {
    "lab up",
    "lab add host",
    "lab add volume",
    "lab remove host",
    "lab remove volume",
    "lab exec",
    "lab logs",
    "lab down",
    "lab poweroff",
    "lab start",
    "array lun delete",
    "array lun mask",
    "array lun unmask",
    "array fault clear",
    "array fault release",
    "array fault volatile",
    "array fault power-on",
    "array writes record",
    "array writes stop",
    "array writes mark",
    "provider register",
    "provider unregister",
    "provider run",
    "writer run",
    "writer sqlite",
    "writer files",
    "writer command",
    "writer faulty",
    "fault set",
    "fault release",
    "fault clear",
    "vds rescan",
    "vds readwrite",
    "vds mask",
    "vds unmask",
    "diskshadow",
}
"""Commands that do something and have no facts to print; the others have --json."""


def walk(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, name
            yield from walk(child, (*path, name))


EVERY = [(path, command) for path, command in walk(main)]
LEAVES = [(path, command) for path, command in EVERY if not isinstance(command, click.Group)]


IDENTITY = ("--id", "6f1e9a52-70c1-4e0b-9d6e-0a5c31d7b2f4", "--name", "n", "--version", "1")


def title(value: object) -> str:
    return " ".join(value) or "vssemu" if isinstance(value, tuple | list) else ""


@pytest.mark.parametrize(("path", "command"), EVERY, ids=title)
def test_every_command_has_help(path: tuple[str, ...], command: click.Command) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0, result.output
    assert command.help
    assert command.help.splitlines()[0] in " ".join(result.output.split())


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=title)
def test_every_command_that_prints_facts_has_json(
    path: tuple[str, ...], command: click.Command
) -> None:
    own_options = {name for each in command.params for name in each.opts}
    has_json = "--json" in own_options or "--json" in (command.help or "")
    assert has_json == (" ".join(path) not in ACTS)


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=title)
def test_every_option_has_help(path: tuple[str, ...], command: click.Command) -> None:
    silent = [
        each.name
        for each in command.params
        if isinstance(each, click.Option) and not each.help and not each.hidden
    ]
    assert silent == []


def test_the_list_of_acting_commands_has_no_stale_names() -> None:
    known = {" ".join(path) for path, _ in LEAVES} | {"diskshadow"}
    assert known >= ACTS


@pytest.mark.parametrize("path", [path for path, _ in EVERY if path], ids=title)
def test_a_wrong_option_is_refused_with_two(path: tuple[str, ...]) -> None:
    if path[-1] in {"vssadmin", "diskshadow"}:
        arguments = [*path, "list", "nonsense"]
    else:
        arguments = [*path, "--no-such-option"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 or path[-1] == "diskshadow"
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["provider", "list"],
        ["provider", "unregister", "6f1e9a52-70c1-4e0b-9d6e-0a5c31d7b2f4"],
        ["provider", "register", *IDENTITY, "--", "true"],
        ["vds", "list"],
        ["vds", "rescan"],
        ["vds", "create-volume", "naa." + "6" * 32],
        ["vds", "readwrite", "F:"],
        ["vds", "letter", "F:", "X:"],
        ["vds", "letter", "--remove", "X:"],
        ["vds", "mask", "naa." + "6" * 32],
        ["vds", "unmask", "naa." + "6" * 32, "systemTwo"],
        ["vds", "clean-up", "{6f1e9a52-70c1-4e0b-9d6e-0a5c31d7b2f4}"],
    ],
    ids=title,
)
def test_outside_a_host_one_line_says_where_to_run_it(arguments: list[str], nowhere: None) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("E_FAIL (0x80004005): no VSS service answers at ")
    assert line.endswith("[run this inside a host: vssemu lab exec HOST -- COMMAND]")


@pytest.mark.parametrize(
    "arguments",
    [
        ["lun", "list"],
        ["lun", "create", "1G"],
        ["lun", "delete", "naa." + "6" * 32],
        ["lun", "extend", "naa." + "6" * 32, "2G"],
        ["lun", "mask", "naa." + "6" * 32, "systemOne"],
        ["lun", "unmask", "naa." + "6" * 32, "systemOne"],
        ["pool", "status"],
    ],
    ids=title,
)
def test_without_an_array_one_line_says_how_to_start_it(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["array", *arguments, "--name", "no-such-lab"])
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "the array of lab no-such-lab does not answer" in line
    assert line.endswith("[vssemu lab up --name no-such-lab]")
