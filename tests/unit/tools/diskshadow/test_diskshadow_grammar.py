"""The commands as data."""

from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.tools.diskshadow import grammar, requests
from vssemu.tools.diskshadow.commands import DOING
from vssemu.tools.diskshadow.failures import Misused
from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.identity import ARRAY_PROVIDER_ID

ID = UUID("88b2d1ef-3c55-4d9f-a7e4-706f5e4d3c2c")


def read(line: str) -> requests.Request:
    found = grammar.find(line.split())
    assert found is not None
    return found[0].parse(found[1])


@pytest.mark.parametrize("command", grammar.COMMANDS, ids=lambda c: c.name)
def test_every_command_has_a_help_block(command: grammar.Command) -> None:
    block = command.help_block()
    assert block[0] == ""
    assert block[1].startswith(command.name)
    assert block[1].split()[0] == block[1].split()[0].upper()
    assert all(line.startswith("\t") for line in block[2:])


def test_every_request_has_something_that_does_it() -> None:
    kinds = {kind for kind in vars(requests).values() if isinstance(kind, type)}
    wanted = {k for k in kinds if issubclass(k, requests.Request)} - {requests.Request}
    assert wanted == set(DOING)


def test_commands_of_later_work_are_unknown() -> None:
    for line in ("revert x", "resync", "simulate restore"):
        assert grammar.find(line.split()) is None
    for line in ("begin restore", "end restore", "add shadow {x}"):
        with pytest.raises(Misused):
            read(line)


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("SET CONTEXT Persistent NoWriters", requests.SetContext(Context.NAS_ROLLBACK)),
        ("set context volatile", requests.SetContext(Context.BACKUP)),
        ("set context clientaccessible", requests.SetContext(Context.CLIENT_ACCESSIBLE)),
        (
            "set option differential transportable",
            requests.SetOption(Attribute.DIFFERENTIAL | Attribute.TRANSPORTABLE),
        ),
        ("set metadata c:\\a.cab", requests.SetMetadata("c:\\a.cab")),
        ("set verbose ON", requests.SetVerbose(True)),
        ("add volume F:", requests.AddVolume("F:")),
        ("add volume F: alias a", requests.AddVolume("F:", None, "a")),
        (
            f"add volume F: ALIAS 1a PROVIDER {{{ARRAY_PROVIDER_ID}}}",
            requests.AddVolume("F:", ARRAY_PROVIDER_ID, "1a"),
        ),
        (
            f"add volume F: provider {{{ARRAY_PROVIDER_ID}}} alias a",
            requests.AddVolume("F:", ARRAY_PROVIDER_ID, "a"),
        ),
        ("writer exclude System Writer", requests.WriterRule("System Writer", None, True)),
        (
            "writer verify Stock:\\North\\ledger",
            requests.WriterRule("Stock", "\\North\\ledger", False),
        ),
        ("list writers", requests.ListWriters(requests.WriterDetail.METADATA)),
        (f"list shadows set {{{ID}}}", requests.ListShadows(requests.Scope.SET, ID)),
        ("delete shadows oldest F:", requests.DeleteShadows(requests.Scope.OLDEST, place="F:")),
        (f"unexpose {{{ID}}}", requests.Unexpose(ID, f"{{{ID}}}")),
        ("unexpose R:", requests.Unexpose(None, "R:")),
        (f"break {{{str(ID).upper()}}}", requests.Break(ID)),
        (f"break readwrite norevertid {{{ID}}}", requests.Break(ID, True)),
        ("exec C:\\vss\\tape.cmd", requests.Exec("C:\\vss\\tape.cmd")),
        ("?", requests.Help()),
        ("quit", requests.Exit()),
    ],
)
def test_a_line_is_read(line: str, request_: requests.Request) -> None:
    assert read(line) == request_


@pytest.mark.parametrize(
    "line",
    [
        "end backu",
        "set context",
        "set context nowriters",
        "set option plex differential",
        "set option noautorecover txfrecover",
        "set option persistent",
        "add volume",
        "add volume F: alias",
        "add volume F: alias a alias b",
        "add volume F: provider 6f1e9a52-70c1-4e0b-9d6e-0a5c31d7b2f4",
        "add alias a%b c",
        "list shadows",
        "list shadows id",
        "list shadows volume F:",
        "delete shadows id x",
        "expose {x} R:",
        "break nonsense {88b2d1ef-3c55-4d9f-a7e4-706f5e4d3c2c}",
        "create now",
        "writer",
        "exec",
        "mask",
    ],
)
def test_a_wrong_line_is_misused(line: str) -> None:
    with pytest.raises(Misused):
        read(line)


def test_the_official_samples_mistake_is_explained() -> None:
    with pytest.raises(Misused, match="SET OPTION TRANSPORTABLE"):
        read("SET CONTEXT TRANSPORTABLE")


KEYWORDS = sorted({word for command in grammar.COMMANDS for word in command.keywords})


@given(st.lists(st.sampled_from([*KEYWORDS, "{x}", "F:", "alias", "all", "", ":\\", "\\"])))
def test_no_words_crash_a_parser(words: list[str]) -> None:
    found = grammar.find(words)
    if found is None:
        return
    with suppress(Misused):
        assert isinstance(found[0].parse(found[1]), requests.Request)
