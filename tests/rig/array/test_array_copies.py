"""Snapshot sets and what becomes of their copies, through the real arrayd."""

import dataclasses
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.rig.array.arrayrig import MIB, ONE, THREE, TWO, Site, until
from vssemu.api import array as api
from vssemu.linux import loop
from vssemu.vss.array import LunKind, View
from vssemu.vss.errors import (
    BadState,
    InvalidArgument,
    ObjectNotFound,
    ProviderVeto,
    VolumeInUse,
    VssError,
)
from vssemu.vss.identity import LunId, SnapshotSetId
from vssemu.vss.lun import LunInformation

DIFFERENTIAL = LunKind.DIFFERENTIAL


def new_set() -> SnapshotSetId:
    return SnapshotSetId(uuid4())


def naa(record: LunInformation) -> LunId:
    assert record.naa is not None
    return record.naa


async def test_copies_hold_what_their_sources_held_at_the_commit(site: Site) -> None:
    one, two = await site.lun(ONE), await site.lun(ONE)
    await site.one.write(one.id, b"first, then", MIB)
    await site.one.write(two.id, b"second, then", 3 * MIB)
    set_id, records = await site.one.copy(one.id, two.id)
    await site.one.write(one.id, b"first, later", MIB)
    await site.two.call(api.surface, records)
    first, second = [naa(record) for record in records]
    assert set(await site.two.luns()) == {first, second}
    assert await site.two.read(first, 11, MIB) == b"first, then"
    assert await site.two.read(second, 12, 3 * MIB) == b"second, then"
    assert await site.one.read(one.id, 12, MIB) == b"first, later"
    listed = {lun.id: lun for lun in await site.call(api.inventory)}
    assert (listed[first].origin, listed[second].origin) == (one.id, two.id)
    assert {listed[first].set_id, listed[second].set_id} == {set_id}
    assert listed[first].kind is DIFFERENTIAL


async def test_a_copy_equals_its_source_byte_for_byte(site: Site, directory: Path) -> None:
    lun = await site.lun(ONE, size=32 * MIB)
    for offset in range(0, 32 * MIB, 3 * MIB):
        await site.one.write(lun.id, os.urandom(65536), offset)
    content = await site.one.read(lun.id, 32 * MIB)
    _, (record,) = await site.one.copy(lun.id)
    await site.one.write(lun.id, os.urandom(MIB), 5 * MIB)
    await site.two.call(api.surface, [record])
    assert await site.two.read(naa(record), 64 * MIB) == content


async def test_a_lun_named_twice_is_copied_once_and_records_come_in_order(site: Site) -> None:
    luns = [await site.lun(ONE) for _ in range(3)]
    set_id = new_set()
    await site.one.call(api.prepare, set_id, [luns[2].id], DIFFERENTIAL)
    await site.one.call(api.prepare, set_id, [luns[0].id, luns[2].id], DIFFERENTIAL)
    await site.one.call(api.prepare, set_id, [luns[1].id], DIFFERENTIAL)
    await site.one.call(api.finish_prepare, set_id)
    records = await site.one.call(api.commit, set_id)
    origins = {lun.id: lun.origin for lun in await site.call(api.inventory)}
    assert [origins[naa(record)] for record in records] == [luns[i].id for i in (2, 0, 1)]
    asked = [luns[1].id, luns[2].id]
    again = await site.one.call(api.copies_of, set_id, asked)
    assert [origins[naa(record)] for record in again] == asked


async def test_only_the_owner_of_a_lun_copies_it(site: Site) -> None:
    lun = await site.lun(ONE)
    assert not await site.two.call(api.can_copy, [lun.id], DIFFERENTIAL)
    assert not await site.one.call(api.can_copy, [], DIFFERENTIAL)
    with pytest.raises(ObjectNotFound):
        await site.two.call(api.prepare, new_set(), [lun.id], DIFFERENTIAL)
    assert await site.states() == {lun.id: "ready"}


