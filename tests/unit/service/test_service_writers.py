"""Writers in a backup: participation, vetoes, limits, documents, the end."""

from typing import Any
from uuid import uuid4

import pytest
import trio

from vssemu.api import requester as table
from vssemu.api import writer as writer_table
from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.enums import WriterState
from vssemu.vss.errors import (
    InvalidArgument,
    ObjectAlreadyExists,
    ObjectNotFound,
    WriterAlreadySubscribed,
)
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import WriterId
from vssemu.vss.writer import EventKind, WriterFailure, WriterIdentity

VETO = WriterFailure(hresult=Hresult.VSS_E_WRITERERROR_RETRYABLE, message="busy")
PARTIAL = WriterFailure(hresult=Hresult.VSS_E_WRITERERROR_PARTIAL_FAILURE, message="one of two")


async def statuses(requester: Any) -> Any:
    await requester.done(table.gather_writer_status)
    return {s.name: s for s in await requester.call(table.writer_status)}


async def test_in_component_mode_a_writer_without_component_hears_nothing_after_prepare(
    one: Any,
) -> None:
    chosen, idle = await one.writer("chosen"), await one.writer("idle")
    requester = await one.requester()
    await requester.created("F:\\", components=[chosen.component()])
    await requester.done(table.backup_complete)
    await requester.call(table.release)
    assert idle.kinds == ["Identify", "PrepareBackup"]
    assert chosen.kinds == [
        "Identify",
        "PrepareBackup",
        "PrepareSnapshot",
        "Freeze",
        "Thaw",
        "PostSnapshot",
        "BackupComplete",
        "BackupShutdown",
    ]


async def test_the_events_carry_set_context_volumes_and_the_document_when_they_should(
    one: Any,
) -> None:
    writer = await one.writer("files")
    requester = await one.requester()
    await requester.created("F:\\", components=[writer.component()])
    await requester.done(table.backup_complete)
    events = {event.kind: event for event in writer.events}
    assert events[EventKind.IDENTIFY].set_id is None
    for kind in (EventKind.PREPARE_SNAPSHOT, EventKind.FREEZE, EventKind.POST_SNAPSHOT):
        assert events[kind].set_id == str(requester.set_id)
        assert events[kind].context == 0x20
        assert [v.volume for v in events[kind].volumes] == ["F:\\"]
        assert events[kind].volumes[0].device_name is None
    for kind, event in events.items():
        has = kind in (
            EventKind.PREPARE_BACKUP,
            EventKind.POST_SNAPSHOT,
            EventKind.BACKUP_COMPLETE,
        )
        assert (event.document is not None) is has
        assert event.select_components is (kind is not EventKind.IDENTIFY)


async def test_what_a_writer_writes_into_its_part_is_in_the_saved_document(one: Any) -> None:
    async def stamp(event: Any) -> Any:
        document = BackupComponentsDocument.parse(event.document)
        (component,) = document.components(event.instance_id)
        component.backup_stamp = "stamp 1"
        return document.to_xml()

    writer = await one.writer("files", plan={EventKind.PREPARE_BACKUP: stamp})
    requester = await one.requester()
    await requester.created("F:\\", components=[writer.component()])
    saved = BackupComponentsDocument.parse(await requester.call(table.save_as_xml))
    (component,) = saved.components(writer.instance_id)
    assert component.backup_stamp == "stamp 1"


async def test_a_writer_that_changes_the_document_in_backup_complete_fails_there(one: Any) -> None:
    async def stamp(event: Any) -> Any:
        document = BackupComponentsDocument.parse(event.document)
        (component,) = document.components(event.instance_id)
        component.backup_stamp = "too late"
        return document.to_xml()

    writer = await one.writer("files", plan={EventKind.BACKUP_COMPLETE: stamp})
    requester = await one.requester()
    await requester.created("F:\\", components=[writer.component()])
    await requester.call(table.set_backup_succeeded, **writer.component(), succeeded=True)
    await requester.done(table.backup_complete)
    assert (await statuses(requester))["files"].state is WriterState.FAILED_AT_BACKUP_COMPLETE
    event = writer.events[-1]
    (component,) = BackupComponentsDocument.parse(event.document).components(writer.instance_id)
    assert component.backup_succeeded


