"""`vssemu lab` as a user types it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.lab.conftest import Labs
from tests.rig.lab.labrig import (
    ENGINE,
    ONE,
    ROOT,
    TWO,
    VSSEMU,
    Rig,
    assert_nothing_left,
    left_of,
    prepared,
)
from vssemu.lab.paths import LABS, RUN


def vssemu(*argv: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [VSSEMU, *argv], capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT
    )


def started(*argv: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [VSSEMU, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def assert_one_line(text: str) -> None:
    assert text.count("\n") == 1, text
    assert "Traceback" not in text


@pytest.fixture
def by_hand(labs: Labs) -> "list[Rig]":
    """Names for two labs that the test itself brings up; the count at the end covers them."""
    return [labs.new(), labs.new()]


def test_two_labs_live_at_once_and_up_again_has_nothing_to_do(by_hand: list[Rig]) -> None:
    first, second = by_hand
    options = ["--volume", "F:=32M", "--hosts", ONE, "--engine", ENGINE]
    try:
        ups = [started("lab", "up", "--name", rig.name, *options) for rig in by_hand]
        for up, rig in zip(ups, by_hand, strict=True):
            out, error = up.communicate(timeout=60)
            assert (up.returncode, error) == (0, "")
            assert out == f"lab {rig.name} is up: {ONE}\n"
        pids = first.pids(None, "vssemu.daemons.arrayd")
        again = vssemu("lab", "up", "--name", first.name, *options)
        assert (again.returncode, again.stdout) == (0, f"lab {first.name} was up already\n")
        other = vssemu("lab", "up", "--name", first.name, "--volume", "G:=32M")
        assert other.returncode == 1
        assert "VSS_E_BAD_STATE" in other.stderr
        assert_one_line(other.stderr)
        assert first.pids(None, "vssemu.daemons.arrayd") == pids, "the refused up hurt nothing"
        for rig in by_hand:
            rig.path(ONE, "/mnt/F/of").write_text(rig.name)
        assert [rig.run(ONE, "cat", "/mnt/F/of") for rig in by_hand] == [
            first.name,
            second.name,
        ]
        with first.backup(ONE) as one, second.backup(ONE) as two:
            requesters = one, two
            for requester in requesters:
                prepared(requester, context=0)
            creations = [requester.do_snapshot_set.begin() for requester in requesters]
            for number, rig in enumerate(by_hand):
                creations[number].wait()
                (copy,) = requesters[number].query()
                assert (rig.path(ONE, copy.device_object) / "of").read_text() == rig.name
        for rig in by_hand:
            rig.seen_luns.update(rig.lun_ids())
        assert vssemu("lab", "down", "--name", first.name).returncode == 0
        assert_nothing_left(first)
        assert second.run(ONE, "cat", "/mnt/F/of") == second.name
        status = json.loads(vssemu("lab", "status", "--json", "--name", second.name).stdout)
        assert [(h["name"], h["volumes"]) for h in status["hosts"]] == [(ONE, ["F:\\"])]
        assert status["array"]["pid"] in second.pids(None, "vssemu.daemons.arrayd")
    finally:
        for rig in by_hand:
            rig.down()


def test_two_ups_of_one_lab_at_once_bring_it_up_once(by_hand: list[Rig]) -> None:
    rig = by_hand[0]
    try:
        options = "--hosts", ONE, "--engine", ENGINE
        ups = [started("lab", "up", "--name", rig.name, *options) for _ in range(2)]
        said = sorted(up.communicate(timeout=60)[0] for up in ups)
        assert [up.returncode for up in ups] == [0, 0]
        assert said == [f"lab {rig.name} is up: {ONE}\n", f"lab {rig.name} was up already\n"]
        assert len(rig.pids(None, "vssemu.daemons.arrayd")) == 1
    finally:
        downs = [started("lab", "down", "--name", rig.name) for _ in range(2)]
        said = sorted(down.communicate(timeout=60)[0] for down in downs)
        assert [down.returncode for down in downs] == [0, 0]
        assert said == [f"lab {rig.name} is down\n", f"there is no lab {rig.name}\n"]
        assert_nothing_left(rig)


def test_down_of_what_is_not_there_is_well_done(by_hand: list[Rig]) -> None:
    done = vssemu("lab", "down", "--name", by_hand[0].name)
    assert (done.returncode, done.stderr) == (0, "")
    assert_nothing_left(by_hand[0])


@pytest.mark.parametrize("status", [0, 1, 3, 77, 255])
def test_the_exit_status_of_a_program_passes_through(lab: Rig, status: int) -> None:
    assert lab.exec(TWO, "sh", "-c", f"exit {status}").returncode == status


def test_a_program_that_dies_of_a_signal_gives_what_a_shell_gives(lab: Rig) -> None:
    assert lab.exec(TWO, "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM


def test_a_program_that_is_not_there_gives_127_and_one_line(lab: Rig) -> None:
    done = lab.exec(TWO, "no-such-program")
    assert done.returncode == 127
    assert_one_line(done.stderr)


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["exec", "--name", "{name}", "systemNine", "--", "true"], "VSS_E_OBJECT_NOT_FOUND"),
        (["exec", "--name", "no-such-lab", ONE, "--", "true"], "VSS_E_OBJECT_NOT_FOUND"),
        (["poweroff", "--name", "{name}", "systemNine"], "VSS_E_OBJECT_NOT_FOUND"),
        (["status", "--name", "no-such-lab"], "VSS_E_OBJECT_NOT_FOUND"),
        (["up", "--name", "no/slash"], "E_INVALIDARG"),
        (["up", "--name", "bad-size", "--volume", "F:=12Q"], "E_INVALIDARG"),
        (["up", "--name", "bad-fs", "--volume", "F:=32M:ntfs"], "E_INVALIDARG"),
        (["up", "--name", "bad-host", "--volume", "F:=32M@nobody"], "E_INVALIDARG"),
        (["up", "--name", "twice", "--hosts", "a,a"], "E_INVALIDARG"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(
    lab: Rig, argv: list[str], code: str
) -> None:
    done = vssemu("lab", *(word.format(name=lab.name) for word in argv))
    assert done.returncode == 1, done
    assert code in done.stderr
    assert_one_line(done.stderr)
    for name in ("no-such-lab", "bad-size", "bad-fs", "bad-host", "twice"):
        assert not (LABS / name).exists()
        assert not (RUN / name).exists()


def test_a_wrong_command_line_is_status_2() -> None:
    assert vssemu("lab", "up", "--no-such-option").returncode == 2
    assert vssemu("lab", "no-such-verb").returncode == 2


def test_an_up_that_fails_leaves_nothing(by_hand: list[Rig], scratch: Path) -> None:
    """The pool cannot be made: its directory has a file where the pool's root must be."""
    rig = by_hand[0]
    pool = scratch / "pool"
    pool.mkdir()
    (pool / "root").write_text("in the way")
    options = "--pool", str(pool), "--engine", ENGINE
    done = vssemu("lab", "up", "--name", rig.name, *options, timeout=100)
    assert done.returncode == 1
    assert_one_line(done.stderr)
    assert_nothing_left(rig)
    assert (pool / "root").read_text() == "in the way"
    shutil.rmtree(pool)


