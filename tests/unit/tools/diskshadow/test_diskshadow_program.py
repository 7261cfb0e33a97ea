"""The program: arguments, prompt, log, and scripts of any bytes."""

import io
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.tools.diskshadow.double import FakeVss, diskshadow, diskshadow_file
from tests.unit.tools.diskshadow.machine import Machine
from vssemu.api.blocking import Vss
from vssemu.tools.diskshadow import grammar
from vssemu.tools.diskshadow.command import CommandLine, parse, run
from vssemu.tools.diskshadow.failures import Failed, Misused
from vssemu.tools.diskshadow.paths import Roots, is_share, load_roots


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], CommandLine()),
        (["/?"], CommandLine(is_help=True)),
        (["--help"], CommandLine(is_help=True)),
        (["/l", "x"], CommandLine(log="x")),
        (
            ["-S", "/tmp/a.dsh", "/data/p1", "P2", "/L", "/tmp/log"],
            CommandLine(script="/tmp/a.dsh", parameters=("/data/p1", "P2"), log="/tmp/log"),
        ),
        (["/log", "x", "/s", "y"], CommandLine(script="y", log="x")),
    ],
)
def test_arguments_are_read(arguments: list[str], line: CommandLine) -> None:
    assert parse(arguments) == line


@pytest.mark.parametrize("arguments", [["list", "shadows", "all"], ["/s"], ["/x"], ["/l"]])
def test_wrong_arguments_are_misused(arguments: list[str]) -> None:
    with pytest.raises(Misused):
        parse(arguments)
    out = io.StringIO()
    assert run(arguments, out=out) == 1
    assert "DISKSHADOW [/s" in out.getvalue()


def test_every_start_prints_the_banner(tmp_path: Path) -> None:
    out = io.StringIO()
    assert run(["/?"], out=out) == 0
    lines = out.getvalue().split("\n")
    assert lines[0] == "Microsoft DiskShadow version 1.0"
    assert lines[2].startswith("On computer:  ")
    assert ",  " in lines[2]
    assert lines[3] == ""


def test_a_script_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    out = io.StringIO()
    assert run(["/s", str(tmp_path / "none")], out=out) == 2
    assert "No such file" in out.getvalue()
    script = tmp_path / "utf16.dsh"
    script.write_bytes("create\r\n".encode("utf-16"))
    out = io.StringIO()
    assert run(["/s", str(script)], out=out) == 1
    assert "UTF-16" in out.getvalue()


def test_the_prompt_survives_failures_and_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["create", "nonsense", "", "# text", "list shadows all", "exit"])
    monkeypatch.setattr("builtins.input", lambda _prompt: next(typed))
    out = io.StringIO()
    log = tmp_path / "log.txt"
    status = run(["/l", str(log)], out=out, connect=lambda: cast("Vss", FakeVss(Machine())))
    assert status == 0
    assert "No shadow copies found in system." in out.getvalue()
    assert "DISKSHADOW> list shadows all\n\nNo shadow copies" in log.read_text()


def test_the_end_of_input_ends_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", end)
    assert run([], out=io.StringIO()) == 0


def test_a_failing_exec_ends_the_prompt_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["exec false", "help"])
    monkeypatch.setattr("builtins.input", lambda _prompt: next(typed))
    assert run([], out=io.StringIO(), environment={"PATH": "/usr/bin:/bin"}) == 2
    assert next(typed) == "help"