async def test_a_set_is_its_makers_alone(site: Site) -> None:
    lun = await site.lun(ONE)
    set_id = new_set()
    await site.one.call(api.prepare, set_id, [lun.id], DIFFERENTIAL)
    await site.one.call(api.finish_prepare, set_id)
    methods: Any = (api.finish_prepare, api.commit, api.settle)
    for method in methods:
        with pytest.raises(ObjectNotFound):
            await site.two.call(method, set_id)
    await site.two.call(api.abort, set_id)
    with pytest.raises(ObjectNotFound):
        await site.two.call(api.copies_of, set_id, [lun.id])
    records = await site.one.call(api.commit, set_id)
    assert len(records) == 1


async def test_calls_out_of_order_are_refused_and_change_nothing(site: Site) -> None:
    lun = await site.lun(ONE)
    set_id = new_set()
    with pytest.raises(ObjectNotFound):
        await site.one.call(api.commit, set_id)
    await site.one.call(api.prepare, set_id, [lun.id], DIFFERENTIAL)
    methods: Any = (api.commit, api.settle)
    for method in methods:
        with pytest.raises(BadState):
            await site.one.call(method, set_id)
    await site.one.call(api.finish_prepare, set_id)
    with pytest.raises(BadState):
        await site.one.call(api.prepare, set_id, [lun.id], DIFFERENTIAL)
    await site.one.call(api.commit, set_id)
    with pytest.raises(BadState):
        await site.one.call(api.commit, set_id)
    assert sorted((await site.states()).values()) == ["committed", "ready"]


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
async def test_abort_removes_copies_in_every_phase(site: Site, steps: int) -> None:
    lun = await site.lun(ONE)
    set_id = new_set()
    await site.one.call(api.prepare, set_id, [lun.id], DIFFERENTIAL)
    methods: Any = (api.finish_prepare, api.commit, api.settle)[: steps - 1]
    for method in methods:
        await site.one.call(method, set_id)
    await site.one.call(api.abort, set_id)
    await site.one.call(api.abort, set_id)
    assert await site.states() == {lun.id: "ready"}
    assert site.process.lun_directories() == {lun.id}
    await site.one.copy(lun.id)


async def test_abort_leaves_copies_alone_whose_records_were_handed_out(site: Site) -> None:
    lun = await site.lun(ONE)
    set_id, (record,) = await site.one.copy(lun.id)
    await site.one.call(api.abort, set_id)
    assert (await site.states())[naa(record)] == "committed"


async def test_a_new_set_drops_what_the_same_host_left_unfinished(site: Site) -> None:
    lun = await site.lun(ONE)
    old = new_set()
    await site.one.call(api.prepare, old, [lun.id], DIFFERENTIAL)
    await site.one.call(api.finish_prepare, old)
    _, (record,) = await site.one.copy(lun.id)
    assert await site.states() == {lun.id: "ready", naa(record): "committed"}
    with pytest.raises(ObjectNotFound):
        await site.one.call(api.commit, old)


async def test_a_lun_is_in_one_creation_at_a_time(site: Site) -> None:
    lun = await site.lun(ONE, TWO)
    set_id = new_set()
    await site.one.call(api.prepare, set_id, [lun.id], DIFFERENTIAL)
    with pytest.raises(ProviderVeto, match="of systemOne") as refusal:
        await site.two.call(api.prepare, new_set(), [lun.id], DIFFERENTIAL)
    assert refusal.value.hint
    assert not await site.two.call(api.can_copy, [lun.id], DIFFERENTIAL)
    await site.one.call(api.abort, set_id)
    await site.two.copy(lun.id)


async def test_a_parent_is_not_deleted_before_its_copies(site: Site) -> None:
    lun = await site.lun(ONE)
    _, (record,) = await site.one.copy(lun.id)
    await site.call(api.mask_lun, lun.id, ONE)
    with pytest.raises(BadState, match="parent of"):
        await site.call(api.delete_lun, lun.id)
    await site.one.call(api.reclaim, record)
    await site.call(api.delete_lun, lun.id)
    assert await site.states() == {}