def test_an_up_that_is_killed_is_taken_away_by_down(by_hand: list[Rig]) -> None:
    rig = by_hand[0]
    up = started("lab", "up", "--name", rig.name, "--volume", "F:=32M", "--engine", ENGINE)
    while not left_of(rig.name, []):
        assert up.poll() is None
    up.kill()
    up.communicate()
    done = vssemu("lab", "down", "--name", rig.name)
    assert done.returncode == 0, done.stderr
    assert_nothing_left(rig)


def test_a_host_switched_off_is_shown_as_off_and_starts_again(
    own_lab: Callable[..., Rig],
) -> None:
    rig = own_lab("F:=32M")
    rig.path(ONE, "/mnt/F/kept").write_text("kept")
    os.sync()
    assert vssemu("lab", "poweroff", "--name", rig.name, ONE).returncode == 0
    status = json.loads(vssemu("lab", "status", "--json", "--name", rig.name).stdout)
    assert [h["pid"] is None for h in status["hosts"]] == [True, False]
    refused = rig.exec(ONE, "true")
    assert refused.returncode == 1
    assert_one_line(refused.stderr)
    assert vssemu("lab", "poweroff", "--name", rig.name, ONE).returncode == 0
    assert vssemu("lab", "start", "--name", rig.name, ONE).returncode == 0
    assert rig.run(ONE, "cat", "/mnt/F/kept") == "kept"
    # Switching on what is on does nothing.
    assert vssemu("lab", "start", "--name", rig.name, TWO).returncode == 0


def test_a_program_gets_its_streams_and_its_directory(lab: Rig, scratch: Path) -> None:
    done = lab.exec(TWO, sys.executable, "-c", "print(input() * 2)", input="ab\n", cwd=scratch)
    assert (done.stdout, done.stderr) == ("abab\n", "")
    assert lab.run(TWO, "pwd", cwd=scratch) == f"{scratch}\n"


def test_a_pool_that_was_kept_gives_the_same_volume_back(own_lab: Callable[..., Rig]) -> None:
    rig = own_lab("F:=64M", pool=True)
    rig.path(ONE, "/mnt/F/kept").write_text("still here")
    before = rig.lun_ids()
    rig.lab.down()
    rig.up("F:=64M")
    assert rig.lun_ids() == before
    assert rig.path(ONE, "/mnt/F/kept").read_text() == "still here"
