"""What cannot be finished when it is due stays in the catalog, and is finished later."""

from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import trio

from vssemu.api import requester as table
from vssemu.rpc.errors import RpcError
from vssemu.service.catalog import SetStatus
from vssemu.vss.enums import ObjectType
from vssemu.vss.errors import ObjectNotFound, UnexpectedProviderError
from vssemu.vss.hresult import Hresult
from vssemu.vss.provider import ProviderFailure

VETO = ProviderFailure(Hresult.VSS_E_PROVIDER_VETO, "the array does not answer")
NOT_ITS = ProviderFailure(Hresult.VSS_E_OBJECT_NOT_FOUND, "another host has it")


def sets(node: Any) -> dict[SetStatus, int]:
    return {stored.status: len(stored.copies) for stored in node.service.parts.catalog.sets()}


async def administrator(node: Any) -> Any:
    requester = await node.requester()
    await requester.call(table.initialize_for_backup)
    await requester.call(table.set_context, 0xFFFFFFFF)
    return requester


async def imported(one: Any, two: Any) -> tuple[Any, Any]:
    """Import a persistent set; return its id and its copy's."""
    creator = await one.requester()
    (copy,) = await creator.created("F:\\", context=0x29)
    backup = await two.requester()
    await backup.call(table.initialize_for_backup, await creator.call(table.save_as_xml))
    await backup.done(table.import_snapshots)
    return creator.set_id, copy


async def test_a_held_set_that_could_not_be_given_back_is_given_back_later(
    one: Any, requester: Any
) -> None:
    await requester.created("F:\\", context=0x20)
    one.plan["array"]["OnLunEmpty"] = VETO
    await requester.call(table.release)
    assert sets(one) == {SetStatus.RETURNING: 1}
    assert len(one.array.copies) == 1
    del one.plan["array"]["OnLunEmpty"]
    await one.until(lambda: not one.array.copies)
    await one.until(lambda: sets(one) == {})


async def test_a_held_set_is_given_back_by_the_next_service_as_well(
    one: Any, requester: Any
) -> None:
    await requester.created("F:\\", context=0x20)
    one.plan["array"]["FillInLunInfo"] = VETO
    await requester.call(table.release)
    await one.crash()
    one.plan["array"].clear()
    await one.start()
    assert one.array.copies == {}
    assert sets(one) == {}


async def test_a_held_set_that_another_host_has_is_let_go(one: Any, requester: Any) -> None:
    await requester.created("F:\\", context=0x20)
    one.plan["array"]["OnLunEmpty"] = NOT_ITS
    await requester.call(table.release)
    assert sets(one) == {}


@pytest.mark.parametrize("context", [0, 0x20])
async def test_a_creation_that_could_not_be_undone_is_undone_later(
    one: Any, requester: Any, context: Any
) -> None:
    one.plan["array"].update(
        PostFinalCommitSnapshots=VETO, AbortSnapshots=VETO, FillInLunInfo=VETO
    )
    await requester.prepared("F:\\", context=context)
    await requester.finish(table.do_snapshot_set)
    assert sets(one) == {SetStatus.UNDOING: 1}
    assert len(one.array.copies) == 1
    one.plan["array"].clear()
    await one.until(lambda: sets(one) == {} and not one.array.copies)


async def test_an_undoing_waits_for_the_end_of_another_creation(one: Any, requester: Any) -> None:
    one.plan["array"].update(PreCommitSnapshots=VETO, AbortSnapshots=VETO)
    await requester.prepared("F:\\")
    await requester.finish(table.do_snapshot_set)
    one.plan["array"].clear()
    one.plan["array"]["EndPrepareSnapshots"] = partial(trio.sleep, 0.7)
    other = await one.requester()
    one.journal.clear()
    await other.created("G:\\")
    made = one.journal.index("provider: PostFinalCommitSnapshots")
    await one.until(lambda: "provider: AbortSnapshots" in one.journal)
    assert one.journal.index("provider: AbortSnapshots") > made


