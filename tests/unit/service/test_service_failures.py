"""Creations that fail: each provider call, each way; clients that die; nothing is left."""

import sqlite3
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
import trio

from tests.unit.service.doubles import RawAnswer
from vssemu.api import requester as table
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import InsufficientStorage, ProviderVeto, UnexpectedProviderError
from vssemu.vss.host import GptFlags
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import ProviderId
from vssemu.vss.provider import ProviderFailure
from vssemu.vss.writer import EventKind

IN_ADD = ("AreLunsSupported", "BeginPrepareSnapshot")
IN_DO = (
    "EndPrepareSnapshots",
    "PreCommitSnapshots",
    "CommitSnapshots",
    "PostCommitSnapshots",
    "GetTargetLuns",
    "LocateLuns",
    "PreFinalCommitSnapshots",
    "PostFinalCommitSnapshots",
)
VETO = ProviderFailure(Hresult.VSS_E_PROVIDER_VETO, "no room on the array")


def is_clean(node: Any) -> None:
    """Nothing half done: flags back, no copy in the array or on the host, slot free."""
    flags = set(node.host.flags.values())
    assert flags <= {GptFlags.NONE}
    assert not node.array.copies
    assert not node.host.objects
    assert not node.host.is_holding
    assert not node.service.parts.catalog.sets()


@pytest.mark.parametrize("method", IN_DO)
@pytest.mark.parametrize("way", ["raise", "veto", "hang", "die"])
async def test_a_provider_that_fails_in_a_call_ends_the_set_and_leaves_nothing(
    one: Any, method: Any, way: Any
) -> None:
    writer = await one.writer("files")
    requester = await one.requester()
    await requester.prepared("F:\\", context=0)
    actions = {"raise": RuntimeError("bug"), "veto": VETO, "hang": "hang", "die": "die"}
    one.plan["array"][method] = actions[way]
    status = await requester.finish(table.do_snapshot_set)
    code = Hresult(status.hresult).name
    if way == "veto":
        assert code == "VSS_E_PROVIDER_VETO"
        assert "no room on the array" in status.fact
    elif way == "hang" and method == "CommitSnapshots":
        assert code == "VSS_E_HOLD_WRITES_TIMEOUT"
    else:
        assert code == "VSS_E_UNEXPECTED_PROVIDER_ERROR"
    del one.plan["array"][method]
    if method == "EndPrepareSnapshots":
        assert "Abort" not in writer.kinds
    else:
        assert writer.kinds[-1] == "Abort"
    if method == "PostFinalCommitSnapshots":
        # The set was final for the provider: its LUNs go one by one.
        assert "provider: OnLunEmpty" in one.journal
    else:
        assert "provider: AbortSnapshots" in one.journal
    is_clean(one)
    (event,) = [e for e in one.events("provider_error") if e["method"] == method][:1]
    assert event["provider"] == "array"
    assert event["code"].startswith("0x")
    again = await one.requester()
    await again.created("F:\\", context=0)


@pytest.mark.parametrize("method", IN_ADD)
@pytest.mark.parametrize("way", ["raise", "veto", "hang", "die"])
async def test_a_provider_that_fails_in_add_leaves_the_set_open_and_is_not_aborted(
    one: Any, requester: Any, method: Any, way: Any
) -> None:
    await requester.prepared(context=0, writers=False)
    actions = {"raise": RuntimeError("bug"), "veto": VETO, "hang": "hang", "die": "die"}
    one.plan.setdefault("array", {})[method] = actions[way]
    error = ProviderVeto if way == "veto" else UnexpectedProviderError
    with pytest.raises(error, match=method):
        await requester.call(table.add_to_snapshot_set, "F:\\")
    assert "provider: AbortSnapshots" not in one.journal
    del one.plan["array"][method]
    await requester.call(table.add_to_snapshot_set, "F:\\")
    await requester.call(table.abort_backup)
    assert "provider: AbortSnapshots" not in one.journal


@pytest.mark.parametrize("code", [1, 0x80004005, 0x8000FFFF, 0x80004004, 0x8004230B, 77])
async def test_an_undocumented_code_is_translated_and_logged_with_method_and_number(
    one: Any, requester: Any, code: Any
) -> None:
    await requester.prepared("F:\\", context=0x30, writers=False)
    one.plan["array"]["PreCommitSnapshots"] = RawAnswer(code)
    status = await requester.finish(table.do_snapshot_set)
    assert status.hresult == Hresult.VSS_E_UNEXPECTED_PROVIDER_ERROR
    (event,) = one.events("provider_error")
    assert event["method"] == "PreCommitSnapshots"
    assert event["code"] == f"0x{code:08x}"
    assert event["documented"] is False


async def test_a_documented_code_reaches_the_requester_as_it_is(one: Any, requester: Any) -> None:
    await requester.prepared(context=0x30, writers=False)
    failure = ProviderFailure(Hresult.VSS_E_INSUFFICIENT_STORAGE, "pool is full")
    one.plan.setdefault("array", {})["BeginPrepareSnapshot"] = failure
    with pytest.raises(InsufficientStorage, match="pool is full"):
        await requester.call(table.add_to_snapshot_set, "F:\\")


async def test_what_abort_answers_means_nothing(one: Any, requester: Any) -> None:
    await requester.prepared("F:\\", context=0x30, writers=False)
    one.plan["array"]["CommitSnapshots"] = VETO
    one.plan["array"]["AbortSnapshots"] = RawAnswer(0x80004005)
    status = await requester.finish(table.do_snapshot_set)
    assert status.hresult == Hresult.VSS_E_PROVIDER_VETO