async def test_deleting_the_middle_copy_leaves_the_others_intact(site: Site) -> None:
    lun = await site.lun(ONE)
    records = []
    for number in range(5):
        await site.one.write(lun.id, bytes([number]) * MIB)
        records += (await site.one.copy(lun.id))[1]
    await site.one.call(api.reclaim, records[2])
    rest = records[:2] + records[3:]
    await site.two.call(api.surface, rest)
    seen = [(await site.two.read(naa(record), MIB))[:1] for record in rest]
    assert seen == [b"\0", b"\1", b"\3", b"\4"]


async def test_a_copy_is_imported_once(site: Site) -> None:
    lun = await site.lun(ONE)
    _, records = await site.one.copy(lun.id)
    await site.two.call(api.surface, records)
    for host in (site.three, site.two, site.one):
        with pytest.raises(BadState, match="claimed"):
            await host.call(api.surface, records)
    assert (await site.three.luns(), await site.two.luns()) == ([], [naa(records[0])])


async def test_a_record_that_differs_is_no_right_to_a_copy(site: Site) -> None:
    lun = await site.lun(ONE)
    _, (record,) = await site.one.copy(lun.id)
    spoilt = [
        dataclasses.replace(record, serial_number="0" * 32),
        dataclasses.replace(record, serial_number=None),
        dataclasses.replace(record, identifiers=()),
        dataclasses.replace(record, product_id="Another"),
    ]
    for each in spoilt:
        with pytest.raises(ObjectNotFound):
            await site.two.call(api.surface, [each])
        with pytest.raises(ObjectNotFound):
            await site.two.call(api.reclaim, each)
    ignored = dataclasses.replace(record, bus_type=0x55, disk_signature=uuid4())
    await site.two.call(api.surface, [ignored])
    assert await site.two.luns() == [naa(record)]


async def test_the_rest_of_a_set_is_surfaced_when_a_copy_is_gone(site: Site) -> None:
    luns = [(await site.lun(ONE)).id for _ in range(2)]
    _, records = await site.one.copy(*luns)
    await site.call(api.delete_lun, naa(records[0]))
    await site.two.call(api.surface, records)
    assert await site.two.luns() == [naa(records[1])]


async def test_a_base_lun_is_never_claimed_shared_or_deleted_by_a_host(site: Site) -> None:
    lun = await site.lun(ONE)
    record = lun.information
    with pytest.raises(InvalidArgument):
        await site.two.call(api.surface, [record])
    for host in (site.one, site.two):
        with pytest.raises(InvalidArgument):
            await host.call(api.reclaim, record)
    with pytest.raises(InvalidArgument):
        await site.one.call(api.share, record, TWO)
    with pytest.raises(InvalidArgument):
        await site.one.call(api.set_independent, [record])
    assert await site.states() == {lun.id: "ready"}
    assert await site.one.luns() == [lun.id]


async def test_a_copy_is_deleted_by_whoever_claimed_it_and_by_no_third(site: Site) -> None:
    lun = await site.lun(ONE)
    _, (record,) = await site.one.copy(lun.id)
    await site.two.call(api.surface, [record])
    for host in (site.one, site.three):
        with pytest.raises(ObjectNotFound):
            await host.call(api.reclaim, record)
    await site.two.call(api.reclaim, record)
    await site.two.call(api.reclaim, record)
    assert await site.two.luns() == []
    assert site.process.lun_directories() == {lun.id}


async def test_a_copy_that_is_bound_is_not_deleted(site: Site) -> None:
    lun = await site.lun(ONE)
    _, (record,) = await site.one.copy(lun.id)
    await site.two.call(api.surface, [record])
    async with site.two.bound(naa(record), View.SCRATCH):
        calls: Any = [(api.reclaim, record), (api.retract, [record])]
        for method, argument in calls:
            with pytest.raises(ProviderVeto, match="in use"):
                await site.two.call(method, argument)
    await site.two.call(api.reclaim, record)
    assert await site.states() == {lun.id: "ready"}


