"""`vssemu fault`: what is written into the directory, what is refused and how."""

import json
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from vssemu.faults import POINTS, Fault, FaultPoints, FaultStore
from vssemu.lab import paths
from vssemu.tools import fault, inside
from vssemu.tools.main import main

POINT = ("provider", "commit_snapshots")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultStore:
    """The faults of a host that the command runs in, as root."""
    socket = tmp_path / "vss.sock"
    socket.touch()
    monkeypatch.setattr(inside, "SOCKET", socket)
    monkeypatch.setattr(fault, "HOST_DIRECTORY", tmp_path / "faults")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(paths, "LABS", tmp_path / "labs")
    return FaultStore(tmp_path / "faults")


@pytest.fixture
def lab(tmp_path: Path) -> FaultStore:
    """The faults of the array of a lab that there is."""
    state = tmp_path / "labs" / "t1"
    state.mkdir(parents=True)
    (state / "lab.json").write_text('{"name": "t1", "hosts": ["one"], "volumes": []}')
    return FaultStore(state / "faults")


def vssemu_fault(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["fault", *arguments])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--code", "VSS_E_PROVIDER_VETO"], Fault(*POINT, "code", "VSS_E_PROVIDER_VETO")),
        (["--raise", "ouch"], Fault(*POINT, "raise", "ouch")),
        (["--raise"], Fault(*POINT, "raise")),
        (["--delay", "1.5"], Fault(*POINT, "delay", 1.5)),
        (["--hang"], Fault(*POINT, "hang")),
        (["--crash", "--skip", "2"], Fault(*POINT, "crash", skip=2)),
        (["--stop", "--times", "0"], Fault(*POINT, "stop", times=0)),
    ],
)
def test_set_arms_one_fault(store: FaultStore, options: list[str], expected: Fault) -> None:
    result = vssemu_fault("set", *POINT, *options)
    assert result.exit_code == 0, result.output
    assert store.armed() == [expected]
    assert expected.describe() in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["provider", "commit_snapshot", "--crash"], "commit_snapshots"),
        (["providr", "commit_snapshots", "--crash"], "provider"),
        (["service:two", "creation.hold", "--crash"], "service"),
        ([*POINT, "--code", "VSS_E_PROVIDER_VET"], "VSS_E_PROVIDER_VETO"),
        ([*POINT, "--code", "S_OK"], "S_OK"),
        (["writer", "freeze", "--code", "VSS_E_PROVIDER_VETO"], "VSS_E_WRITERERROR_RETRYABLE"),
        ([*POINT, "--delay", "-1"], "--delay"),
        ([*POINT, "--crash", "--times", "-1"], "--times"),
        ([*POINT], "--hang"),
        ([*POINT, "--crash", "--hang"], "--crash"),
    ],
)
def test_a_wrong_line_is_two_and_names_what_is_near(
    store: FaultStore, arguments: list[str], words: str
) -> None:
    result = vssemu_fault("set", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr.splitlines()[-1]
    assert not store.directory.exists()


async def test_list_shows_counts_and_who_stands_where(store: FaultStore) -> None:
    store.arm(Fault(*POINT, "stop", times=2, skip=1))
    points = FaultPoints(store.directory, "provider")
    await points.reach("commit_snapshots")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(points.reach, "commit_snapshots")
        await trio.to_thread.run_sync(lambda: store.wait_reached(*POINT))
        store.arm(Fault("writer", "freeze", "delay", 2.0, times=3))
        listed = json.loads(vssemu_fault("list", "--json").stdout)
        table = vssemu_fault("list").stdout
        assert vssemu_fault("release", *POINT).exit_code == 0
    common = {"value": None, "standing": True}
    assert listed == [
        {"where": "provider", "point": POINT[1], "action": "stop", "times": 1, "skip": 0} | common,
        {
            "where": "writer",
            "point": "freeze",
            "action": "delay",
            "value": 2.0,
            "times": 3,
            "skip": 0,
            "standing": False,
        },
    ]
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [
        list(POINT),
        list(POINT),
        ["writer", "freeze"],
    ]


def test_clear_takes_back_what_is_named(store: FaultStore) -> None:
    for where, name in (POINT, ("provider", "on_load"), ("writer", "freeze")):
        store.arm(Fault(where, name, "crash"))
    assert vssemu_fault("clear", *POINT).stdout == "1 fault taken back\n"
    assert vssemu_fault("clear", "provider").stdout == "1 fault taken back\n"
    assert [each.where for each in store.armed()] == ["writer"]
    assert vssemu_fault("clear").exit_code == 0
    assert vssemu_fault("clear").stdout == "0 faults taken back\n"
    assert store.armed() == []


def test_nobody_stands_there_is_a_failure_of_one_line(store: FaultStore) -> None:
    result = vssemu_fault("release", *POINT)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("VSS_E_OBJECT_NOT_FOUND")
    assert len(result.stderr.splitlines()) == 1


def test_points_lists_every_point(store: FaultStore) -> None:
    listed = json.loads(vssemu_fault("points", "--json").stdout)
    assert {(one["where"], one["point"]) for one in listed} == {
        (where, name) for where, names in POINTS.items() for name in names
    }
    assert all(one["text"] for one in listed)
    lines = vssemu_fault("points", "writer:db").stdout.splitlines()
    assert len(lines) == 1 + len(POINTS["writer"])


def test_the_array_is_reached_by_the_name_of_its_lab(store: FaultStore, lab: FaultStore) -> None:
    assert vssemu_fault("set", "array", "commit", "--crash", "--name", "t1").exit_code == 0
    assert lab.armed() == [Fault("array", "commit", "crash")]
    assert store.armed() == []
    listed = json.loads(vssemu_fault("list", "--json", "--name", "t1").stdout)
    assert [one["where"] for one in listed] == ["array"]
    assert vssemu_fault("clear", "--name", "t1").stdout == "1 fault taken back\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["set", "array", "commit", "--crash", "--name", "t2"], "vssemu lab up --name t2"),
        (["set", *POINT, "--crash", "--name", "t1"], "vssemu lab exec --name t1 HOST"),
    ],
)
def test_the_wrong_place_is_told_with_the_right_one(
    store: FaultStore, lab: FaultStore, arguments: list[str], words: str
) -> None:
    result = vssemu_fault(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert words in line


def test_outside_a_host_one_line_says_where_to_run_it(
    store: FaultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "SOCKET", tmp_path / "nothing.sock")
    result = vssemu_fault("set", *POINT, "--crash")
    assert result.exit_code == 1
    assert "vssemu lab exec HOST" in result.stderr


def test_an_ordinary_user_is_refused(store: FaultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = vssemu_fault("set", *POINT, "--crash")
    assert result.exit_code == 1
    assert result.stderr.startswith("E_ACCESSDENIED")
