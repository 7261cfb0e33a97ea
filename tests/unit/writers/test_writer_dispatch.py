from typing import Any

import pytest
import trio

from tests.unit.writers.writer_support import (
    INSTANCE_ID,
    Backup,
    RecordingWriter,
    document,
    event,
    failure_of,
)
from vssemu.vss.documents.wmd import WriterMetadataDocument
from vssemu.vss.errors import BadState, InvalidArgument, WriterErrorRetryable
from vssemu.vss.hresult import Hresult
from vssemu.vss.writer import EventKind, SnapshotVolume
from vssemu.writers.dispatch import Dispatcher


def raiser(error: Any) -> Any:
    def answer() -> None:
        raise error

    return answer


async def test_identify_answers_with_a_metadata_document(writer: Any) -> None:
    outcome = await Dispatcher(writer).deliver(event(EventKind.IDENTIFY))
    metadata = WriterMetadataDocument.parse(outcome.document or "").metadata
    assert outcome.ok
    assert (metadata.name, metadata.instance_id) == ("Recording Writer", INSTANCE_ID)
    assert [component.name for component in metadata.components] == ["things"]


async def test_identify_that_refuses_answers_without_a_document(writer: Any) -> None:
    writer.answers["identify"] = False
    outcome = await Dispatcher(writer).deliver(event(EventKind.IDENTIFY))
    assert (outcome.ok, outcome.document) == (False, None)


async def test_a_callback_that_returns_nothing_went_well(writer: Any) -> None:
    outcome = await Dispatcher(writer).deliver(event(EventKind.PREPARE_SNAPSHOT))
    assert (outcome.ok, outcome.failure) == (True, None)


async def test_false_without_a_reason_is_nonretryable(writer: Any) -> None:
    writer.answers["freeze"] = False
    outcome = await Dispatcher(writer).deliver(event(EventKind.FREEZE))
    assert not outcome.ok
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_NONRETRYABLE
    assert "OnFreeze" in failure_of(outcome).message


async def test_a_failure_set_with_true_is_a_veto_that_may_be_ignored(
    writer: Any,
) -> Any:
    def veto() -> Any:
        writer.set_writer_failure(Hresult.VSS_E_WRITERERROR_OUTOFRESOURCES, 7, "no room")
        return True

    writer.answers["prepare_snapshot"] = veto
    outcome = await Dispatcher(writer).deliver(event(EventKind.PREPARE_SNAPSHOT))
    assert outcome.ok
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_OUTOFRESOURCES
    assert (failure_of(outcome).application_hresult, failure_of(outcome).message) == (7, "no room")


async def test_an_exception_is_a_nonretryable_failure_and_the_writer_lives(
    writer: Any,
) -> None:
    writer.answers["freeze"] = raiser(KeyError("missing"))
    dispatcher = Dispatcher(writer)
    outcome = await dispatcher.deliver(event(EventKind.FREEZE))
    assert not outcome.ok
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_NONRETRYABLE
    assert failure_of(outcome).message == "KeyError: 'missing'"
    assert (await dispatcher.deliver(event(EventKind.ABORT))).ok


async def test_a_writer_error_that_is_raised_keeps_its_code(writer: Any) -> None:
    writer.answers["freeze"] = raiser(WriterErrorRetryable("busy"))
    outcome = await Dispatcher(writer).deliver(event(EventKind.FREEZE))
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_RETRYABLE
    assert failure_of(outcome).message == "busy"


async def test_a_writer_is_stopped_from_freeze_to_thaw_or_abort(writer: Any) -> None:
    dispatcher = Dispatcher(writer)
    writer.answers["thaw"] = False
    for kind, stopped in [
        (EventKind.PREPARE_SNAPSHOT, False),
        (EventKind.FREEZE, True),
        (EventKind.IDENTIFY, True),
        (EventKind.THAW, True),
        (EventKind.ABORT, False),
    ]:
        await dispatcher.deliver(event(kind))
        assert dispatcher.is_stopped is stopped, kind


async def test_abort_cancels_an_async_callback(writer: Any, nursery: trio.Nursery) -> None:
    started = trio.Event()

    class Slow(RecordingWriter):
        async def on_freeze(self) -> None:
            started.set()
            await trio.sleep_forever()

    dispatcher = Dispatcher(Slow())
    outcomes = []

    async def freeze() -> None:
        outcomes.append(await dispatcher.deliver(event(EventKind.FREEZE)))

    with trio.fail_after(5):
        async with trio.open_nursery() as inner:
            inner.start_soon(freeze)
            await started.wait()
            dispatcher.abort_running()
    assert failure_of(outcomes[0]).hresult is Hresult.VSS_E_WRITERERROR_RETRYABLE
    assert "Abort" in failure_of(outcomes[0]).message


