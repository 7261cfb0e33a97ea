"""BreakSnapshotSetEx: masking and importing again, writable volumes, flags that are refused."""

from typing import Any

import pytest
import trio

from vssemu.api import requester as table
from vssemu.api.errors import decode_error
from vssemu.service.catalog import SetStatus
from vssemu.vss.enums import HardwareOptions, LunStateChange
from vssemu.vss.errors import (
    BadState,
    InvalidArgument,
    NotSupportedHere,
    ObjectNotFound,
    ProviderVeto,
    UnexpectedProviderError,
)
from vssemu.vss.hresult import Hresult
from vssemu.vss.provider import ProviderFailure

MASK, WRITE = HardwareOptions.MASK_LUNS, HardwareOptions.MAKE_READ_WRITE
ALL, NONE = HardwareOptions.REVERT_IDENTITY_ALL, HardwareOptions.REVERT_IDENTITY_NONE


async def imported(one: Any, two: Any, *volumes: Any, context: Any = 0x29) -> Any:
    """Import a set on the second host; return its importer, the copies' ids, the document."""
    creator = await one.requester()
    ids = await creator.created(*volumes, context=context)
    document = await creator.call(table.save_as_xml)
    importer = await loaded(two, document)
    importer.set_id = creator.set_id
    await importer.done(table.import_snapshots)
    return importer, ids, document


async def loaded(node: Any, document: Any) -> Any:
    requester = await node.requester()
    await requester.call(table.initialize_for_backup, document)
    await requester.call(table.set_context, 0xFFFFFFFF)
    return requester


async def broken(requester: Any, set_id: Any, flags: Any) -> None:
    operation = await requester.call(table.break_snapshot_set_ex, set_id, flags)
    status = await requester.call(table.wait, operation, None)
    if status.hresult != Hresult.VSS_S_ASYNC_FINISHED:
        raise decode_error(
            {"hresult": status.hresult, "fact": status.fact, "hint": status.hint, "item": None}
        )


async def test_a_masked_set_is_off_this_host_and_is_imported_elsewhere_and_here_again(
    one: Any, two: Any
) -> None:
    backup, ids, document = await imported(one, two, "F:\\", "G:\\")
    luns = list(one.array.copies)
    sources = [copy.source for copy in one.array.copies.values()]
    two.journal.clear()
    await broken(backup, backup.set_id, MASK)
    assert two.journal == [
        "host: remove",
        "host: remove",
        "provider: OnLunStateChange",
        "host: retire",
        "host: retire",
    ]
    assert one.array.changes == [(int(LunStateChange.DO_MASK_LUNS), sources)]
    assert list(one.array.copies) == luns, "the provider deletes nothing"
    assert await backup.call(table.query) == []
    assert two.service.parts.catalog.sets() == []
    events = two.events("shadow_copy_masked")
    assert [event["snapshot_id"] for event in events] == [str(copy) for copy in ids]
    with pytest.raises(BadState, match="not imported"):
        await broken(backup, backup.set_id, MASK)
    with pytest.raises(ObjectNotFound):
        await backup.call(table.get_snapshot_properties, ids[0])
    await backup.call(table.release)
    assert list(one.array.copies) == luns, "nor does the end of the importer"
    for node in (one, two):
        again = await loaded(node, document)
        await again.done(table.import_snapshots)
        assert [copy.snapshot_id for copy in await again.call(table.query)] == ids
        await broken(again, backup.set_id, MASK)
    assert two.host.failed == {}


