"""`vssemu array fault` and `vssemu array writes`: what reaches the array, what is printed."""

import json
import shutil
import tempfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from tests.unit.tools.conftest import Run, naa
from tests.unit.tools.scripted import ScriptedService
from vssemu.api.lunfaults import Loss, PowerStatus, WriteLogStatus, lun_faults
from vssemu.faults.luns import LunFault, LunFaultKind, LunFaultStatus, parse_sectors
from vssemu.faults.writelog import LogHeader, LogWriter
from vssemu.lab import paths
from vssemu.tools.main import main
from vssemu.vss.errors import BadState

LUN = naa(1)
BAD = LunFault(kind=LunFaultKind.READ_ERROR, sectors=parse_sectors("8-15"), seed=3, times=2)


@pytest.fixture
async def array(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedService]:
    directory = Path(tempfile.mkdtemp(prefix="vs-", dir="/tmp"))
    monkeypatch.setattr(paths, "RUN", directory)
    (directory / "t1").mkdir()
    answers: dict[str, Any] = {
        "set_lun_fault": lambda lun, fault: fault,
        "list_lun_faults": [LunFaultStatus(lun=LUN, fault=BAD, met=1, standing=0)],
        "clear_lun_faults": 2,
        "release_lun": 1,
        "power_loss": Loss(seed=7, blocks=10, lost=4),
        "list_lun_power": [
            PowerStatus(
                origin=LUN, is_volatile=True, is_off=True, back_at=None, pending=8192, losses=1
            )
        ],
        "stop_writes": 12,
        "mark_writes": 5,
        "list_recordings": [WriteLogStatus(lun=LUN, log="/tmp/l", entries=3, failed=None)],
    }
    service = ScriptedService(directory / "t1" / "array.sock", answers, (lun_faults,))
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(service.serve)
            yield service
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--read-error"], LunFault(kind=LunFaultKind.READ_ERROR)),
        (
            ["--write-error", "--sectors", "0-7,64", "--times", "3", "--after", "1"],
            LunFault(
                kind=LunFaultKind.WRITE_ERROR, sectors=parse_sectors("0-7,64"), times=3, after=1
            ),
        ),
        (
            ["--flush-error", "--probability", "0.5", "--seed", "9"],
            LunFault(kind=LunFaultKind.FLUSH_ERROR, probability=0.5, seed=9),
        ),
        (["--latency", "0.25"], LunFault(kind=LunFaultKind.LATENCY, seconds=0.25)),
        (["--stuck"], LunFault(kind=LunFaultKind.STUCK)),
    ],
)
async def test_a_fault_reaches_the_array_as_it_was_typed(
    options: list[str], expected: LunFault, array: ScriptedService, vssemu: Run
) -> None:
    result = await vssemu("array", "fault", "set", LUN, *options, "--name", "t1")
    assert result.exit_code == 0, result.output
    assert array.asked("set_lun_fault") == [{"lun": LUN, "fault": expected}]
    assert expected.describe() in result.stdout


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--read-error", "--latency", "1"],
        ["--read-error", "--sectors", "9-3"],
        ["--read-error", "--probability", "0"],
        ["--latency", "0"],
        ["--latency", "nan"],
        ["--flush-error", "--sectors", "0-7"],
        ["--stuck", "--times", "-1"],
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused_with_two(
    options: list[str], array: ScriptedService, vssemu: Run
) -> None:
    result = await vssemu("array", "fault", "set", LUN, *options, "--name", "t1")
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert array.calls == []


async def test_what_is_set_is_listed(array: ScriptedService, vssemu: Run) -> None:
    result = await vssemu("array", "fault", "list", "--name", "t1")
    assert result.stdout.splitlines()[1].split() == [
        LUN, "read-error,", "sectors", "8-15,", "2", "times", "1", "0"
    ]  # fmt: skip
    result = await vssemu("array", "fault", "list", "--name", "t1", "--json")
    assert json.loads(result.stdout) == [
        {
            "lun": LUN,
            "kind": "read-error",
            "sectors": ["8-15"],
            "seconds": None,
            "probability": 1.0,
            "seed": 3,
            "times": 2,
            "after": 0,
            "met": 1,
            "standing": 0,
        }
    ]


async def test_power_and_recordings_are_listed(array: ScriptedService, vssemu: Run) -> None:
    result = await vssemu("array", "fault", "power", "--name", "t1")
    assert result.stdout.splitlines()[1].split() == [LUN, "yes", "off", "8.0", "KiB", "1"]
    result = await vssemu("array", "fault", "power", "--name", "t1", "--json")
    assert json.loads(result.stdout)[0]["is_off"] is True
    result = await vssemu("array", "writes", "recordings", "--name", "t1")
    assert result.stdout.splitlines()[1].split() == [LUN, "/tmp/l", "3", "-"]
    result = await vssemu("array", "writes", "recordings", "--name", "t1", "--json")
    assert json.loads(result.stdout)[0]["entries"] == 3


