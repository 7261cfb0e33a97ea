from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.unit.providers.provider_support import (
    HOST,
    MemoryArray,
    code_of,
    foreign,
    new_set,
    new_snapshot,
    serve_array,
)
from vssemu.array import naming
from vssemu.providers import array as module
from vssemu.providers.array import ArrayProvider
from vssemu.vss.array import LunKind
from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.enums import LunStateChange
from vssemu.vss.errors import InsufficientStorage, VolumeInUse
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import GUID_NULL
from vssemu.vss.lun import Interconnect
from vssemu.vss.provider import ProviderFailure


@pytest.fixture
async def array(tmp_path: Path, nursery: trio.Nursery) -> Any:
    made = MemoryArray()
    await nursery.start(serve_array, made, tmp_path / "array.sock")
    return made


@pytest.fixture
def config(tmp_path: Path) -> Any:
    return {"array_socket": str(tmp_path / "array.sock"), "run": str(tmp_path / "run")}


@pytest.fixture
async def provider(array: MemoryArray, config: dict[str, str]) -> Any:
    made = ArrayProvider()
    await made.on_load(HOST, config)
    return made


async def create(provider: ArrayProvider, set_id: Any, *luns: Any, upto: Any = "final") -> None:
    for lun in luns:
        await provider.begin_prepare_snapshot(set_id, new_snapshot(), 0, [lun])
    await provider.end_prepare_snapshots(set_id)
    await provider.pre_commit_snapshots(set_id)
    await provider.commit_snapshots(set_id)
    await provider.post_commit_snapshots(set_id, len(luns))
    if upto == "final":
        await provider.pre_final_commit_snapshots(set_id)
        await provider.post_final_commit_snapshots(set_id)


async def test_the_provider_knows_the_inquiry_strings_of_its_array() -> None:
    assert (module.VENDOR_ID, module.PRODUCT_ID) == (naming.VENDOR_ID, naming.PRODUCT_ID)