async def test_components_that_are_not_there_or_there_twice_get_their_codes(one: Any) -> None:
    writer = await one.writer("files")
    requester = await one.requester()
    await requester.call(table.initialize_for_backup)
    await requester.done(table.gather_writer_metadata)
    await requester.call(table.add_component, **writer.component())
    with pytest.raises(ObjectAlreadyExists):
        await requester.call(table.add_component, **writer.component())
    with pytest.raises(ObjectNotFound):
        await requester.call(
            table.add_component, **(writer.component() | {"component_name": "other"})
        )
    with pytest.raises(ObjectNotFound):
        await requester.call(
            table.add_component, **(writer.component() | {"writer_id": writer.instance_id})
        )


@pytest.mark.parametrize("way", ["fatal", "hang", "die", "silent"])
async def test_a_writer_that_fails_identify_is_in_no_list(one: Any, way: Any) -> None:
    async def silent(event: Any) -> Any:
        return "this is no document"

    action = {"fatal": (VETO,), "hang": "hang", "die": "die", "silent": silent}[way]
    await one.writer("bad", plan={EventKind.IDENTIFY: action})
    await one.writer("good")
    requester = await one.requester()
    await requester.created("F:\\")
    assert [w.name for w in await requester.call(table.writer_metadata)] == ["good"]
    assert list(await statuses(requester)) == ["good"]


async def test_a_veto_in_prepare_snapshot_shows_in_the_status_and_raises_no_abort(
    one: Any,
) -> None:
    bad = await one.writer("bad", plan={EventKind.PREPARE_SNAPSHOT: (VETO,)})
    requester = await one.requester()
    await requester.created("F:\\")
    status = (await statuses(requester))["bad"]
    assert status.state is WriterState.FAILED_AT_PREPARE_SNAPSHOT
    assert (status.failure, status.message) == (VETO.hresult, "busy")
    assert bad.kinds == ["Identify", "PrepareBackup", "PrepareSnapshot"]


async def test_a_failure_that_is_not_fatal_lets_the_writer_take_part_to_the_end(one: Any) -> None:
    writer = await one.writer("files", plan={EventKind.PREPARE_BACKUP: PARTIAL})
    requester = await one.requester()
    await requester.created("F:\\")
    assert "PostSnapshot" in writer.kinds
    status = (await statuses(requester))["files"]
    assert status.state is WriterState.FAILED_AT_PREPARE_BACKUP
    assert status.failure == Hresult.VSS_E_WRITERERROR_PARTIAL_FAILURE


async def test_a_writer_that_refuses_to_freeze_gets_abort_instead_of_thaw(one: Any) -> None:
    bad = await one.writer("bad", plan={EventKind.FREEZE: (VETO,)})
    good = await one.writer("good")
    requester = await one.requester()
    await requester.created("F:\\")
    assert bad.kinds[-2:] == ["Freeze", "Abort"]
    assert "Thaw" in good.kinds
    assert "Abort" not in good.kinds
    assert (await statuses(requester))["bad"].state is WriterState.FAILED_AT_FREEZE


async def test_a_writer_that_hangs_in_freeze_is_aborted_at_its_own_limit(one: Any) -> None:
    bad = await one.writer("bad", plan={EventKind.FREEZE: "hang"}, freeze_limit_ms=150)
    good = await one.writer("good")
    requester = await one.requester()
    await requester.created("F:\\")
    status = (await statuses(requester))["bad"]
    assert status.state is WriterState.FAILED_AT_FREEZE
    assert status.failure == Hresult.VSS_E_WRITERERROR_TIMEOUT
    assert bad.kinds[-2:] == ["Freeze", "Abort"]
    assert bad.events[-2].deadline_ms <= 150
    assert "Abort" not in good.kinds
    assert [e["code"] for e in one.events("writer_failure")] == ["VSS_E_WRITERERROR_TIMEOUT"]


