"""One creation: the order of events, the wrong orders, one at a time."""

from typing import Any

import pytest
import trio

from vssemu.api import requester as table
from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.enums import ApplicationLevel, BackupType, WriterState
from vssemu.vss.errors import (
    BadState,
    MaximumNumberOfVolumesReached,
    ObjectAlreadyExists,
    ObjectNotFound,
    ProviderNotRegistered,
    SnapshotSetInProgress,
    UnsupportedContext,
    VolumeNotSupported,
    VolumeNotSupportedByProvider,
)
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import ProviderId


async def test_the_events_of_a_transportable_creation_come_in_the_documented_order(
    one: Any,
) -> None:
    await one.writer("system", level=ApplicationLevel.SYSTEM)
    await one.writer("back", level=ApplicationLevel.BACK_END)
    await one.writer("front", level=ApplicationLevel.FRONT_END)
    requester = await one.requester()
    one.journal.clear()
    await requester.prepared("F:\\")
    begun = [line for line in one.journal if line.startswith("provider")]
    assert begun == ["provider: AreLunsSupported", "provider: BeginPrepareSnapshot"]
    one.journal.clear()
    assert await requester.done(table.do_snapshot_set) == Hresult.VSS_S_ASYNC_FINISHED
    assert collapse(one.journal) == [
        "provider: EndPrepareSnapshots",
        "host: flags F:\\ f",
        {"system: PrepareSnapshot", "back: PrepareSnapshot", "front: PrepareSnapshot"},
        "front: Freeze",
        "back: Freeze",
        "system: Freeze",
        "provider: PreCommitSnapshots",
        "host: hold",
        "provider: CommitSnapshots",
        "host: release writes",
        "host: flags F:\\ 0",
        "provider: PostCommitSnapshots",
        {"system: Thaw", "back: Thaw", "front: Thaw"},
        "provider: GetTargetLuns",
        "provider: PreFinalCommitSnapshots",
        {"system: PostSnapshot", "back: PostSnapshot", "front: PostSnapshot"},
        "provider: PostFinalCommitSnapshots",
    ]


def collapse(journal: Any) -> Any:
    """Put neighbouring lines about one writer event into a set: writers hear it at once."""
    together = {"PrepareSnapshot", "Thaw", "PostSnapshot"}
    lines: list[Any] = []
    for line in journal:
        who, _, what = line.partition(": ")
        if who not in ("provider", "host") and what in together:
            if lines and isinstance(lines[-1], set):
                lines[-1].add(line)
            else:
                lines.append({line})
        else:
            lines.append(line)
    return lines


async def test_a_set_that_is_not_transportable_comes_up_on_its_creator(
    one: Any, requester: Any
) -> None:
    writer = await one.writer("files")
    (copy,) = await requester.prepared("F:\\", context=0)
    one.journal.clear()
    await requester.done(table.do_snapshot_set)
    tail = one.journal[one.journal.index("provider: GetTargetLuns") :]
    assert tail == [
        "provider: GetTargetLuns",
        "provider: LocateLuns",
        "host: rescan",
        "provider: FillInLunInfo",
        "host: identity 1",
        "host: surface",
        "provider: PreFinalCommitSnapshots",
        "files: PostSnapshot",
        "provider: PostFinalCommitSnapshots",
    ]
    properties = await requester.call(table.get_snapshot_properties, copy)
    assert properties.device_object == "/run/HarddiskVolumeShadowCopy1"
    assert properties.status == 12
    assert not properties.attributes & 0x80000
    assert properties.attributes & 0x10040 == 0x10040
    event = writer.events[-1]
    assert [(v.volume, v.device_name) for v in event.volumes] == [
        ("F:\\", properties.device_object)
    ]


async def test_the_document_of_a_transportable_set_carries_what_an_import_needs(
    one: Any, requester: Any
) -> None:
    ids = await requester.created("F:\\", "G:\\")
    document = BackupComponentsDocument.parse(await requester.call(table.save_as_xml))
    description = document.snapshot_set_description()
    assert description.snapshot_set_id == requester.set_id
    assert [s.properties.snapshot_id for s in description.snapshots] == ids
    for snapshot in description.snapshots:
        (mapping,) = snapshot.luns
        assert mapping.source.naa != mapping.destination.naa
        assert mapping.extents
        assert snapshot.properties.snapshots_count == 2
    with pytest.raises(ObjectNotFound):
        await requester.call(table.get_snapshot_properties, ids[0])