async def test_a_mask_that_the_provider_refuses_leaves_the_set_as_it_was(
    one: Any, two: Any
) -> None:
    backup, ids, _ = await imported(one, two, "F:\\", "G:\\")
    before = await backup.call(table.query)
    two.plan["array"]["OnLunStateChange"] = ProviderFailure(
        Hresult.VSS_E_PROVIDER_VETO, "the array is being serviced"
    )
    with pytest.raises(ProviderVeto, match="serviced; the set stays on this host as it was"):
        await broken(backup, backup.set_id, MASK)
    assert await backup.call(table.query) == before
    assert list(two.host.objects) == ids
    assert all(two.host._here(copy.record) for copy in one.array.copies.values())
    two.plan["array"].clear()
    await broken(backup, backup.set_id, MASK)
    assert two.host.objects == {}


async def test_luns_that_were_masked_before_the_provider_failed_are_fetched_back(
    one: Any, two: Any
) -> None:
    backup, ids, _ = await imported(one, two, "F:\\", "G:\\")
    first = next(iter(one.array.copies.values()))

    async def half() -> None:
        one.array.retract([first.record], "systemTwo")
        raise ProviderFailure(Hresult.VSS_E_PROVIDER_VETO, "half done")

    two.plan["array"]["OnLunStateChange"] = half
    with pytest.raises(ProviderVeto, match="half done; the set stays"):
        await broken(backup, backup.set_id, MASK)
    assert (first.state, first.owner) == ("claimed", "systemTwo")
    assert [copy.snapshot_id for copy in await backup.call(table.query)] == ids
    assert set(two.host.objects) == set(ids)


async def test_a_provider_that_hangs_in_a_mask_does_not_cost_the_set(one: Any, two: Any) -> None:
    backup, ids, _ = await imported(one, two, "F:\\")
    two.plan["array"]["OnLunStateChange"] = "hang"
    with pytest.raises(UnexpectedProviderError, match="stays on this host"):
        await broken(backup, backup.set_id, MASK)
    assert [copy.snapshot_id for copy in await backup.call(table.query)] == ids


async def test_a_mask_that_is_cancelled_or_released_under_way_is_done(one: Any, two: Any) -> None:
    backup, _, _ = await imported(one, two, "F:\\")
    real = two.host.remove

    async def remove(luns: Any) -> None:
        await real(luns)
        two.nursery.start_soon(backup.call, table.release)
        await two.until(lambda: two.service._requester._sessions.any(backup.session, 0).is_ending)

    two.host.remove = remove
    await backup.call(table.break_snapshot_set_ex, backup.set_id, MASK)
    await two.until(lambda: two.service.parts.catalog.sets() == [])
    assert [copy.state for copy in one.array.copies.values()] == ["committed"]


async def cut_off(one: Any, two: Any, *, context: Any, is_masked: bool) -> Any:
    """Crash the service while a provider masks a set; return what is in the document."""
    backup, ids, document = await imported(one, two, "F:\\", context=context)

    async def hang() -> None:
        if is_masked:
            one.array.retract([copy.record for copy in one.array.copies.values()], "systemTwo")
        await trio.sleep_forever()

    two.plan["array"]["OnLunStateChange"] = hang
    await backup.call(table.break_snapshot_set_ex, backup.set_id, MASK)
    await two.until(lambda: "provider: OnLunStateChange" in two.journal)
    (left,) = two.service.parts.catalog.sets()
    assert left.status is SetStatus.MASKING
    await two.crash()
    two.plan["array"].clear()
    return ids, document


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("context", [0x20, 0x29])
async def test_a_mask_cut_off_by_a_crash_is_finished_at_the_next_start(
    one: Any, two: Any, context: int, is_masked: bool
) -> None:
    ids, document = await cut_off(one, two, context=context, is_masked=is_masked)
    await two.start()
    assert two.service.parts.catalog.sets() == []
    assert two.host.objects == {}
    (copy,) = one.array.copies.values()
    assert (copy.state, copy.owner) == ("committed", None)
    again = await loaded(two, document)
    await again.done(table.import_snapshots)
    assert [copy.snapshot_id for copy in await again.call(table.query)] == ids