async def test_every_call_reaches_the_array(array: ScriptedService, vssemu: Run) -> None:
    said = []
    for words in (
        ["fault", "clear"],
        ["fault", "clear", LUN],
        ["fault", "release", LUN],
        ["fault", "volatile", LUN, "on"],
        ["fault", "volatile", LUN, "off"],
        ["fault", "power-loss", LUN, "--seed", "7", "--back-after", "2"],
        ["fault", "power-on", LUN],
        ["writes", "record", LUN, "--log", "/tmp/x.log"],
        ["writes", "mark", LUN, "here"],
        ["writes", "stop", LUN],
    ):
        result = await vssemu("array", *words, "--name", "t1")
        assert result.exit_code == 0, result.output
        said.append(result.stdout)
    assert array.calls == [
        ("clear_lun_faults", {"lun": None}),
        ("clear_lun_faults", {"lun": LUN}),
        ("release_lun", {"lun": LUN}),
        ("set_volatile", {"lun": LUN, "volatile": True}),
        ("set_volatile", {"lun": LUN, "volatile": False}),
        ("power_loss", {"lun": LUN, "seed": 7, "back_after": 2.0}),
        ("power_on", {"lun": LUN}),
        ("record_writes", {"lun": LUN, "log": "/tmp/x.log"}),
        ("mark_writes", {"lun": LUN, "name": "here"}),
        ("stop_writes", {"lun": LUN}),
    ]
    assert "4 of 10 blocks not flushed are lost, seed 7; back in 2 s" in said[5]


async def test_a_log_is_named_as_it_is_from_here(
    array: ScriptedService, vssemu: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = await vssemu("array", "writes", "record", LUN, "--log", "l", "--name", "t1")
    assert result.exit_code == 0, result.output
    assert array.asked("record_writes") == [{"lun": LUN, "log": str(tmp_path / "l")}]


async def test_another_engine_says_what_to_do(array: ScriptedService, vssemu: Run) -> None:
    array.answers["set_lun_fault"] = BadState(
        "LUNs of the engine reflink have no faults", hint="vssemu lab up --engine cow"
    )
    result = await vssemu("array", "fault", "set", LUN, "--stuck", "--name", "t1")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "VSS_E_BAD_STATE (0x80042301): LUNs of the engine reflink have no faults"
        " [vssemu lab up --engine cow]"
    ]


# --- logs


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    with LogWriter.create(path, LogHeader(lun=LUN, size=1 << 20)) as writer:
        writer.write(4096, memoryview(b"a" * 4096))
        writer.flush(1)
        writer.mark("here")
        writer.zero(4096, 4096)
    return path


def writes(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["array", "writes", *map(str, words)])


def test_a_log_is_listed_without_a_lab(log: Path) -> None:
    result = writes("list", log, "--json")
    facts = json.loads(result.stdout)
    assert [(one["number"], one["kind"]) for one in facts] == [
        (1, "write"),
        (2, "flush"),
        (3, "mark"),
        (4, "zero"),
    ]
    checksum = f"{zlib.crc32(b'a' * 4096):08x}"
    assert (facts[0]["offset"], facts[0]["length"], facts[0]["crc32"]) == (4096, 4096, checksum)
    assert (facts[1]["covers"], facts[2]["name"]) == (1, "here")
    assert "covers entries up to 1" in writes("list", log).stdout


def test_a_torn_tail_is_left_out_with_a_word(log: Path) -> None:
    with log.open("ab") as file:
        file.write(bytes(10))
    result = writes("list", log, "--json")
    assert len(json.loads(result.stdout)) == 4
    assert result.stderr == "left out: 10 bytes of an entry that was cut off at the end\n"


@pytest.mark.parametrize(
    ("limit", "is_there"),
    [([], False), (["--to", "1"], True), (["--to-mark", "here"], True), (["--to", "0"], False)],
)
def test_a_log_is_replayed_up_to_a_limit(
    log: Path, tmp_path: Path, limit: list[str], is_there: bool
) -> None:
    image = tmp_path / "image"
    result = writes("replay", log, "--onto", image, *limit)
    assert result.exit_code == 0, result.output
    assert image.stat().st_size == 1 << 20
    assert image.read_bytes()[4096:8192] == (b"a" if is_there else b"\0") * 4096


def test_a_time_is_read_as_the_list_writes_it(log: Path, tmp_path: Path) -> None:
    second = json.loads(writes("list", log, "--json").stdout)[1]["time"]
    shown = writes("list", log).stdout.splitlines()[2].split()[1]
    for text in (str(second), shown):
        result = writes("replay", log, "--onto", tmp_path / "i", "--to-time", text, "--json")
        assert json.loads(result.stdout)["entries"] >= 1, result.output
    assert writes("replay", log, "--onto", tmp_path / "i", "--to-time", "noon").exit_code == 2
    both = writes("replay", log, "--onto", tmp_path / "i", "--to", "1", "--to-mark", "x")
    assert both.exit_code == 2


def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "no"
    path.write_bytes(bytes(100))
    result = writes("list", path)
    assert result.exit_code == 1
    assert "is no whole write log" in result.stderr
