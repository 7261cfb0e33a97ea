"""What becomes another program, in processes of their own."""

import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vssemu.writers.configuration import toml_value

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.booleans()
    | TEXT
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(VALUES)
def test_a_toml_reader_reads_what_was_written(value: object) -> None:
    assert tomllib.loads(f"it = {toml_value(value)}\n") == {"it": value}


def run(program: Path, *arguments: str | bytes) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_a_short_form_hands_its_options_to_the_writers_class(
    program: Callable[[str], Path],
) -> None:
    result = run(program("vssemu"), "writer", "command", "--pre-freeze", "", "--post-thaw", "true")
    assert result.returncode == 2
    assert "pre_freeze, post_thaw and a positive limit are needed" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_writer_of_one_name_twice_is_refused_by_its_class(
    program: Callable[[str], Path],
) -> None:
    result = run(program("vssemu"), "writer", "files", "docs=F:\\a", "docs=F:\\b")
    assert result.returncode == 2
    assert "2 groups with 1 names" in result.stderr


def test_writer_run_hands_over_the_file(program: Callable[[str], Path], tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text('databases = ["/mnt/F/a.db"]\nnonsense = 1\n')
    target = "vssemu.writers.sqlite:SqliteWriter"
    result = run(program("vssemu"), "writer", "run", target, "--config", str(file))
    assert result.returncode == 2
    assert "nonsense" in result.stderr


def test_provider_run_becomes_the_provider_runner(program: Callable[[str], Path]) -> None:
    target = "vssemu.providers.array:ArrayProvider"
    result = run(program("vssemu"), "provider", "run", target)
    assert result.returncode == 2
    assert "0 sockets were passed, not one" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["writer", "files", "no-equals-sign"],
        ["writer", "command", "--pre-freeze", "'", "--post-thaw", "true"],
        ["writer", "command", "--pre-freeze", "a", "--post-thaw", "b", "--limit", "0"],
        ["writer", "sqlite"],
        ["writer", "files", b"a=\xff"],
    ],
    ids=str,
)
def test_wrong_options_of_a_short_form_start_nothing(
    arguments: list[str], program: Callable[[str], Path]
) -> None:
    result = run(program("vssemu"), *arguments)
    assert result.returncode == 2
    assert "Usage: vssemu writer" in result.stderr


def test_vssadmin_under_its_own_name_keeps_windows_codes(program: Callable[[str], Path]) -> None:
    result = run(program("vssadmin"), "delete", "shadows", "/all")
    assert result.returncode == 2
    assert result.stderr == ""
    assert "Error: Invalid command." in result.stdout
    assert run(program("vssadmin"), "-?").returncode == 0


def test_a_reader_that_leaves_ends_vssadmin_quietly(program: Callable[[str], Path]) -> None:
    pipeline = f"{program('vssadmin')} /? | true"
    result = subprocess.run(
        pipeline, shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stderr == ""