async def test_the_scratch_clone_takes_writes_that_the_copy_never_sees(site: Site) -> None:
    lun = await site.lun(ONE)
    await site.one.write(lun.id, b"pristine")
    _, (record,) = await site.one.copy(lun.id)
    copy = naa(record)
    await site.two.call(api.surface, [record])
    async with site.two.bound(copy, View.SCRATCH) as number:
        with loop.node(number).open("r+b", buffering=0) as device:
            block = device.read(4096)
            assert block[:8] == b"pristine"
            device.seek(0)
            device.write(b"replayed" + block[8:])
            os.fsync(device.fileno())
    await until(lambda: loop.sysfs_facts(number) is None)
    assert await site.two.read(copy, 8, view=View.SCRATCH) == b"replayed"
    assert await site.two.read(copy, 8) == b"pristine"
    await site.two.call(api.discard_scratch, copy)
    assert await site.two.read(copy, 8, view=View.SCRATCH) == b"pristine"


async def test_retract_masks_from_the_asker_alone(site: Site) -> None:
    lun = await site.lun(ONE)
    _, (record,) = await site.one.copy(lun.id)
    await site.two.call(api.surface, [record])
    await site.three.call(api.retract, [record])
    assert await site.two.luns() == [naa(record)]
    await site.two.call(api.retract, [record, lun.information])
    assert (await site.two.luns(), await site.one.luns()) == ([], [lun.id])
    assert await site.states() == {lun.id: "ready", naa(record): "committed"}


async def test_a_retracted_copy_is_surfaced_anew_as_it_was_taken(site: Site) -> None:
    lun = await site.lun(ONE)
    await site.one.write(lun.id, b"pristine")
    set_id, (record,) = await site.one.copy(lun.id)
    copy = naa(record)
    await site.two.call(api.surface, [record])
    async with site.two.bound(copy, View.SCRATCH) as number:
        with loop.node(number).open("r+b", buffering=0) as device:
            device.write(b"scribble" + device.read(4096)[8:])
            os.fsync(device.fileno())
    await until(lambda: loop.sysfs_facts(number) is None)
    await site.two.call(api.retract, [record])
    with pytest.raises(ObjectNotFound):
        await site.two.open(copy, View.SCRATCH)
    await site.three.call(api.surface, [record])
    assert await site.three.read(copy, 8, view=View.SCRATCH) == b"pristine"
    with pytest.raises(BadState, match="claimed"):
        await site.two.call(api.surface, [record])
    listed = {one.id: one for one in await site.call(api.inventory)}
    assert (listed[copy].state.value, listed[copy].set_id) == ("claimed", set_id)
    await site.three.call(api.retract, [record, record])
    await site.three.call(api.surface, [record])
    await site.three.call(api.reclaim, record)
    assert await site.states() == {lun.id: "ready"}


async def test_nothing_is_retracted_when_one_of_the_luns_is_in_use(site: Site) -> None:
    luns = [(await site.lun(ONE)).id for _ in range(2)]
    _, records = await site.one.copy(*luns)
    await site.two.call(api.surface, records)
    async with site.two.bound(naa(records[1]), View.SCRATCH):
        with pytest.raises(ProviderVeto, match="in use"):
            await site.two.call(api.retract, records)
        assert set(await site.two.luns()) == {naa(record) for record in records}
        states = await site.states()
        assert [states[naa(record)] for record in records] == ["claimed", "claimed"]


async def test_a_claim_outlives_the_retraction_by_another_host_and_the_break(site: Site) -> None:
    lun = await site.lun(ONE)
    _, (record,) = await site.one.copy(lun.id)
    copy = naa(record)
    await site.two.call(api.surface, [record])
    await site.call(api.unmask_lun, copy, THREE, True)
    await site.three.call(api.retract, [record])
    assert (await site.states())[copy] == "claimed"
    assert await site.two.luns() == [copy]
    await site.two.call(api.set_independent, [record])
    await site.two.call(api.retract, [record])
    assert (await site.states())[copy] == "independent"
    with pytest.raises(BadState, match="independent"):
        await site.three.call(api.surface, [record])