async def test_a_copy_has_no_properties_before_it_is_created(one: Any, requester: Any) -> None:
    (copy,) = await requester.prepared("F:\\", context=0)
    with pytest.raises(ObjectNotFound):
        await requester.call(table.get_snapshot_properties, copy)


async def test_volumes_on_a_shared_lun_get_their_flags_and_one_copy_of_the_lun(
    one: Any, requester: Any
) -> None:
    one.host.share_lun("F", "G")
    one.journal.clear()
    await requester.created("F:\\", context=0x30, writers=False)
    assert "host: flags G:\\ f" in one.journal
    assert one.journal.count("host: flags G:\\ 0") == 1
    assert len(one.array.copies) == 1


async def test_a_second_requester_is_refused_until_the_first_is_done(one: Any) -> None:
    first, second = await one.requester(), await one.requester()
    await first.prepared("F:\\", writers=False, context=0x30)
    await second.call(table.initialize_for_backup)
    with pytest.raises(SnapshotSetInProgress):
        await second.call(table.start_snapshot_set)
    await first.done(table.do_snapshot_set)
    assert await second.call(table.start_snapshot_set)


async def test_the_slot_is_free_after_a_failed_creation(one: Any) -> None:
    first, second = await one.requester(), await one.requester()
    await first.prepared("F:\\", writers=False, context=0x30)
    one.plan["array"]["CommitSnapshots"] = RuntimeError("broken")
    status = await first.finish(table.do_snapshot_set)
    assert status.hresult == Hresult.VSS_E_UNEXPECTED_PROVIDER_ERROR
    await second.call(table.initialize_for_backup)
    await second.call(table.start_snapshot_set)


async def test_the_slot_is_free_when_its_holder_aborts_releases_or_dies(one: Any) -> None:
    for way in ("abort", "release", "die"):
        holder, waiting = await one.requester(), await one.requester()
        await holder.call(table.initialize_for_backup)
        await holder.call(table.start_snapshot_set)
        if way == "abort":
            await holder.call(table.abort_backup)
        elif way == "release":
            await holder.call(table.release)
        else:
            await holder.close()
        await waiting.call(table.initialize_for_backup)
        with trio.fail_after(3):
            while True:
                try:
                    await waiting.call(table.start_snapshot_set)
                    break
                except SnapshotSetInProgress:
                    await trio.sleep(0.01)
        await waiting.call(table.release)


WRONG = [
    ([], table.start_snapshot_set, ()),
    ([], table.save_as_xml, ()),
    ([], table.abort_backup, ()),
    (["init"], table.initialize_for_backup, ()),
    (["init"], table.add_to_snapshot_set, ("F:\\",)),
    (["init"], table.do_snapshot_set, ()),
    (["init"], table.prepare_for_backup, ()),
    (["init"], table.writer_metadata, ()),
    (["init"], table.gather_writer_status, ()),
    (["init"], table.writer_status, ()),
    (["init"], table.save_as_xml, ()),
    (["init"], table.import_snapshots, ()),
    (["init"], table.backup_complete, ()),
    (["init"], table.query, ()),
    (["init", "start"], table.set_context, (0,)),
    (["init", "start"], table.start_snapshot_set, ()),
    (["init", "start"], table.do_snapshot_set, ()),
    (["init", "start"], table.prepare_for_backup, ()),
    (["init", "start", "gather"], table.prepare_for_backup, ()),
    (["init", "context"], table.set_context, (0,)),
    (["init", "gather"], table.gather_writer_metadata, ()),
    (["init", "start", "abort"], table.add_to_snapshot_set, ("F:\\",)),
    (["init", "start", "abort"], table.do_snapshot_set, ()),
]


@pytest.mark.parametrize(("steps", "method", "arguments"), WRONG)
async def test_a_call_out_of_order_is_a_bad_state_and_has_no_effect(
    one: Any, requester: Any, steps: Any, method: Any, arguments: Any
) -> None:
    ways = {
        "init": lambda: requester.call(table.initialize_for_backup),
        "start": lambda: requester.call(table.start_snapshot_set),
        "gather": lambda: requester.done(table.gather_writer_metadata),
        "context": lambda: requester.call(table.set_context, 0),
        "abort": lambda: requester.call(table.abort_backup),
    }
    for step in steps:
        await ways[step]()
    one.journal.clear()
    with pytest.raises(BadState) as caught:
        await requester.call(method, *arguments)
    assert caught.value.hint
    assert one.journal == []


