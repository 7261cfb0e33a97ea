"""A provider and a writer that misbehave, in a whole lab: what the requester is told, what the
other writers see, and that nothing of it stays. The whole walk is in tests/soak/lab."""

import json
from collections.abc import Iterator

import pytest

from tests.rig.lab import faultwalk
from tests.rig.lab.conftest import Labs
from tests.rig.lab.faultrig import (
    CRASH,
    DELAY,
    FAULTY_ID,
    RAISE,
    RETRYABLE,
    UNDOCUMENTED,
    VETO,
    FaultyWriterProgram,
    assert_all_is_well,
    attempt,
    faults_of,
    faulty_writer,
    registered,
)
from tests.rig.lab.faultwalk import LOCAL, ProviderCase, WriterCase
from tests.rig.lab.labrig import ONE, TRANSPORTABLE, VSSEMU, Rig, prepared
from tests.rig.lab.witness import Witness, attending
from vssemu import Hresult
from vssemu.faults import Fault, FaultPoints, FaultStore
from vssemu.writers.faulty import FaultyWriter

PROVIDER_CASES = (
    ProviderCase("are_luns_supported", UNDOCUMENTED, TRANSPORTABLE),
    ProviderCase("begin_prepare_snapshot.after", VETO, TRANSPORTABLE),
    ProviderCase("end_prepare_snapshots", RAISE, TRANSPORTABLE),
    ProviderCase("pre_commit_snapshots", CRASH, TRANSPORTABLE),
    ProviderCase("commit_snapshots", VETO, TRANSPORTABLE),
    ProviderCase("commit_snapshots", DELAY, TRANSPORTABLE),
    ProviderCase("commit_snapshots.after", CRASH, TRANSPORTABLE),
    ProviderCase("post_commit_snapshots.after", RAISE, TRANSPORTABLE),
    ProviderCase("locate_luns.after", CRASH, LOCAL),
    ProviderCase("post_final_commit_snapshots", VETO, LOCAL),
)

WRITER_CASES = (
    WriterCase("identify", RAISE),
    WriterCase("prepare_backup", RETRYABLE),
    WriterCase("freeze", RETRYABLE),
    WriterCase("freeze.after", RAISE),
    WriterCase("thaw", RAISE),
    WriterCase("post_snapshot", DELAY),
    WriterCase("backup_complete", RETRYABLE),
    WriterCase("freeze", CRASH),
)


def title(case: ProviderCase | WriterCase) -> str:
    return case.id


@pytest.fixture(scope="module")
def rig(labs: Labs, shared_lab: Rig) -> Iterator[Rig]:
    """The lab that all tests share, with the faulty provider on systemOne."""
    with registered(shared_lab, ONE):
        yield shared_lab


@pytest.fixture(scope="module")
def witness(rig: Rig) -> Iterator[Witness]:
    """A writer beside that behaves."""
    writer = Witness()
    with attending(rig, ONE, writer):
        yield writer


@pytest.fixture(scope="module")
def program(rig: Rig) -> Iterator[FaultyWriterProgram]:
    with faulty_writer(rig) as running:
        yield running


@pytest.mark.parametrize("case", PROVIDER_CASES, ids=title)
def test_a_provider_that_fails(rig: Rig, witness: Witness, case: ProviderCase) -> None:
    faultwalk.walk(rig, witness, case)


@pytest.mark.parametrize("case", WRITER_CASES, ids=title)
def test_a_writer_that_fails(
    rig: Rig, witness: Witness, program: FaultyWriterProgram, case: WriterCase
) -> None:
    program.ensure()
    faultwalk.walk_writer(rig, witness, case)


@pytest.mark.parametrize(
    ("point", "ends"),
    [("freeze.after", ["abort"]), ("thaw", ["abort"]), ("thaw.after", ["thaw", "abort"])],
)
def test_a_writer_that_refuses_hears_abort_once(
    rig: Rig, witness: Witness, point: str, ends: list[str]
) -> None:
    faults = faults_of(rig)
    inner = Witness()
    vetoing = FaultyWriter(inner, FaultPoints(faults.directory, "writer:vetoing"))
    with attending(rig, ONE, vetoing):
        faults.arm(RETRYABLE.at("writer:vetoing", point))
        made = attempt(rig, witness, context=TRANSPORTABLE)
    assert (made.code, made.ends) == (Hresult.S_OK, ["thaw"]), made.fact
    assert made.failures == {inner.name: Hresult.VSS_E_WRITERERROR_RETRYABLE}
    assert [event for event in inner.events if event in {"thaw", "abort"}] == ends


def test_a_provider_that_does_not_even_abort_is_undone(rig: Rig, witness: Witness) -> None:
    luns = rig.lun_ids()
    faults = faults_of(rig)
    faults.arm(VETO.at("provider", "commit_snapshots.after"))
    faults.arm(CRASH.at("provider", "abort_snapshots"))
    made = attempt(rig, witness, context=TRANSPORTABLE)
    assert (made.code, made.ends) == (Hresult.VSS_E_PROVIDER_VETO, ["abort"])
    following = attempt(rig, witness, context=TRANSPORTABLE)
    assert following.code is Hresult.S_OK, following.fact
    assert_all_is_well(rig, luns)


def test_a_stop_holds_a_creation_until_it_is_released_from_the_command_line(
    rig: Rig, witness: Witness
) -> None:
    witness.events.clear()
    point = ("provider", "end_prepare_snapshots")
    rig.run(ONE, VSSEMU, "fault", "set", *point, "--stop")
    with rig.backup(ONE) as backup:
        prepared(backup, context=TRANSPORTABLE, provider=FAULTY_ID)
        operation = backup.do_snapshot_set.begin()
        faults_of(rig).wait_reached(*point)
        assert witness.events[-1] == "prepare backup"
        (listed,) = json.loads(rig.run(ONE, VSSEMU, "fault", "list", "--json"))
        assert (listed["where"], listed["point"], listed["standing"]) == (*point, True)
        rig.run(ONE, VSSEMU, "fault", "release", *point)
        operation.wait(60)
    assert "thaw" in witness.events
    again = rig.exec(ONE, VSSEMU, "fault", "release", *point)
    assert again.returncode == 1
    assert again.stderr.startswith("VSS_E_OBJECT_NOT_FOUND")


def test_the_array_fails_where_the_administrator_wants_it(rig: Rig, witness: Witness) -> None:
    luns = rig.lun_ids()
    faults = FaultStore(rig.lab.paths.faults)
    faults.arm(Fault("array", "finish_prepare", "code", "VSS_E_INSUFFICIENT_STORAGE"))
    made = attempt(rig, witness, context=TRANSPORTABLE)
    assert made.code is Hresult.VSS_E_INSUFFICIENT_STORAGE
    assert faults.armed() == []
    assert attempt(rig, witness, context=TRANSPORTABLE).code is Hresult.S_OK
    assert_all_is_well(rig, luns)
