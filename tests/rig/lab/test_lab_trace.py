"""The trace of a real creation, and of one in whose hold the service died."""

from pathlib import Path

import pytest

from tests.rig.lab.faultrig import faults_of
from tests.rig.lab.labrig import ONE, VSSEMU, Rig, complete, create, eventually, prepared
from tests.rig.lab.witness import Witness, attending
from vssemu import Context
from vssemu.faults import Fault
from vssemu.rpc.errors import RpcError
from vssemu.service.record import Record
from vssemu.service.tracefiles import read_all
from vssemu.vss.errors import VssError
from vssemu.vss.identity import SnapshotSetId
from vssemu.vss.steps import CREATION, DELETE, ROWS

CALLS = [
    *["AreLunsSupported", "BeginPrepareSnapshot"] * 2,
    "EndPrepareSnapshots",
    "PreCommitSnapshots",
    "CommitSnapshots",
    "PostCommitSnapshots",
    *["GetTargetLuns"] * 2,
    "LocateLuns",
    *["FillInLunInfo"] * 2,
    "PreFinalCommitSnapshots",
    "PostFinalCommitSnapshots",
    *["FillInLunInfo", "OnLunEmpty"] * 2,
]


def trace_of(rig: Rig, set_id: SnapshotSetId) -> Record:
    """Return a trace as its file has it, seen from outside the host."""
    state = rig.lab.paths.host_state(ONE) / "var"
    found = [one for one in read_all(state) if one.set_id == str(set_id)]
    return found[0]


def test_a_creation_leaves_every_row_call_and_event_and_the_hold_within_the_freeze(
    lab: Rig, scratch: Path
) -> None:
    writer = Witness()
    with attending(lab, ONE, writer), lab.backup(ONE) as backup:
        made = create(backup, "F:\\", "G:\\", context=Context.BACKUP)
        complete(backup, made)
    record = trace_of(lab, made.set_id)
    assert (record.host, record.outcome, record.ended_by) == (ONE, "ok", "release")

    for sequence in (CREATION, DELETE):
        names = [phase.name for phase in record.phases if phase.sequence == sequence]
        assert list(dict.fromkeys(names)) == [row.value for row in ROWS[sequence]]
    assert {phase.outcome for phase in record.phases} == {"ok"}
    assert [call.method for call in record.calls if call.method != "OnLoad"] == CALLS
    assert {call.returned for call in record.calls} == {"S_OK (0x00000000)"}
    sent = [event.event.casefold() for event in record.events if event.writer == writer.name]
    assert sent == [name.replace(" ", "") for name in writer.events]

    hold, freeze = record.hold, record.freeze
    assert hold is not None
    assert freeze is not None
    assert {each.volume for each in hold.volumes} == {each.name for each in record.volumes}
    for each in hold.volumes:
        assert each.frozen is not None
        assert each.thawed is not None
        assert freeze[0] <= hold.start <= each.frozen < each.thawed <= hold.end <= freeze[1]
    (commit,) = [call for call in record.calls if call.method == "CommitSnapshots"]
    last_frozen = max(each.frozen or 0 for each in hold.volumes)
    first_thawed = min(each.thawed or 0 for each in hold.volumes)
    assert last_frozen <= commit.start <= commit.end <= first_thawed

    page = scratch / "trace.html"
    lab.run(ONE, VSSEMU, "trace", "--set", str(made.set_id), "--html", str(page))
    assert "Creation of a shadow copy set on systemOne" in page.read_text()


def test_the_trace_of_a_service_that_died_in_the_hold_ends_there(lab: Rig) -> None:
    faults = faults_of(lab)
    try:
        with lab.backup(ONE) as backup:
            made = prepared(backup, context=Context.FILE_SHARE_BACKUP)
            faults.arm(Fault("service", "creation.commit_snapshots", "crash"))
            with pytest.raises((VssError, RpcError, OSError)):
                backup.do_snapshot_set()
    except (RpcError, OSError):
        pass  # the release of what is no more
    finally:
        faults.clear()
    eventually(lambda: trace_of(lab, made.set_id).ended_by is not None, seconds=30)
    lab.wait_service(ONE)
    record = trace_of(lab, made.set_id)
    assert (record.outcome, record.ended_by) == ("interrupted", "service died")
    assert record.requests[-1].method == "DoSnapshotSet"
    assert record.requests[-1].outcome == "running"
    known = [(phase.name, phase.outcome) for phase in record.phases]
    assert known[-2:] == [("pre_commit_snapshots", "ok"), ("hold", "running")]