async def test_contexts_without_writers_send_no_event_and_refuse_writer_calls(
    one: Any, requester: Any
) -> None:
    writer = await one.writer("files")
    await requester.call(table.initialize_for_backup)
    await requester.call(table.set_context, 0x30)
    await requester.call(table.set_backup_state, False, False, BackupType.FULL)
    await requester.done(table.gather_writer_metadata)
    await requester.call(table.start_snapshot_set)
    with pytest.raises(BadState, match="no writers"):
        await requester.call(table.add_component, **writer.component())
    with pytest.raises(BadState, match="no writers"):
        await requester.call(table.prepare_for_backup)
    await requester.call(table.add_to_snapshot_set, "F:\\")
    await requester.done(table.do_snapshot_set)
    with pytest.raises(BadState, match="no writers"):
        await requester.call(table.backup_complete)
    assert writer.kinds == ["Identify"]


async def test_an_empty_set_is_created_with_writers_and_refused_without(one: Any) -> None:
    writer = await one.writer("files")
    first = await one.requester()
    await first.created(context=0)
    assert "Thaw" in writer.kinds
    second = await one.requester()
    await second.prepared(context=0x10, writers=False)
    with pytest.raises(BadState, match="empty"):
        await second.call(table.do_snapshot_set)


async def test_the_sixty_fifth_volume_is_refused_and_not_added(one: Any, requester: Any) -> None:
    letters = [chr(code) for code in range(0x100, 0x100 + 65)]
    one.host.known |= {f"{letter}:\\": one.host._volume(letter) for letter in letters}
    await requester.call(table.initialize_for_backup)
    await requester.call(table.set_context, 0x30)
    await requester.call(table.start_snapshot_set)
    for letter in letters[:64]:
        await requester.call(table.add_to_snapshot_set, f"{letter}:\\")
    with pytest.raises(MaximumNumberOfVolumesReached):
        await requester.call(table.add_to_snapshot_set, f"{letters[64]}:\\")
    await requester.done(table.do_snapshot_set)
    assert len(one.array.copies) == 64


async def test_wrong_volumes_and_providers_get_their_codes(one: Any, requester: Any) -> None:
    await requester.call(table.initialize_for_backup)
    with pytest.raises(BadState):
        await requester.call(table.add_to_snapshot_set, "F:\\")
    await requester.call(table.start_snapshot_set)
    with pytest.raises(ObjectNotFound):
        await requester.call(table.add_to_snapshot_set, "X:\\")
    with pytest.raises(ObjectNotFound):
        await requester.call(table.add_to_snapshot_set, "F:")
    stranger = ProviderId(
        requester.set_id if hasattr(requester, "set_id") else one.host.known["F:\\"].guid
    )
    with pytest.raises(ProviderNotRegistered):
        await requester.call(table.add_to_snapshot_set, "F:\\", stranger)
    one.host.refused.add(one.host.known["G:\\"].name)
    with pytest.raises(VolumeNotSupported):
        await requester.call(table.add_to_snapshot_set, "G:\\")
    one.plan.setdefault("array", {})["refuses"] = True
    with pytest.raises(VolumeNotSupportedByProvider):
        await requester.call(table.add_to_snapshot_set, "F:\\", one.provider_id)
    with pytest.raises(VolumeNotSupported) as caught:
        await requester.call(table.add_to_snapshot_set, "F:\\")
    assert type(caught.value) is VolumeNotSupported
    assert await requester.call(table.is_volume_supported, "F:\\") is False
    one.plan["array"]["refuses"] = False
    assert await requester.call(table.is_volume_supported, "F:\\") is True
    await requester.call(table.add_to_snapshot_set, "F:\\")
    with pytest.raises(ObjectAlreadyExists):
        await requester.call(table.add_to_snapshot_set, one.host.known["F:\\"].name)


async def test_the_administration_context_creates_nothing(one: Any, requester: Any) -> None:
    await requester.call(table.initialize_for_backup)
    await requester.call(table.set_context, 0xFFFFFFFF)
    with pytest.raises(UnsupportedContext):
        await requester.call(table.start_snapshot_set)