async def test_a_provider_that_hung_was_killed_and_a_new_program_serves_the_next_call(
    one: Any, requester: Any
) -> None:
    await requester.prepared("F:\\", context=0x30, writers=False)
    one.plan["array"]["CommitSnapshots"] = "hang"
    await requester.finish(table.do_snapshot_set)
    assert len(one.programs) == 2
    assert not one.programs[0].is_alive
    assert one.programs[1].is_alive


async def test_writes_are_released_before_anything_is_undone_when_commit_hangs(
    one: Any, requester: Any
) -> None:
    await requester.prepared("F:\\", context=0x30, writers=False)
    one.plan["array"]["CommitSnapshots"] = "hang"
    await requester.finish(table.do_snapshot_set)
    assert one.journal.index("host: release writes") < one.journal.index(
        "provider: AbortSnapshots"
    )


async def test_one_failing_provider_fails_the_whole_set_of_two(one: Any, requester: Any) -> None:
    other = ProviderId(uuid4())
    await one.register(name="second", provider_id=other)
    await requester.prepared(context=0x10, writers=False)
    await requester.call(table.add_to_snapshot_set, "F:\\", one.provider_id)
    await requester.call(table.add_to_snapshot_set, "G:\\", other)
    one.plan["second"]["CommitSnapshots"] = VETO
    status = await requester.finish(table.do_snapshot_set)
    assert status.hresult == Hresult.VSS_E_PROVIDER_VETO
    assert one.journal.count("provider: AbortSnapshots") == 2
    is_clean(one)


async def test_a_set_may_mix_providers_and_each_prepares_its_own_volume(
    one: Any, requester: Any
) -> None:
    other = ProviderId(uuid4())
    await one.register(name="second", provider_id=other)
    await requester.prepared(context=0x10, writers=False)
    first = await requester.call(table.add_to_snapshot_set, "F:\\", one.provider_id)
    second = await requester.call(table.add_to_snapshot_set, "G:\\", other)
    await requester.done(table.do_snapshot_set)
    for copy, provider in ((first, one.provider_id), (second, other)):
        properties = await requester.call(table.get_snapshot_properties, copy)
        assert properties.provider_id == provider
    assert one.journal.count("provider: CommitSnapshots") == 2


@pytest.mark.parametrize("method", [*IN_ADD, *IN_DO])
async def test_a_client_that_dies_in_any_provider_call_leaves_nothing(
    one: Any, method: Any
) -> None:
    writer = await one.writer("files")
    requester = await one.requester()
    one.plan["array"].clear()
    if method in IN_ADD:
        await requester.prepared(context=0)
        one.plan["array"][method] = "hang"
        step: Any = (table.add_to_snapshot_set, "F:\\")
    else:
        await requester.prepared("F:\\", context=0)
        one.plan["array"][method] = "hang"
        step = (table.do_snapshot_set,)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with suppress(RpcError):
                await requester.call(*step)

        nursery.start_soon(run)
        await one.until(lambda: f"provider: {method}" in one.journal)
        await requester.close()
        nursery.cancel_scope.cancel()
    one.plan["array"].clear()
    await one.until(lambda: not one.service._requester._sessions.all(), 10)
    if method not in IN_ADD:
        is_clean(one)
    assert writer.kinds[-1] == "BackupShutdown"
    assert writer.events[-1].set_id is None
    assert "BackupComplete" not in writer.kinds
    again = await one.requester()
    await again.created("F:\\", context=0)


async def test_a_client_that_dies_while_a_writer_prepares_leaves_nothing(one: Any) -> None:
    writer = await one.writer("files", plan={EventKind.PREPARE_SNAPSHOT: "hang"})
    requester = await one.requester()
    await requester.prepared("F:\\", context=0)
    await requester.call(table.do_snapshot_set)
    await one.until(lambda: "files: PrepareSnapshot" in one.journal)
    await requester.close()
    await one.until(lambda: not one.service._requester._sessions.all(), 10)
    is_clean(one)
    assert writer.kinds[-2:] == ["Abort", "BackupShutdown"]


async def test_abort_backup_in_the_middle_of_a_creation_undoes_it(one: Any) -> None:
    writer = await one.writer("files")
    requester = await one.requester()
    await requester.prepared("F:\\", context=0)
    one.plan["array"]["PreCommitSnapshots"] = "hang"
    operation = await requester.call(table.do_snapshot_set)
    await one.until(lambda: "provider: PreCommitSnapshots" in one.journal)
    await requester.call(table.abort_backup)
    one.plan["array"].clear()
    status = await requester.client.call(table.query_status, operation)
    assert status.hresult == Hresult.VSS_S_ASYNC_CANCELLED
    assert "Abort" in writer.kinds
    is_clean(one)


async def test_a_copy_that_looks_like_its_original_is_refused(one: Any, requester: Any) -> None:
    await requester.prepared("F:\\", context=0x30, writers=False)
    original = one.host.known["F:\\"].luns[0].lun.information

    async def spoil() -> None:
        for copy in one.array.copies.values():
            copy.record = original

    one.plan["array"]["PostCommitSnapshots"] = spoil
    status = await requester.finish(table.do_snapshot_set)
    assert status.hresult == Hresult.VSS_E_UNEXPECTED_PROVIDER_ERROR
    assert "identifier of its own" in status.fact


async def test_a_full_disk_at_the_end_of_a_session_ends_not_the_service(
    one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    requester = await one.requester()
    await requester.created("F:\\", context=0)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(one.service.parts.catalog, "set_status", full)
    await requester.call(table.release)
    monkeypatch.undo()
    (event,) = one.events("clean_up_failed")
    assert "disk is full" in event["text"]
    other = await one.requester()
    await other.created("F:\\", context=0)