@pytest.mark.parametrize("call", ["FillInLunInfo", "OnLunEmpty"])
async def test_a_deletion_goes_to_its_end_without_its_requester(
    one: Any, two: Any, call: Any
) -> None:
    set_id, _ = await imported(one, two)
    dying = await administrator(two)
    go_on = trio.Event()
    two.plan["array"][call] = go_on.wait
    two.journal.clear()
    async with trio.open_nursery() as nursery:

        async def delete() -> None:
            with pytest.raises(RpcError):
                await dying.call(
                    table.delete_snapshots, set_id, ObjectType.SNAPSHOT_SET, force=False
                )

        nursery.start_soon(delete)
        await two.until(lambda: f"provider: {call}" in two.journal)
        await dying.close()
    witness = await administrator(two)
    assert await witness.call(table.query) == []
    go_on.set()
    await two.until(lambda: sets(two) == {} and not two.array.copies)


async def test_a_deletion_cut_off_by_a_crash_is_finished(one: Any, two: Any) -> None:
    set_id, copy = await imported(one, two)
    requester = await administrator(two)
    two.plan["array"]["OnLunEmpty"] = "hang"
    two.journal.clear()
    async with trio.open_nursery() as nursery:

        async def delete() -> None:
            with pytest.raises(RpcError):
                await requester.call(
                    table.delete_snapshots, copy, ObjectType.SNAPSHOT, force=False
                )

        nursery.start_soon(delete)
        await two.until(lambda: "provider: OnLunEmpty" in two.journal)
        await two.crash()
    two.plan["array"]["OnLunEmpty"] = VETO
    await two.start()
    # Not done yet, and nobody's to see: a deleted copy must never come back.
    assert sets(two) == {SetStatus.PRESENT: 1}
    again = await administrator(two)
    assert await again.call(table.query) == []
    with pytest.raises(ObjectNotFound):
        await again.call(table.break_snapshot_set, set_id)
    two.plan["array"].clear()
    await two.until(lambda: sets(two) == {} and not two.array.copies)


async def test_a_deletion_that_the_provider_refuses_leaves_the_copy_to_its_requester(
    one: Any, two: Any
) -> None:
    _, copy = await imported(one, two)
    requester = await administrator(two)
    two.plan["array"]["OnLunEmpty"] = VETO
    deleted = await requester.call(table.delete_snapshots, copy, ObjectType.SNAPSHOT, force=False)
    assert deleted.hresult == Hresult.VSS_E_PROVIDER_VETO
    assert [each.snapshot_id for each in await requester.call(table.query)] == [copy]
    two.plan["array"].clear()
    await trio.sleep(3 * two.limits.retry)
    assert len(await requester.call(table.query)) == 1
    again = await requester.call(table.delete_snapshots, copy, ObjectType.SNAPSHOT, force=False)
    assert again.deleted == 1


async def test_a_break_cut_off_by_a_crash_is_finished_and_deletes_nothing(
    one: Any, two: Any
) -> None:
    set_id, copy = await imported(one, two)
    two.service.parts.catalog.set_status(set_id, SetStatus.BREAKING)
    await two.crash()
    two.journal.clear()
    await two.start()
    assert sets(two) == {}
    assert len(two.array.copies) == 1
    assert "provider: OnLunEmpty" not in two.journal
    (event,) = two.events("shadow_copy_broken")
    assert event["snapshot_id"] == str(copy)


async def test_a_provider_that_ends_between_two_calls_is_an_unexpected_error(
    one: Any, requester: Any
) -> None:
    await requester.prepared("F:\\")
    (program,) = one.programs
    await program.kill()
    # Its successor knows nothing of the set.
    lost = ProviderFailure(Hresult.VSS_E_OBJECT_NOT_FOUND, f"no set {uuid4()}")
    one.plan["array"]["EndPrepareSnapshots"] = lost
    with pytest.raises(UnexpectedProviderError):
        await requester.done(table.do_snapshot_set)


async def test_a_provider_that_ends_between_two_volumes_spoils_the_set(
    one: Any, requester: Any
) -> None:
    await requester.prepared("F:\\")
    (program,) = one.programs
    await program.kill()
    with pytest.raises(UnexpectedProviderError):
        await requester.call(table.add_to_snapshot_set, "G:\\")


async def test_an_abort_is_told_once(one: Any, requester: Any) -> None:
    writer = await one.writer("files")
    one.plan["array"]["PreCommitSnapshots"] = VETO
    await requester.prepared("F:\\")
    await requester.finish(table.do_snapshot_set)
    await requester.call(table.abort_backup)
    await requester.call(table.release)
    assert writer.kinds.count("Abort") == 1
    assert writer.kinds[-1] == "BackupShutdown"