@pytest.mark.parametrize(("context", "count"), [(0x20, 0), (0x29, 1)])
async def test_a_mask_that_cannot_be_finished_at_the_next_start_is_undone(
    one: Any, two: Any, context: int, count: int
) -> None:
    """A set of an auto-release context has nobody any more, and ends as any other would."""
    await cut_off(one, two, context=context, is_masked=False)
    two.plan["array"]["OnLunStateChange"] = ProviderFailure(Hresult.VSS_E_PROVIDER_VETO, "no")
    await two.start()
    found = two.service.parts.catalog.sets()
    assert [stored.status for stored in found] == [SetStatus.PRESENT] * count
    assert len(one.array.copies) == len(two.host.objects) == count


async def test_volumes_of_a_broken_set_are_made_writable_and_the_provider_is_told(
    one: Any, two: Any
) -> None:
    for flags in (WRITE, WRITE | NONE):
        backup, ids, _ = await imported(one, two, "F:\\")
        two.journal.clear()
        one.array.changes.clear()
        await broken(backup, backup.set_id, flags)
        assert two.journal == [
            "host: release copy",
            "host: retire",
            "host: read/write",
            "provider: OnLunStateChange",
        ]
        assert set(ids) <= two.host.writable
        ((change, _),) = one.array.changes
        assert change == LunStateChange.NOTIFY_READ_WRITE
        assert await backup.call(table.query) == []


@pytest.mark.parametrize("flags", [HardwareOptions.NONE, NONE])
async def test_without_a_flag_that_acts_it_is_a_plain_break(
    one: Any, two: Any, flags: HardwareOptions
) -> None:
    backup, ids, _ = await imported(one, two, "F:\\")
    await broken(backup, backup.set_id, flags)
    assert (two.host.released, two.host.writable) == (set(ids), set())
    assert one.array.changes == []
    assert list(two.host.objects) == ids


async def test_a_volume_that_cannot_be_made_writable_is_told_apart_from_the_break(
    one: Any, two: Any
) -> None:
    backup, ids, _ = await imported(one, two, "F:\\")

    async def refuse(_: Any) -> None:
        raise ProviderVeto("it is in use")

    two.host.make_read_write = refuse
    with pytest.raises(ProviderVeto, match="in use; the set is broken, not all of it is writable"):
        await broken(backup, backup.set_id, WRITE)
    assert two.host.released == set(ids)
    assert two.service.parts.catalog.sets() == []


@pytest.mark.parametrize(
    "flags", [MASK | WRITE, MASK | ALL, MASK | NONE, ALL | NONE, 0x10, WRITE | 0x800]
)
async def test_flags_that_do_not_go_together_are_refused_and_change_nothing(
    one: Any, two: Any, flags: int
) -> None:
    backup, ids, _ = await imported(one, two, "F:\\")
    with pytest.raises(InvalidArgument, match=f"0x{int(flags):x}"):
        await broken(backup, backup.set_id, flags)
    assert [copy.snapshot_id for copy in await backup.call(table.query)] == ids
    assert two.host.released == set()


@pytest.mark.parametrize("flags", [ALL, ALL | WRITE])
async def test_the_identity_of_the_originals_is_not_given_back_and_nothing_is_broken(
    one: Any, two: Any, flags: HardwareOptions
) -> None:
    backup, ids, _ = await imported(one, two, "F:\\")
    with pytest.raises(NotSupportedHere, match="GUIDs cannot be given"):
        await broken(backup, backup.set_id, flags)
    assert [copy.snapshot_id for copy in await backup.call(table.query)] == ids
    assert two.host.released == set()


@pytest.mark.parametrize("flags", [MASK, WRITE])
async def test_a_set_that_was_not_imported_is_neither_masked_nor_made_writable(
    one: Any, flags: HardwareOptions
) -> None:
    creator = await one.requester()
    await creator.created("F:\\", context=0x20)
    with pytest.raises(BadState, match="not imported"):
        await broken(creator, creator.set_id, flags)
