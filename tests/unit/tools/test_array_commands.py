"""`vssemu array` against an array's administration on a real socket."""

import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.unit.tools.conftest import SET, Run, lun_information, naa
from tests.unit.tools.scripted import ScriptedService
from vssemu.api.array import admin
from vssemu.lab import paths
from vssemu.vss.array import ArrayLun, LunKind, LunState, PoolCondition, PoolStatus
from vssemu.vss.errors import BadState
from vssemu.vss.identity import Initiator

BASE = ArrayLun(
    id=naa(1),
    serial="0123",
    size=1 << 30,
    allocated=3 << 20,
    kind=LunKind.BASE,
    engine="reflink",
    state=LunState.READY,
    origin=None,
    set_id=None,
    masked_to=(Initiator("systemOne"),),
    information=lun_information(1),
)
COPY = ArrayLun(
    id=naa(2),
    serial="4567",
    size=1 << 30,
    allocated=0,
    kind=LunKind.DIFFERENTIAL,
    engine="reflink",
    state=LunState.COMMITTED,
    origin=naa(1),
    set_id=SET,
    masked_to=(),
    information=lun_information(2),
)


@pytest.fixture
async def array(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedService]:
    directory = Path(tempfile.mkdtemp(prefix="vs-", dir="/tmp"))
    monkeypatch.setattr(paths, "RUN", directory)
    (directory / "t1").mkdir()
    answers = {"inventory": [BASE, COPY], "create_lun": BASE, "extend_lun": BASE}
    service = ScriptedService(directory / "t1" / "array.sock", answers, (admin,))
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(service.serve)
            yield service
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(directory)


async def test_the_json_of_luns_has_the_promised_fields_and_no_others(
    array: ScriptedService, vssemu: Run
) -> None:
    result = await vssemu("array", "lun", "list", "--name", "t1", "--json")
    assert json.loads(result.stdout) == [
        {
            "id": naa(1),
            "serial": "0123",
            "size": 1 << 30,
            "allocated": 3 << 20,
            "origin": None,
            "engine": "reflink",
            "kind": "base",
            "masked_to": ["systemOne"],
            "set_id": None,
            "state": "ready",
        },
        {
            "id": naa(2),
            "serial": "4567",
            "size": 1 << 30,
            "allocated": 0,
            "origin": naa(1),
            "engine": "reflink",
            "kind": "differential",
            "masked_to": [],
            "set_id": str(SET),
            "state": "committed",
        },
    ]


async def test_the_table_of_luns_has_one_row_each_and_no_serial(
    array: ScriptedService, vssemu: Run
) -> None:
    result = await vssemu("array", "lun", "list", "--name", "t1")
    head, base, copy = result.stdout.splitlines()
    assert head.split() == ["ID", "SIZE", "ALLOCATED", "KIND", "STATE", "UNMASKED", "TO", "ORIGIN"]
    assert base.split() == [
        naa(1),
        "1.0",
        "GiB",
        "3.0",
        "MiB",
        *("base", "ready", "systemOne", "-"),
    ]
    assert copy.split()[-2:] == ["-", naa(1)]
    assert "0123" not in result.stdout


async def test_create_takes_a_unit_and_prints_the_id_alone(
    array: ScriptedService, vssemu: Run
) -> None:
    result = await vssemu("array", "lun", "create", "1G", "--name", "t1")
    assert (result.exit_code, result.stdout) == (0, naa(1) + "\n")
    assert array.asked("create_lun") == [{"size": 1 << 30}]
    result = await vssemu("array", "lun", "create", "1073741824", "--name", "t1", "--json")
    assert json.loads(result.stdout)["id"] == naa(1)


@pytest.mark.parametrize("size", ["", "G", "1X", "-1", "1.5G"])
async def test_a_size_that_is_none_is_refused(
    size: str, array: ScriptedService, vssemu: Run
) -> None:
    result = await vssemu("array", "lun", "create", "--name", "t1", "--", size)
    assert result.exit_code == 2
    assert array.calls == []


async def test_every_change_reaches_the_array_as_it_was_typed(
    array: ScriptedService, vssemu: Run
) -> None:
    short = naa(1).removeprefix("naa.").upper()
    for words in (
        ["extend", short, "2G"],
        ["mask", short, "systemOne"],
        ["mask", short, "systemOne", "--surprise"],
        ["unmask", short, "systemTwo"],
        ["unmask", short, "systemTwo", "--shared"],
        ["delete", short],
    ):
        result = await vssemu("array", "lun", *words, "--name", "t1")
        assert result.exit_code == 0, result.stderr
    one, two = {"lun": naa(1), "initiator": "systemOne"}, {"lun": naa(1), "initiator": "systemTwo"}
    assert array.calls == [
        ("extend_lun", {"lun": naa(1), "size": 2 << 30}),
        ("mask_lun", {**one, "surprise": False}),
        ("mask_lun", {**one, "surprise": True}),
        ("unmask_lun", {**two, "shared": False}),
        ("unmask_lun", {**two, "shared": True}),
        ("delete_lun", {"lun": naa(1)}),
    ]


async def test_the_arrays_refusal_is_one_line(array: ScriptedService, vssemu: Run) -> None:
    array.answers["delete_lun"] = BadState("it is mapped", hint="mask it")
    result = await vssemu("array", "lun", "delete", naa(1), "--name", "t1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "VSS_E_BAD_STATE (0x80042301): it is mapped [mask it]\n"


async def test_the_pool_is_shown(array: ScriptedService, vssemu: Run) -> None:
    array.answers["pool_status"] = PoolStatus(
        directory="/pool",
        image=None,
        filesystem="xfs",
        size=1 << 30,
        free=1 << 29,
        allocated=1 << 28,
        needed=1 << 26,
        ballast=1 << 24,
        provisioned=1 << 31,
        luns=2,
        ended=1,
        condition=PoolCondition.STARVED,
    )
    result = await vssemu("array", "pool", "status", "--name", "t1")
    rows = {" ".join(line.split()) for line in result.stdout.splitlines()}
    assert "free 512.0 MiB" in rows
    assert "promised to LUNs 2.0 GiB, more than the pool can hold" in rows
    assert "ended for want of room 1" in rows
    assert "no snapshot is left to end" in result.stdout
    found = json.loads((await vssemu("array", "pool", "status", "--name", "t1", "--json")).stdout)
    assert found["free"] == 1 << 29
    assert found["condition"] == "starved"