async def test_own_luns_with_room_are_supported_also_for_transport(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    for context in (0, Attribute.TRANSPORTABLE, Attribute.DIFFERENTIAL, Context.APP_ROLLBACK):
        answer = await provider.are_luns_supported(int(context), [array.source(0)])
        assert answer.supported, context


async def test_one_foreign_lun_makes_the_volume_unsupported(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    answer = await provider.are_luns_supported(0, [array.source(0), foreign()])
    assert not answer.supported


async def test_a_record_with_another_serial_is_not_the_arrays_lun(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    lun = array.source(0)
    lun = replace(lun, information=replace(lun.information, serial_number="0" * 32))
    assert not (await provider.are_luns_supported(0, [lun])).supported


async def test_a_full_pool_is_unsupported_not_an_error(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    array.has_room = False
    assert not (await provider.are_luns_supported(0, [array.source(0)])).supported


@pytest.mark.parametrize("context", [Context.CLIENT_ACCESSIBLE, Context.CLIENT_ACCESSIBLE_WRITERS])
async def test_a_context_that_the_array_cannot_do_is_unsupported(
    array: MemoryArray, provider: ArrayProvider, context: Any
) -> None:
    assert not (await provider.are_luns_supported(int(context), [array.source(0)])).supported
    begin = provider.begin_prepare_snapshot(
        new_set(), new_snapshot(), int(context), [array.source(0)]
    )
    assert await code_of(begin) is Hresult.VSS_E_UNSUPPORTED_CONTEXT
    assert array.calls == []


@pytest.mark.parametrize(
    ("context", "kind"),
    [
        (Attribute.PLEX | Attribute.TRANSPORTABLE, LunKind.PLEX),
        (Attribute.DIFFERENTIAL, LunKind.DIFFERENTIAL),
        (Attribute.TRANSPORTABLE, LunKind.DIFFERENTIAL),
    ],
)
async def test_the_context_tells_the_kind_of_the_copies(
    array: MemoryArray, provider: ArrayProvider, context: Attribute, kind: LunKind
) -> None:
    set_id = new_set()
    assert (await provider.are_luns_supported(int(context), [array.source(0)])).supported
    await provider.begin_prepare_snapshot(set_id, new_snapshot(), int(context), [array.source(0)])
    assert array.sets[set_id].kind is kind


async def test_differential_with_plex_and_no_lun_at_all_are_invalid_arguments(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    both = int(Attribute.DIFFERENTIAL | Attribute.PLEX)
    assert (
        await code_of(provider.are_luns_supported(both, [array.source(0)])) is Hresult.E_INVALIDARG
    )
    assert await code_of(provider.are_luns_supported(0, [])) is Hresult.E_INVALIDARG


async def test_an_array_that_is_away_is_unsupported_now_and_a_veto_later(tmp_path: Path) -> None:
    provider = ArrayProvider()
    await provider.on_load(HOST, {"array_socket": str(tmp_path / "nothing.sock")})
    lun = foreign()
    assert not (await provider.are_luns_supported(0, [lun])).supported
    with pytest.raises(ProviderFailure, match=r"does not answer at .*nothing\.sock") as caught:
        await provider.locate_luns([lun.information])
    assert caught.value.hresult is Hresult.VSS_E_PROVIDER_VETO


async def test_interconnects_are_handed_on_untouched(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    paths = (Interconnect(address_type=2, port=b"p", address=b"a"),)
    lun = array.source(0)
    lun = replace(lun, information=replace(lun.information, interconnects=paths))
    supported = await provider.are_luns_supported(0, [lun])
    filled = await provider.fill_in_lun_info(lun)
    assert supported.luns[0].information.interconnects == paths
    assert filled.luns[0].information.interconnects == paths


async def test_a_creation_asks_the_array_step_by_step(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    set_id = new_set()
    await create(provider, set_id, array.source(0), array.source(1))
    assert array.calls == ["prepare", "prepare", "finish_prepare", "commit", "settle"]
    targets = await provider.get_target_luns([array.source(1), array.source(0)])
    copies: Any = array.sets[set_id].copies
    assert targets == [copies[array.source(1).information.naa],
                       copies[array.source(0).information.naa]]  # fmt: skip
    assert {target.disk_signature for target in targets} == {GUID_NULL}
    assert len({target.naa for target in targets}) == 2


async def test_a_lun_named_for_two_volumes_is_prepared_once(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    set_id = new_set()
    await create(provider, set_id, array.source(0), array.source(0))
    assert array.calls.count("prepare") == 1


async def test_a_new_set_id_drops_the_unfinished_set(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    first, second = new_set(), new_set()
    await provider.begin_prepare_snapshot(first, new_snapshot(), 0, [array.source(0)])
    await provider.begin_prepare_snapshot(second, new_snapshot(), 0, [array.source(0)])
    assert list(array.sets) == [second]
    assert await code_of(provider.end_prepare_snapshots(first)) is Hresult.VSS_E_OBJECT_NOT_FOUND


async def test_a_finished_set_is_not_dropped_by_the_next(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    first, second = new_set(), new_set()
    await create(provider, first, array.source(0), upto="post_commit")
    await provider.get_target_luns([array.source(0)])
    await provider.pre_final_commit_snapshots(first)
    await provider.post_final_commit_snapshots(first)
    await provider.begin_prepare_snapshot(second, new_snapshot(), 0, [array.source(0)])
    assert set(array.sets) == {first, second}
    await provider.abort_snapshots(second)
    await provider.abort_snapshots(first)
    assert set(array.sets) == {first}


async def test_abort_ends_a_running_end_prepare_at_once(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    array.slow = trio.Event()
    set_id = new_set()
    await provider.begin_prepare_snapshot(set_id, new_snapshot(), 0, [array.source(0)])
    codes = []

    async def end() -> None:
        codes.append(await code_of(provider.end_prepare_snapshots(set_id)))

    with trio.fail_after(5):
        async with trio.open_nursery() as inner:
            inner.start_soon(end)
            await array.preparing.wait()
            await provider.abort_snapshots(set_id)
    assert codes == [Hresult.VSS_E_BAD_STATE]
    assert array.sets == {}
    again = provider.pre_commit_snapshots(set_id)
    assert await code_of(again) is Hresult.VSS_E_OBJECT_NOT_FOUND


async def test_abort_is_idempotent_and_knows_nothing_of_other_sets(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    set_id = new_set()
    await create(provider, set_id, array.source(0), upto="post_commit")
    await provider.abort_snapshots(new_set())
    assert set(array.sets) == {set_id}
    await provider.abort_snapshots(set_id)
    await provider.abort_snapshots(set_id)
    assert array.sets == {}


async def test_records_that_were_handed_out_survive_an_abort(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    set_id = new_set()
    await create(provider, set_id, array.source(0), upto="post_commit")
    await provider.get_target_luns([array.source(0)])
    await provider.abort_snapshots(set_id)
    assert set(array.sets) == {set_id}


async def test_a_restarted_provider_still_knows_the_records_and_finishes_the_set(
    array: MemoryArray, provider: ArrayProvider, config: dict[str, str]
) -> None:
    set_id = new_set()
    await create(provider, set_id, array.source(0), upto="post_commit")
    second = ArrayProvider()
    await second.on_load(HOST, config)
    targets = await second.get_target_luns([array.source(0)])
    assert targets == list(array.sets[set_id].copies.values())
    await second.pre_final_commit_snapshots(set_id)
    await second.post_final_commit_snapshots(set_id)
    third = ArrayProvider()
    await third.on_load(HOST, config)
    wanted = third.get_target_luns([array.source(0)])
    assert await code_of(wanted) is Hresult.VSS_E_OBJECT_NOT_FOUND


async def test_unload_waits_for_an_unfinished_set_unless_forced(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    assert await provider.on_unload(force=False)
    await provider.begin_prepare_snapshot(new_set(), new_snapshot(), 0, [array.source(0)])
    assert not await provider.on_unload(force=False)
    assert array.unfinished() == 1
    assert await provider.on_unload(force=True)
    assert array.unfinished() == 0


async def test_a_documented_code_of_the_array_passes_and_any_other_is_a_veto(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    array.failures["prepare"] = InsufficientStorage("the pool is full", hint="delete copies")
    array.failures["retract"] = VolumeInUse("mounted on /mnt/F")
    begin = provider.begin_prepare_snapshot(new_set(), new_snapshot(), 0, [array.source(0)])
    with pytest.raises(ProviderFailure) as caught:
        await begin
    assert caught.value.hresult is Hresult.VSS_E_INSUFFICIENT_STORAGE
    assert caught.value.event_text == "the pool is full; delete copies"
    with pytest.raises(ProviderFailure) as caught:
        await provider.on_lun_state_change(
            [array.source(0).information], [], LunStateChange.DO_MASK_LUNS
        )
    assert caught.value.hresult is Hresult.VSS_E_PROVIDER_VETO
    assert "VSS_E_VOLUME_IN_USE: mounted on /mnt/F" in caught.value.event_text


async def test_fill_in_tells_own_from_foreign(array: MemoryArray, provider: ArrayProvider) -> None:
    assert (await provider.fill_in_lun_info(array.source(0))).supported
    other = foreign()
    answer = await provider.fill_in_lun_info(other)
    assert (answer.supported, answer.luns) == (False, (other,))


async def test_fill_in_mends_what_was_left_out(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    whole = array.source(0)
    torn = replace(
        whole,
        information=replace(
            whole.information, serial_number=None, disk_signature=new_set(), product_id=None
        ),
    )
    answer = await provider.fill_in_lun_info(torn)
    assert answer.luns == (whole,)


async def test_a_copy_that_is_masked_from_the_host_is_still_ours(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    set_id = new_set()
    await create(provider, set_id, array.source(0), upto="post_commit")
    (record,) = await provider.get_target_luns([array.source(0)])
    lun = replace(array.source(0), device_name="", information=record)
    answer = await provider.fill_in_lun_info(lun)
    assert (answer.supported, answer.luns) == (True, (lun,))


async def test_an_empty_copy_is_reclaimed_and_a_base_lun_never(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    copy = array.add(LunKind.DIFFERENTIAL)
    lun = replace(array.source(0), information=copy.information)
    await provider.on_lun_empty(lun)
    assert array.calls == ["reclaim"]
    refused = provider.on_lun_empty(array.source(0))
    assert await code_of(refused) is Hresult.VSS_E_PROVIDER_VETO
    assert array.calls == ["reclaim"]


async def test_only_the_order_to_mask_reaches_the_array(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    records = [array.source(0).information]
    for notice in (
        LunStateChange.NOTIFY_READ_WRITE,
        LunStateChange.NOTIFY_LUN_PRE_RECOVERY,
        LunStateChange.NOTIFY_LUN_POST_RECOVERY,
    ):
        await provider.on_lun_state_change(records, records, notice)
    assert array.calls == []
    both = LunStateChange.DO_MASK_LUNS | LunStateChange.NOTIFY_READ_WRITE
    await provider.on_lun_state_change(records, records, both)
    assert array.calls == ["retract"]


async def test_resync_is_refused_with_what_to_do_instead(
    array: MemoryArray, provider: ArrayProvider
) -> None:
    records = [array.source(0).information]
    with pytest.raises(ProviderFailure, match="restore the files") as caught:
        await provider.resync_luns(records, records, lambda percent: None)
    assert caught.value.hresult is Hresult.VSS_E_PROVIDER_VETO
