"""What a requester object leaves behind: its trace, as it lies on disk."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from vssemu.api import requester as table
from vssemu.linux.credentials import PeerCredentials
from vssemu.service import recording, tracefiles
from vssemu.service.events import EventLog
from vssemu.service.record import TEXT, Head, Phase, ProviderCall, Record, Request, Requester
from vssemu.service.recording import Recorder, noted, requester_of
from vssemu.service.tracefiles import TraceFiles, read, read_all
from vssemu.vss.errors import ProviderVeto, WriterErrorTimeout
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import SnapshotSetId
from vssemu.vss.provider import ProviderFailure
from vssemu.vss.writer import EventKind, WriterFailure

CALLS = [
    "AreLunsSupported",
    "BeginPrepareSnapshot",
    "EndPrepareSnapshots",
    "PreCommitSnapshots",
    "CommitSnapshots",
    "PostCommitSnapshots",
    "GetTargetLuns",
    "PreFinalCommitSnapshots",
    "PostFinalCommitSnapshots",
]
EVENTS = ["Identify", "PrepareBackup", "PrepareSnapshot", "Freeze", "Thaw", "PostSnapshot"]


def last(node: Any, kind: str = "creation") -> Record:
    found: list[Record] = [each for each in read_all(node.state) if each.kind == kind]
    return found[0]


def open_files(state: Path) -> list[Path]:
    return list(state.glob("traces/*.open.jsonl"))


async def test_a_creation_leaves_calls_phases_events_and_the_hold_in_their_order(
    one: Any, requester: Any
) -> None:
    writer = await one.writer("files")
    (copy,) = await requester.created("F:\\")
    record = last(one)
    assert (record.outcome, record.code) == ("ok", "0x0004230a")
    assert (record.host, record.set_id) == ("systemOne", str(requester.set_id))
    assert (record.context, record.context_name) == ("0x00000020", "BACKUP")
    assert record.attributes == ["TRANSPORTABLE"]
    assert record.ended_by is None
    assert [call.method for call in record.calls if call.method != "OnLoad"] == CALLS
    assert {call.returned for call in record.calls} == {"S_OK (0x00000000)"}
    assert [event.event for event in record.events] == EVENTS
    assert {event.instance_id for event in record.events} == {str(writer.instance_id)}
    assert [request.method for request in record.requests] == [
        "InitializeForBackup",
        "SetContext",
        "SetBackupState",
        "GatherWriterMetadata",
        "StartSnapshotSet",
        "AddToSnapshotSet",
        "PrepareForBackup",
        "DoSnapshotSet",
    ]
    rows = [phase.row for phase in record.phases]
    assert rows == sorted(rows)
    (volume,) = record.volumes
    assert (volume.at, volume.snapshot_id) == (["F:\\", "/mnt/F"], str(copy))
    (hold,) = record.holds
    assert record.freeze is not None
    assert record.freeze[0] <= hold.start < hold.end <= record.freeze[1]
    assert [each.volume for each in hold.volumes] == [volume.name]
    commit = next(call for call in record.calls if call.method == "CommitSnapshots")
    assert hold.start <= commit.start
    assert commit.end <= hold.end + 0.001


async def test_arguments_and_results_of_calls_are_told_in_short(one: Any, requester: Any) -> None:
    await requester.created("F:\\", writers=False, context=0x30)
    calls = {call.method: call for call in last(one).calls}
    lun = one.host.known["F:\\"].luns[0].lun_id
    assert calls["AreLunsSupported"].arguments == f"context=0x00000030, luns=1: {lun}"
    assert calls["AreLunsSupported"].result == f"supported, 1: {lun}"
    assert f"set_id={{{requester.set_id}}}" in calls["CommitSnapshots"].arguments
    assert calls["PostCommitSnapshots"].arguments.endswith("count=1")
    assert calls["GetTargetLuns"].result.startswith("1: naa.6")


async def test_a_failed_creation_has_what_the_provider_answered_and_its_abort(
    one: Any, requester: Any
) -> None:
    one.plan["array"]["PreCommitSnapshots"] = ProviderFailure(
        Hresult.VSS_E_PROVIDER_VETO, "the mirror is out of step"
    )
    await requester.prepared("F:\\", writers=False, context=0x30)
    with pytest.raises(ProviderVeto):
        await requester.done(table.do_snapshot_set)
    record = last(one)
    assert (record.outcome, record.code) == ("VSS_E_PROVIDER_VETO", "0x80042306")
    assert "the mirror is out of step" in record.text
    (failed,) = [call for call in record.calls if call.is_failure]
    assert failed.method == "PreCommitSnapshots"
    assert failed.returned == "VSS_E_PROVIDER_VETO (0x80042306)"
    assert record.calls[-1].method == "AbortSnapshots"
    assert record.holds == []
    phases = {phase.name: phase.outcome for phase in record.phases}
    assert phases["pre_commit_snapshots"] == "VSS_E_PROVIDER_VETO"


async def test_a_provider_that_answers_nonsense_shows_its_code_beside_ours(
    one: Any, requester: Any
) -> None:
    one.plan["array"]["EndPrepareSnapshots"] = ProviderFailure(Hresult.E_FAIL, "no")
    await requester.prepared("F:\\", writers=False, context=0x30)
    await requester.finish(table.do_snapshot_set)
    (failed,) = [call for call in last(one).calls if call.is_failure]
    assert failed.outcome == "VSS_E_UNEXPECTED_PROVIDER_ERROR"
    assert failed.returned == "E_FAIL (0x80004005)"


async def test_a_writer_that_vetoes_and_one_that_is_late_are_told_apart(
    one: Any, requester: Any
) -> None:
    veto = WriterFailure(hresult=Hresult.VSS_E_WRITERERROR_RETRYABLE, message="busy")
    await one.writer("vetoing", plan={EventKind.PREPARE_SNAPSHOT: (veto,)})
    await one.writer("late", freeze_limit_ms=200, plan={EventKind.FREEZE: "hang"})
    await requester.created("F:\\")
    failed = {event.writer: event for event in last(one).events if event.is_failure}
    assert failed["vetoing"].outcome == "VSS_E_WRITERERROR_RETRYABLE"
    assert "busy" in failed["vetoing"].text
    assert (failed["vetoing"].late, failed["vetoing"].is_veto) == (False, True)
    assert failed["late"].event == "Freeze"
    assert failed["late"].outcome == WriterErrorTimeout.hresult.name
    assert (failed["late"].late, round(failed["late"].limit, 1)) == (True, 0.2)


async def test_a_writer_whose_time_passes_while_it_is_frozen_is_told_as_such(
    one: Any, requester: Any
) -> None:
    await one.writer("short", freeze_limit_ms=150)

    async def slowly() -> None:
        await trio.sleep(0.4)

    one.plan["array"]["PreCommitSnapshots"] = slowly
    await requester.created("F:\\")
    (late,) = [event for event in last(one).events if event.late]
    assert (late.event, late.limit) == ("FreezeToThaw", 0.15)
    assert 0.1 < (late.seconds or 0) < 0.4


async def test_nothing_of_a_trace_is_written_while_writes_are_held(
    one: Any, requester: Any
) -> None:
    seen: list[Record | None] = []

    async def look() -> None:
        assert one.host.is_holding
        seen.extend(read(path) for path in open_files(one.state))

    one.plan["array"]["CommitSnapshots"] = look
    await requester.created("F:\\", writers=False, context=0x30)
    (held,) = seen
    assert held is not None
    known = [(phase.name, phase.outcome) for phase in held.phases]
    assert known[-2:] == [("pre_commit_snapshots", "ok"), ("hold", "running")]
    assert "commit_snapshots" in [phase.name for phase in last(one).phases]


async def test_an_import_has_its_trace_to_the_release_that_deletes_it(nodes: Any) -> None:
    one, two = nodes
    creator, importer = await one.requester(), await two.requester()
    await creator.created("F:\\", writers=False, context=0x30)
    document = await creator.call(table.save_as_xml)
    await importer.call(table.initialize_for_backup, document)
    await importer.call(table.set_context, 0xFFFFFFFF)
    await importer.done(table.import_snapshots)
    assert last(two, "import").ended_by is None
    await importer.call(table.release)
    record = last(two, "import")
    assert (record.outcome, record.set_id) == ("ok", str(creator.set_id))
    assert record.ended_by == "release"
    (volume,) = record.volumes
    assert (volume.name, volume.size) == (one.host.known["F:\\"].name, 64 << 20)
    methods = [call.method for call in record.calls]
    assert methods == ["LocateLuns", "FillInLunInfo", "FillInLunInfo", "OnLunEmpty"]
    assert record.requests[-1].method == "Release"


async def test_a_deletion_that_stops_at_a_failure_has_failed(one: Any, requester: Any) -> None:
    await requester.created("F:\\", writers=False, context=0x19)
    other = await one.requester()
    await other.call(table.initialize_for_backup)
    await other.call(table.set_context, 0xFFFFFFFF)
    one.plan["array"]["OnLunEmpty"] = ProviderFailure(Hresult.VSS_E_PROVIDER_VETO, "in use")
    deleted = await other.call(table.delete_snapshots, requester.set_id, 2, False)
    assert deleted.hresult == Hresult.VSS_E_PROVIDER_VETO
    record = last(one, "deletion")
    assert (record.set_id, record.outcome) == (str(requester.set_id), "VSS_E_PROVIDER_VETO")


async def test_a_break_and_an_abort_are_in_their_traces(nodes: Any) -> None:
    one, two = nodes
    creator, importer, breaker = [await node.requester() for node in (one, two, two)]
    await creator.created("F:\\", writers=False, context=0x39)
    document = await creator.call(table.save_as_xml)
    await importer.call(table.initialize_for_backup, document)
    await importer.call(table.set_context, 0xFFFFFFFF)
    await importer.done(table.import_snapshots)
    await breaker.call(table.initialize_for_backup)
    await breaker.call(table.set_context, 0xFFFFFFFF)
    await breaker.call(table.break_snapshot_set, creator.set_id)
    broken = last(two, "break")
    assert (broken.set_id, broken.outcome) == (str(creator.set_id), "ok")
    aborting = await one.requester()
    await aborting.prepared("F:\\", writers=False, context=0x30)
    await aborting.call(table.abort_backup)
    await aborting.call(table.release)
    aborted = last(one)
    assert [each.method for each in aborted.requests[-2:]] == ["AbortBackup", "Release"]
    assert aborted.outcome == "abandoned"


async def test_who_only_looks_leaves_nothing_and_who_leaves_early_is_told(one: Any) -> None:
    looking = await one.requester()
    await looking.call(table.initialize_for_backup)
    await looking.done(table.gather_writer_metadata)
    await looking.call(table.release)
    assert list(read_all(one.state)) == []
    leaving = await one.requester()
    await leaving.prepared("F:\\", writers=False, context=0x30)
    await leaving.close()
    await one.until(lambda: last(one).ended_by == "requester gone")
    assert last(one).outcome == "abandoned"


# -- the recorder and its files -----------------------------------------------------------------


def recorder_in(state: Path, files: TraceFiles | None = None) -> Recorder:
    log = EventLog(state / "events.jsonl")
    who = Requester(pid=1, uid=0)
    return Recorder(files or TraceFiles(state), log, host="here", requester=who)


async def test_what_a_dead_service_left_open_is_finished_by_the_next(tmp_path: Path) -> None:
    recorder = recorder_in(tmp_path)
    recorder.keep("creation", SnapshotSetId(UUID(int=7)))
    with recording.recording(recorder):
        with noted(Request(method="AddToSnapshotSet")):
            pass
        context = noted(Phase(sequence="creation", name="pre_commit_snapshots", row=11))
        context.__enter__()  # and SIGKILL
    before = next(read_all(tmp_path))
    assert (before.outcome, before.ended_by) == ("running", None)
    TraceFiles(tmp_path)
    record = next(read_all(tmp_path))
    assert (record.outcome, record.ended_by) == ("interrupted", "service died")
    assert (record.phases[0].outcome, record.phases[0].seconds) == ("running", None)
    assert record.requests[0].outcome == "ok"
    assert open_files(tmp_path) == []


async def test_old_traces_go_when_there_are_many_or_they_are_large(tmp_path: Path) -> None:
    files = TraceFiles(tmp_path, kept=3)
    for _ in range(6):
        recorder = recorder_in(tmp_path, files)
        recorder.keep("creation", None)
        recorder.finish("release")
    # The newest one came after the last look at them.
    assert len(list(read_all(tmp_path))) == 4
    small = TraceFiles(tmp_path, kept_bytes=1)
    recorder_in(tmp_path, small).keep("creation", None)
    assert [record.ended_by for record in read_all(tmp_path)] == [None]


async def test_a_trace_is_bounded_in_entries_and_in_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_ENTRIES", 5)
    recorder = recorder_in(tmp_path)
    recorder.keep("creation", None)
    with recording.recording(recorder):
        for _ in range(8):
            with noted(Request(method="SetContext")) as request:
                request.fail(Hresult.E_FAIL, "long " * 1000)
    recorder.finish("release")
    record = next(read_all(tmp_path))
    assert (len(record.requests), record.left_out) == (5, 3)
    assert {len(each.text) for each in record.requests} == {TEXT}


async def test_lines_that_are_cut_off_or_foreign_do_not_spoil_a_trace(tmp_path: Path) -> None:
    recorder = recorder_in(tmp_path)
    recorder.keep("creation", None)
    recorder.finish("release")
    (path,) = (tmp_path / "traces").iterdir()
    with path.open("ab") as file:
        file.write(b'[1, "unknown", {}]\nnonsense\n[2, "calls", {"provider": "p"')
    assert next(read_all(tmp_path)).ended_by == "release"
    (tmp_path / "traces/zz.jsonl").write_bytes(b'[0, "requests", {"start": 0}]\n')
    assert len(list(read_all(tmp_path))) == 1


async def test_what_runs_for_no_requester_is_noted_nowhere() -> None:
    call = ProviderCall(provider="p", provider_id="1", method="OnLoad")
    with noted(call):
        assert recording.current() is None
    assert (call.outcome, call.seconds) == ("running", None)


async def test_a_group_of_errors_is_the_vss_error_in_it(tmp_path: Path) -> None:
    recorder = recorder_in(tmp_path)
    with recording.recording(recorder):
        request = Request(method="DoSnapshotSet")
        with pytest.raises(BaseExceptionGroup), noted(request):
            raise BaseExceptionGroup("", [ExceptionGroup("", [ProviderVeto("no room")])])
        assert (request.outcome, request.text) == ("VSS_E_PROVIDER_VETO", "no room")
        cancelled = Request(method="DoSnapshotSet")
        with trio.move_on_after(0), noted(cancelled):
            await trio.sleep_forever()
    assert cancelled.outcome == "cancelled"


def test_a_requester_is_known_by_its_command_line() -> None:
    peer = PeerCredentials(pid=os.getpid(), uid=5, gid=0, groups=())
    found = requester_of(peer.pid, peer.uid)
    assert found.program is not None
    assert "python" in found.program
    assert requester_of(0, 5) == Requester(pid=0, uid=5, program=None)


def test_the_first_part_of_a_record_is_its_head() -> None:
    names = [each.name for each in fields(Record)]
    assert names[: len(fields(Head))] == [each.name for each in fields(Head)]
    assert tracefiles.DIRECTORY == "traces"
