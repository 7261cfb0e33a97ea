"""Fault points at the array's border."""

from pathlib import Path

import pytest

from vssemu.api import array as api
from vssemu.array.points import Pointed
from vssemu.faults import POINTS, Fault, FaultPoints, FaultStore
from vssemu.rpc.caller import Caller
from vssemu.vss.errors import InsufficientStorage


class Border:
    def __init__(self) -> None:
        self.calls: list[str] = []

    async def commit(self, caller: Caller | None, set_id: str) -> str:
        self.calls.append(set_id)
        return "records"

    async def luns(self, caller: Caller | None) -> str:
        return "no point here"


def test_the_points_are_calls_of_the_arrays_interfaces() -> None:
    calls = {
        method.function_name
        for interface in (api.initiator, api.admin)
        for method in interface.methods.values()
    }
    assert {name.removesuffix(".after") for name in POINTS["array"]} <= calls


async def test_a_call_stands_between_its_points(tmp_path: Path) -> None:
    store = FaultStore(tmp_path / "faults")
    border = Border()
    pointed = Pointed(border, FaultPoints(store.directory, "array"))
    assert await pointed.commit(None, set_id="one") == "records"
    assert await pointed.luns(None) == "no point here"
    store.arm(Fault("array", "commit", "code", "VSS_E_INSUFFICIENT_STORAGE"))
    with pytest.raises(InsufficientStorage):
        await pointed.commit(None, set_id="two")
    store.arm(Fault("array", "commit.after", "code", "VSS_E_INSUFFICIENT_STORAGE"))
    with pytest.raises(InsufficientStorage):
        await pointed.commit(None, set_id="three")
    assert border.calls == ["one", "three"]