async def test_a_broken_copy_goes_from_host_to_host_and_only_to_the_administrator(
    site: Site,
) -> None:
    lun = await site.lun(ONE)
    _, (record,) = await site.one.copy(lun.id)
    copy = naa(record)
    await site.two.call(api.surface, [record])
    with pytest.raises(BadState, match="claimed"):
        await site.two.call(api.share, record, THREE)
    with pytest.raises(ObjectNotFound):
        await site.three.call(api.set_independent, [record])
    await site.two.call(api.set_independent, [record])
    await site.two.call(api.set_independent, [record])
    with pytest.raises(BadState, match="independent"):
        await site.two.call(api.reclaim, record)
    with pytest.raises(BadState, match="mapped to systemTwo"):
        await site.two.call(api.share, record, THREE)
    await site.two.write(copy, b"written by two")
    await site.two.call(api.retract, [record])
    await site.two.call(api.share, record, THREE)
    assert await site.three.read(copy, 14) == b"written by two"
    assert [one.set_id for one in await site.call(api.inventory)] == [None, None]
    await site.three.copy(copy)
    await site.call(api.mask_lun, copy, THREE)
    with pytest.raises(BadState, match="parent"):
        await site.call(api.delete_lun, copy)


async def test_a_failed_import_is_listed_until_it_is_reclaimed(site: Site) -> None:
    luns = [(await site.lun(ONE)).id for _ in range(2)]
    set_id, records = await site.one.copy(*luns)
    await site.two.call(api.surface, records[:1])
    await site.two.call(api.set_import_failed, records)
    listed = {lun.id: lun for lun in await site.call(api.inventory)}
    failed, other = (listed[naa(record)] for record in records)
    assert (failed.state.value, failed.set_id) == ("import-failed", set_id)
    assert other.state.value == "committed"
    with pytest.raises(BadState):
        await site.two.call(api.surface, records[:1])
    for record in records:
        await site.two.call(api.reclaim, record)
    assert set(await site.states()) == set(luns)


async def test_a_set_of_sixteen_luns_is_committed_whole(site: Site) -> None:
    luns = [(await site.lun(ONE)).id for _ in range(16)]
    for number, lun in enumerate(luns):
        await site.one.write(lun, bytes([number]) * 4096)
    _, records = await site.one.copy(*luns)
    await site.two.call(api.surface, records)
    for number, record in enumerate(records):
        assert await site.two.read(naa(record), 4096) == bytes([number]) * 4096


async def test_hostile_records_get_an_answer_and_do_no_harm(site: Site) -> None:
    lun = await site.lun(ONE)
    _, (record,) = await site.one.copy(lun.id)
    identifier = record.identifiers[0]
    for octets in (b"", b"\0", b"../../etc", b"\xff" * 65536):
        hostile = dataclasses.replace(
            record,
            serial_number="../" * 1000,
            identifiers=(dataclasses.replace(identifier, identifier=octets),),
        )
        calls: Any = [
            (api.surface, [hostile]),
            (api.reclaim, hostile),
            (api.set_independent, [hostile]),
        ]
        for method, argument in calls:
            with pytest.raises(VssError):
                await site.two.call(method, argument)
    assert await site.states() == {lun.id: "ready", naa(record): "committed"}


async def test_a_discarded_clone_is_nobodys_when_its_inode_is_used_again(site: Site) -> None:
    lun = await site.lun(ONE)
    _, (record,) = await site.one.copy(lun.id)
    copy = naa(record)
    await site.two.call(api.surface, [record])
    os.close(await site.two.open(copy, View.SCRATCH))
    await site.two.call(api.discard_scratch, copy)
    others = [(await site.lun(THREE)).id for _ in range(8)]
    async with AsyncExitStack() as stack:
        numbers = [await stack.enter_async_context(site.three.bound(other)) for other in others]
        await site.call(api.mask_lun, copy, TWO, True)
        sizes = [facts.size for n in numbers if (facts := loop.sysfs_facts(n)) is not None]
        assert sizes == [16 * MIB] * 8


async def test_a_withdrawn_lun_whose_device_is_left_is_not_deleted(site: Site) -> None:
    lun = await site.lun(ONE)
    async with site.one.bound(lun.id) as number:
        await site.call(api.mask_lun, lun.id, ONE, True)
        with pytest.raises(VolumeInUse, match=f"/dev/loop{number}"):
            await site.call(api.delete_lun, lun.id)
    await until(lambda: loop.sysfs_facts(number) is None)
    await site.call(api.delete_lun, lun.id)