async def test_abort_is_seen_by_a_plain_callback(writer: Any) -> Any:
    dispatcher = Dispatcher(writer)

    def freeze() -> Any:
        trio.from_thread.run_sync(dispatcher.abort_running)
        return not writer.is_aborted

    writer.answers["freeze"] = freeze
    outcome = await dispatcher.deliver(event(EventKind.FREEZE))
    assert not outcome.ok


async def test_an_async_callback_ends_at_the_event_deadline(autojump_clock: Any) -> None:
    class Slow(RecordingWriter):
        async def on_freeze(self) -> None:
            await trio.sleep_forever()

    outcome = await Dispatcher(Slow()).deliver(event(EventKind.FREEZE, deadline_ms=250))
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_TIMEOUT
    assert "250 ms" in failure_of(outcome).message


async def test_stamps_travel_back_in_the_document(writer: Any) -> None:
    def on_post_snapshot(components: Any) -> None:
        components.find(None, "things").backup_stamp = "stamp-1"

    writer.on_post_snapshot = on_post_snapshot
    backup = Backup(Dispatcher(writer), document("things"))
    assert (await backup.send(EventKind.POST_SNAPSHOT)).ok
    assert backup.document.components(INSTANCE_ID)[0].backup_stamp == "stamp-1"


async def test_an_unchanged_document_is_not_sent_back(writer: Any) -> None:
    backup = Backup(Dispatcher(writer), document("things"))
    assert (await backup.send(EventKind.PREPARE_BACKUP)).document is None


async def test_changing_the_document_in_backup_complete_fails(writer: Any) -> None:
    def on_backup_complete(components: Any) -> None:
        for component in components:
            component.backup_stamp = "late"

    writer.on_backup_complete = on_backup_complete
    outcome = await Backup(Dispatcher(writer), document("things")).send(EventKind.BACKUP_COMPLETE)
    assert not outcome.ok
    assert "BadState" in failure_of(outcome).message
    assert "read-only" in failure_of(outcome).message


async def test_without_component_mode_the_components_are_none(writer: Any) -> None:
    seen: list[Any] = []
    writer.on_prepare_backup = seen.append
    await Dispatcher(writer).deliver(event(EventKind.PREPARE_BACKUP))
    assert seen == [None]


async def test_the_set_id_is_told_only_while_the_set_is_made(writer: Any) -> Any:
    seen: dict[str, Any] = {}

    def note(name: Any) -> Any:
        return lambda *_: seen.__setitem__(name, writer.current_snapshot_set_id)

    writer.answers["freeze"] = note("freeze")
    writer.on_backup_complete = note("complete")
    dispatcher = Dispatcher(writer)
    await dispatcher.deliver(event(EventKind.FREEZE))
    await dispatcher.deliver(event(EventKind.BACKUP_COMPLETE))
    assert seen["freeze"] is not None
    assert seen["complete"] is None


async def test_the_device_name_is_told_in_post_snapshot_alone(writer: Any) -> None:
    volumes = (SnapshotVolume(volume="F:\\", device_name="/copy/1"), SnapshotVolume(volume="E:\\"))
    seen: list[Any] = []
    writer.on_post_snapshot = lambda components: seen.append(
        writer.get_snapshot_device_name("f:\\")
    )
    writer.answers["freeze"] = lambda: writer.get_snapshot_device_name("F:\\")
    dispatcher = Dispatcher(writer)
    assert (await dispatcher.deliver(event(EventKind.POST_SNAPSHOT, volumes=volumes))).ok
    assert seen == ["/copy/1"]
    outcome = await dispatcher.deliver(event(EventKind.FREEZE, volumes=volumes))
    assert "legal in OnPostSnapshot only, not in OnFreeze" in failure_of(outcome).message


async def test_a_path_is_affected_when_it_is_on_a_volume_of_the_set(
    writer: Any,
) -> None:
    writer.answers["freeze"] = lambda: (
        writer.is_path_affected("/mnt/F/a") and not writer.is_path_affected("E:\\a")
    )
    assert (await Dispatcher(writer).deliver(event(EventKind.FREEZE))).ok


def test_asking_outside_an_event_is_a_bad_state(writer: Any) -> None:
    with pytest.raises(BadState, match="no event is being handled"):
        _ = writer.current_volumes
    with pytest.raises(BadState, match="SetWriterFailure"):
        writer.set_writer_failure(Hresult.VSS_E_WRITERERROR_RETRYABLE)


async def test_a_code_that_is_not_a_writers_is_refused(writer: Any) -> None:
    writer.answers["freeze"] = lambda: writer.set_writer_failure(Hresult.E_FAIL)
    outcome = await Dispatcher(writer).deliver(event(EventKind.FREEZE))
    assert "InvalidArgument" in failure_of(outcome).message


@pytest.mark.parametrize(("limit", "what"), [(0, "freeze_limit_ms 0"), (60_001, "60001")])
def test_a_freeze_limit_outside_the_documented_one_is_refused(
    writer: Any, limit: Any, what: Any
) -> None:
    writer.freeze_limit_ms = limit
    with pytest.raises(InvalidArgument, match=what):
        writer.identity()