async def test_every_creation_leaves_one_event_with_its_phases_and_the_hold(
    one: Any, requester: Any
) -> None:
    await one.writer("files")
    await requester.created("F:\\")
    (event,) = one.events("creation")
    assert event["outcome"] == "ok"
    assert event["hold_seconds"] > 0
    names = [step["name"] for step in event["steps"]]
    assert names[:2] == ["identify", "start_snapshot_set"]
    assert "freeze_front_end" in names
    assert names[-1] == "finish"
    assert all(step["outcome"] == "ok" for step in event["steps"])


async def test_nothing_is_logged_while_writes_are_held(one: Any, requester: Any) -> None:
    path = one.state / "events.jsonl"
    sizes = []

    async def look() -> None:
        one.service.parts.log.record("noise")
        sizes.append(path.stat().st_size if path.exists() else 0)
        assert one.host.is_holding

    one.plan["array"].update({"CommitSnapshots": look})
    await requester.prepared("F:\\", writers=False, context=0x30)
    before = path.stat().st_size if path.exists() else 0
    await requester.done(table.do_snapshot_set)
    assert sizes == [before]
    assert one.events("noise")


async def test_the_status_of_an_operation_is_pending_then_finished(
    one: Any, requester: Any
) -> None:
    gate = trio.Event()
    one.plan["array"].update({"EndPrepareSnapshots": gate.wait})
    await requester.prepared("F:\\", writers=False, context=0x30)
    operation = await requester.call(table.do_snapshot_set)
    pending = await requester.client.call(table.query_status, operation)
    assert pending.hresult == Hresult.VSS_S_ASYNC_PENDING
    waited = await requester.client.call(table.wait, operation, 20)
    assert waited.hresult == Hresult.VSS_S_ASYNC_PENDING
    with pytest.raises(BadState, match="under way"):
        await requester.call(table.save_as_xml)
    gate.set()
    finished = await requester.client.call(table.wait, operation, None)
    assert finished.hresult == Hresult.VSS_S_ASYNC_FINISHED
    again = await requester.client.call(table.cancel, operation)
    assert again.hresult == Hresult.VSS_S_ASYNC_FINISHED


async def test_a_cancelled_creation_is_undone_and_says_so_twice(one: Any, requester: Any) -> None:
    writer = await one.writer("files")
    await requester.prepared("F:\\")
    one.plan["array"]["EndPrepareSnapshots"] = "hang"
    operation = await requester.call(table.do_snapshot_set)
    await one.until(lambda: "provider: EndPrepareSnapshots" in one.journal)
    first = await requester.client.call(table.cancel, operation)
    assert first.hresult == Hresult.S_OK
    again = await requester.client.call(table.cancel, operation)
    assert again.hresult == Hresult.VSS_S_ASYNC_CANCELLED
    assert "provider: AbortSnapshots" in one.journal
    assert one.array.copies == {}
    assert "Abort" not in writer.kinds
    with pytest.raises(BadState):
        await requester.call(table.backup_complete)


async def test_statuses_of_a_good_backup_go_from_waiting_to_stable(
    one: Any, requester: Any
) -> None:
    await one.writer("files")
    await requester.created("F:\\")
    await requester.done(table.gather_writer_status)
    (status,) = await requester.call(table.writer_status)
    assert status.state is WriterState.WAITING_FOR_BACKUP_COMPLETE
    await requester.done(table.backup_complete)
    await requester.done(table.gather_writer_status)
    (status,) = await requester.call(table.writer_status)
    assert (status.state, status.failure) == (WriterState.STABLE, Hresult.S_OK)


async def test_a_provider_is_loaded_before_anybody_needs_it(one: Any) -> None:
    (program,) = one.programs
    # Both hosts write the one journal.
    assert one.journal == ["provider: OnLoad"] * 2
    requester = await one.requester()
    await requester.created("F:\\", context=0x30, writers=False)
    assert one.programs == [program]


async def test_a_provider_that_does_not_load_ahead_is_tried_again_when_needed(one: Any) -> None:
    one.plan["array"]["OnLoad"] = RuntimeError("not yet")
    await one.stop()
    await one.start()
    assert len(one.events("provider_error")) == 1
    one.plan["array"].clear()
    requester = await one.requester()
    await requester.created("F:\\", context=0x30, writers=False)
    assert len(one.programs) == 3