def test_ctrl_c_ends_the_program_with_all_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    typed = iter(["add volume F:", "create"])

    def ask(_prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.chdir(tmp_path)
    assert run([], out=io.StringIO(), connect=lambda: cast("Vss", FakeVss(machine))) == 2
    assert "DoSnapshotSet" in machine.log
    assert machine.sets == {}


def test_a_machine_without_the_service_is_told_so(tmp_path: Path) -> None:
    def connect() -> Vss:
        raise FileNotFoundError(2, "No such file or directory", "/run/vssemu/vss.sock")

    script = tmp_path / "a.dsh"
    script.write_text("list shadows all\n")
    out = io.StringIO()
    assert run(["/s", str(script)], out=out, connect=connect) == 2
    assert "no VSS service answers at /run/vssemu/vss.sock" in out.getvalue()


def test_a_full_log_is_given_up_and_the_script_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "a.dsh"
    script.write_text("set\nexit\n")
    out = io.StringIO()
    assert run(["/s", str(script), "/l", "/dev/full"], out=out) == 0
    assert out.getvalue().count("The log file cannot be written any more: No space") == 1
    assert "-> exit" in out.getvalue()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("C:\\xfer\\db.cab", "/mnt/C/xfer/db.cab"),
        ("c:/xfer", "/mnt/C/xfer"),
        ("\\srv\\x", "/srv/x"),
        ("\\", "/"),
        ("/srv/a\\b", "/srv/a\\b"),
        ("D:\\deep\\x", "/data/deep/x"),
        ("D:\\deep", "/data/deep"),
        ("D:\\deeper", "/mnt/D/deeper"),
        ("\\\\filer\\share\\x", "/net/filer/x"),
        ("x\\y.cab", None),
    ],
)
def test_windows_paths_have_a_place(text: str, path: str | None) -> None:
    roots = Roots((("\\\\filer\\share", "/net/filer"), ("D:\\deep", "/data/deep")))
    assert roots.linux(text) == (Path.cwd() / "x/y.cab" if path is None else Path(path))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("r:", "R:\\"),
        ("R:\\", "R:\\"),
        ("/mnt/R", "R:\\"),
        ("C:\\mnt\\logs", "/mnt/C/mnt/logs/"),
        ("/srv/x/", "/srv/x/"),
    ],
)
def test_places_have_the_services_names(text: str, place: str) -> None:
    assert Roots().place(text) == place


def test_volume_guid_paths_get_their_separator() -> None:
    guid = "2a3f4e5d-0000-0000-0000-100000000000"
    name = f"\\\\?\\Volume{{{guid}}}\\"
    assert Roots().volume(name[:-1].upper()) == name
    with pytest.raises(Failed):
        Roots().volume("\\\\?\\Volume{x}\\")


def test_shares_are_told_from_places() -> None:
    assert is_share("backup")
    assert is_share("\\\\one\\backup")
    assert not is_share("R:")
    assert not is_share("\\\\?\\Volume{x}\\")
    with pytest.raises(Failed, match="paths"):
        Roots().linux("\\\\one\\backup\\x")


def test_the_paths_table_is_read_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "vssemu.toml"
    assert load_roots(file) == Roots()
    file.write_text('[paths]\n"C:\\\\" = "/srv/c"\n"C:\\\\data" = "/data"\n')
    assert load_roots(file) == Roots((("C:\\data", "/data"), ("C:", "/srv/c")))
    for wrong in ("paths = 1\n", '[paths]\n"C:" = "relative"\n', "[paths"):
        file.write_text(wrong)
        with pytest.raises(Failed, match=str(file)):
            load_roots(file)


WORDS = st.one_of(
    st.sampled_from(sorted({word for c in grammar.COMMANDS for word in c.keywords})),
    st.sampled_from(["F:", "all", "alias", "a", "%a%", "%%", '"', "#", "persistent", "/?"]),
    st.text(max_size=8),
)
# EXEC would run what the words say, and EXIT ends the script.
SAFE = WORDS.filter(lambda word: word.lower() not in {"exec", "exit", "quit", "metadata"})


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.lists(SAFE, max_size=5).map(" ".join), max_size=4))
def test_no_script_ends_in_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "x.dsh"
    script.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    ran = diskshadow_file(Machine(), script, environment={"a": "b c"})
    assert ran.status in {0, 1, 2}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200).filter(lambda data: b"exec" not in data.lower()))
def test_no_bytes_end_in_a_traceback(tmp_path: Path, data: bytes) -> None:
    script = tmp_path / "x.dsh"
    script.write_bytes(data)
    assert diskshadow_file(Machine(), script).status in {0, 1, 2}


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    ran = diskshadow(Machine(), tmp_path, "add alias a " + "x" * 10_000)
    assert ran.status == 1
    assert "8191 characters" in ran.text


@pytest.mark.parametrize("command", ["set metadata", "exec", "load metadata"])
def test_a_name_that_the_system_does_not_take_is_one_line(tmp_path: Path, command: str) -> None:
    ran = diskshadow(Machine(), tmp_path, f"{command} /tmp/{'x' * 300}")
    assert ran.status == 2
    assert "File name too long" in ran.lines[1]
    assert len(ran.lines) == 2


def test_the_program_ends_quietly_when_nobody_reads_it(tmp_path: Path) -> None:
    script = tmp_path / "a.dsh"
    script.write_text("help\n" * 50)
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "vssemu.tools.diskshadow", "/s", str(script)],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (2, b"")
