"""A writer between fault points: every event of any writer, and how it refuses."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.writers.writer_support import RecordingWriter, event, failure_of
from vssemu.faults import POINTS, Fault, FaultPoints, FaultStore
from vssemu.vss.documents.wmd import WriterMetadataDocument
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.hresult import Hresult
from vssemu.vss.writer import EventKind
from vssemu.writers.dispatch import Dispatcher
from vssemu.writers.faulty import NAME, WRITER_ID, FaultyWriter

CODE = "VSS_E_WRITERERROR_OUTOFRESOURCES"
EVENTS = list(EventKind)


def name_of(kind: EventKind) -> str:
    return kind.name.lower()


class Everything(RecordingWriter):
    """Notes the events too that the recording one passes over."""

    def on_prepare_backup(self, components: Any) -> Any:
        return self._note("prepare_backup")

    def on_post_snapshot(self, components: Any) -> Any:
        return self._note("post_snapshot")

    def on_backup_complete(self, components: Any) -> Any:
        return self._note("backup_complete")

    def on_backup_shutdown(self, set_id: Any) -> Any:
        return self._note("backup_shutdown")


class Vendors(RecordingWriter):
    """A writer of somebody else; it takes one key."""

    def __init__(self, *, key: str) -> None:
        super().__init__()
        self.key = key


class NoWriter:
    pass


@pytest.fixture
def writer() -> RecordingWriter:
    return Everything()


@pytest.fixture
def store(tmp_path: Path) -> FaultStore:
    return FaultStore(tmp_path / "faults")


@pytest.fixture
def faulty(writer: RecordingWriter, store: FaultStore) -> Dispatcher:
    return Dispatcher(FaultyWriter(writer, FaultPoints(store.directory, "writer")))


def test_there_is_a_point_before_and_after_each_event_and_no_other() -> None:
    names = [name_of(kind) for kind in EVENTS]
    assert list(POINTS["writer"]) == [p for name in names for p in (name, f"{name}.after")]


@pytest.mark.parametrize("kind", EVENTS)
async def test_with_nothing_armed_it_is_the_wrapped_writer(
    faulty: Dispatcher, writer: RecordingWriter, kind: EventKind
) -> None:
    expected = await Dispatcher(RecordingWriter()).deliver(event(kind))
    outcome = await faulty.deliver(event(kind))
    assert writer.seen == [name_of(kind)]
    assert (outcome.ok, outcome.failure) == (expected.ok, expected.failure) == (True, None)
    assert outcome.document == expected.document


@pytest.mark.parametrize("kind", [kind for kind in EVENTS if kind is not EventKind.IDENTIFY])
@pytest.mark.parametrize("suffix", ["", ".after"])
async def test_a_code_is_set_and_refuses(
    faulty: Dispatcher, writer: RecordingWriter, store: FaultStore, kind: EventKind, suffix: str
) -> None:
    store.arm(Fault("writer", name_of(kind) + suffix, "code", CODE))
    outcome = await faulty.deliver(event(kind))
    assert not outcome.ok
    assert failure_of(outcome).hresult is Hresult[CODE]
    assert name_of(kind) in failure_of(outcome).message
    assert writer.seen == ([name_of(kind)] if suffix else [])
    assert (await faulty.deliver(event(kind))).ok


async def test_in_identify_a_code_leaves_the_writer_out(
    faulty: Dispatcher, store: FaultStore
) -> None:
    store.arm(Fault("writer", "identify", "code", CODE))
    outcome = await faulty.deliver(event(EventKind.IDENTIFY))
    assert (outcome.ok, outcome.document) == (False, None)
    assert "refused without a reason" in failure_of(outcome).message


async def test_an_exception_is_not_a_writers_failure(
    faulty: Dispatcher, store: FaultStore
) -> None:
    store.arm(Fault("writer", "freeze", "raise", "ouch"))
    outcome = await faulty.deliver(event(EventKind.FREEZE))
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_NONRETRYABLE
    assert "ouch" in failure_of(outcome).message


async def test_what_the_wrapped_writer_sets_and_refuses_counts(
    faulty: Dispatcher, writer: RecordingWriter
) -> None:
    def refuse() -> Any:
        writer.set_writer_failure(Hresult.VSS_E_WRITERERROR_RETRYABLE, 7, "no")
        return False

    writer.answers["thaw"] = refuse
    outcome = await faulty.deliver(event(EventKind.THAW))
    assert not outcome.ok
    assert failure_of(outcome).application_hresult == 7


async def test_it_starts_and_stops_the_wrapped_writer(
    writer: RecordingWriter, store: FaultStore
) -> None:
    faulty = FaultyWriter(writer, FaultPoints(store.directory, "writer"))
    await faulty.on_start()
    await faulty.on_stop()
    assert writer.seen == ["start", "stop"]


async def test_by_itself_it_names_directories_under_a_name_of_its_own(store: FaultStore) -> None:
    table = {"group": [{"name": "docs", "path": "/mnt/F/docs"}], "instance_name": "two"}
    writer = FaultyWriter.from_config({**table, "faults": str(store.directory), "label": "db"})
    identity = writer.identity()
    assert (identity.name, identity.writer_id) == (NAME, WRITER_ID)
    assert identity.instance_name == "two"
    outcome = await Dispatcher(writer).deliver(event(EventKind.IDENTIFY))
    metadata = WriterMetadataDocument.parse(outcome.document or "").metadata
    assert (metadata.name, [each.name for each in metadata.components]) == (NAME, ["docs"])
    store.arm(Fault("writer:db", "freeze", "code", CODE))
    assert not (await Dispatcher(writer).deliver(event(EventKind.FREEZE))).ok


def test_it_takes_the_identity_and_the_keys_of_the_writer_it_wraps() -> None:
    writer = FaultyWriter.from_config({"wraps": f"{__name__}:Vendors", "key": "kept"})
    assert writer.identity() == Vendors(key="kept").identity()


@pytest.mark.parametrize("wraps", ["no.such:Class", f"{__name__}:Nothing", f"{__name__}:NoWriter"])
def test_what_is_no_writer_is_refused_by_name(wraps: str) -> None:
    with pytest.raises(InvalidArgument, match=wraps):
        FaultyWriter.from_config({"wraps": wraps})