async def test_a_writer_frozen_longer_than_its_limit_is_aborted_before_the_thaw(one: Any) -> None:
    writer = await one.writer("files", freeze_limit_ms=100)

    async def slow() -> None:
        await trio.sleep(0.2)

    one.plan["array"].update({"PreCommitSnapshots": slow})
    requester = await one.requester()
    await requester.created("F:\\")
    status = (await statuses(requester))["files"]
    assert status.failure == Hresult.VSS_E_WRITERERROR_TIMEOUT
    assert writer.kinds[-1] == "Abort"
    assert "Thaw" not in writer.kinds
    assert one.journal.index("files: Abort") < one.journal.index("provider: CommitSnapshots")


@pytest.mark.parametrize("kind", [EventKind.PREPARE_SNAPSHOT, EventKind.FREEZE, EventKind.THAW])
async def test_a_writer_that_dies_in_an_event_has_failed_and_the_set_is_created(
    one: Any, kind: Any
) -> None:
    await one.writer("mortal", plan={kind: "die"})
    requester = await one.requester()
    await requester.created("F:\\")
    status = (await statuses(requester))["mortal"]
    assert status.failure == Hresult.VSS_E_WRITER_NOT_RESPONDING
    assert status.state.name == f"FAILED_AT_{kind.name}"


async def test_a_writer_that_is_gone_after_the_backup_does_not_respond(one: Any) -> None:
    writer = await one.writer("files")
    requester = await one.requester()
    await requester.created("F:\\")
    writer.scope.cancel()
    await one.until(lambda: not one.service.parts.writers.instances())
    status = (await statuses(requester))["files"]
    assert status.state is WriterState.UNKNOWN
    assert status.failure == Hresult.VSS_E_WRITER_NOT_RESPONDING


async def test_a_death_of_the_requester_brings_shutdown_without_completion(one: Any) -> None:
    writer = await one.writer("files")
    requester = await one.requester()
    await requester.created("F:\\")
    await requester.close()
    await one.until(lambda: writer.kinds[-1] == "BackupShutdown")
    assert "BackupComplete" not in writer.kinds
    assert writer.events[-1].set_id == str(requester.set_id)


async def test_abort_after_a_created_set_tells_the_writers_and_nothing_under_way_is_ignored(
    one: Any,
) -> None:
    writer = await one.writer("files")
    requester = await one.requester()
    await requester.call(table.initialize_for_backup)
    await requester.call(table.abort_backup)
    assert writer.kinds == []
    other = await one.requester()
    await other.created("F:\\")
    await other.call(table.abort_backup)
    assert writer.kinds[-1] == "Abort"


async def test_instances_are_new_at_every_subscription_and_unique_in_a_process(one: Any) -> None:
    first = await one.writer("files")
    async with await one.connect() as client:
        with pytest.raises(WriterAlreadySubscribed):
            async for _ in client.stream(writer_table.subscribe, writer=first.identity):
                pass
    first.scope.cancel()
    await one.until(lambda: not one.service.parts.writers.instances())
    second = await one.writer("files")
    assert second.instance_id != first.instance_id


async def test_an_answer_to_an_event_that_nobody_waits_for_is_refused(one: Any) -> None:
    async with await one.connect() as client:
        with pytest.raises(ObjectNotFound):
            await client.call(writer_table.answer, "0123", True)


async def test_a_writer_without_a_name_or_with_a_limit_over_a_minute_is_refused(one: Any) -> None:
    for identity in (
        WriterIdentity(writer_id=WriterId(uuid4()), name=""),
        WriterIdentity(writer_id=WriterId(uuid4()), name="w", freeze_limit_ms=60_001),
    ):
        async with await one.connect() as client:
            with pytest.raises(InvalidArgument):
                async for _ in client.stream(writer_table.subscribe, writer=identity):
                    pass
