"""Full copies: begun at prepare, equal at the commit, with blocks of their own, independent."""

import os
import random
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio

from tests.rig.array.arrayrig import (
    ONE,
    ArrayProcess,
    Host,
    Site,
    connected,
    until,
)
from tests.rig.array.convergingrig import (
    BLOCK,
    MIB,
    Bench,
    filesystem_load,
    first_difference,
    raw_load,
)
from vssemu.api import array as api
from vssemu.array.engines.reflink import plex
from vssemu.linux import fiemap
from vssemu.linux.fiemap import ExtentFlag
from vssemu.vss.array import LunKind
from vssemu.vss.errors import BadState, InsufficientStorage, InvalidArgument
from vssemu.vss.identity import LunId, SnapshotSetId

PLEX = LunKind.PLEX
SEED = 20_240_918


def is_sharing(image: Path) -> bool:
    with image.open("rb") as file:
        return bool((fiemap.extents(file.fileno()).flags & ExtentFlag.SHARED).any())


class TestEngine:
    """On the engine alone."""

    async def test_a_plex_under_load_equals_its_held_origin_and_shares_nothing(
        self, bench: Bench
    ) -> None:
        chance = random.Random(SEED)
        async with raw_load(bench, 24 * MIB, chance) as load:
            for _ in range(2):
                prepared, copy = await bench.prepare(load.lun, PLEX)
                await trio.sleep(0.1)
                truth = bench.luns.parent / "truth"
                with load.hold():
                    assert bench.changed(load.lun, copy, plex.POINT) > 0
                    bench.engine.commit(prepared)
                    shutil.copyfile(bench.image(load.lun), truth)
                await bench.engine.settle(prepared)
                assert first_difference(truth, bench.image(copy)) is None
                assert os.listdir(bench.image(copy).parent) == ["image"]
                assert not is_sharing(bench.image(copy))

    async def test_holes_of_the_origin_are_holes_of_the_plex(self, bench: Bench) -> None:
        lun = await bench.lun(64 * MIB)
        with bench.image(lun).open("r+b") as file:
            os.pwrite(file.fileno(), b"x" * MIB, 8 * MIB)
        prepared, copy = await bench.prepare(lun, PLEX)
        with bench.image(lun).open("r+b") as file:
            # What was copied already is discarded before the commit.
            os.truncate(file.fileno(), 0)
            os.truncate(file.fileno(), 64 * MIB)
            os.pwrite(file.fileno(), b"y" * BLOCK, 40 * MIB)
        bench.engine.commit(prepared)
        await bench.engine.settle(prepared)
        assert first_difference(bench.image(lun), bench.image(copy)) is None
        assert bench.image(copy).stat().st_blocks * 512 == BLOCK

    async def test_what_was_interrupted_after_the_commit_is_done_again(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that was written in part, and is not yet noted as copied, is made whole."""
        lun = await bench.lun(16 * MIB)
        with bench.image(lun).open("r+b") as file:
            os.pwrite(file.fileno(), os.urandom(12 * MIB), 0)
        prepared, copy = await bench.prepare(lun, PLEX)
        with bench.image(lun).open("r+b") as file:
            for offset in range(0, 12 * MIB, 3 * BLOCK):
                os.pwrite(file.fileno(), os.urandom(BLOCK), offset)
        bench.engine.commit(prepared)
        held = bench.image(lun).read_bytes()
        done = 0

        def give_out(*arguments: Any) -> None:
            nonlocal done
            done += 1
            if done > 200:
                raise OSError("the machine stops here")
            copy_range(*arguments)

        copy_range = plex._copy
        monkeypatch.setattr(plex, "_copy", give_out)
        with pytest.raises(OSError, match="stops here"):
            await bench.engine.settle(prepared)
        monkeypatch.undo()
        again = Bench(bench.luns)
        await again.engine.settle(prepared)
        assert bench.image(copy).read_bytes() == held
        assert os.listdir(bench.image(copy).parent) == ["image"]
        await again.engine.settle(prepared)
        assert bench.image(copy).read_bytes() == held

    async def test_a_plex_of_a_file_system_under_load_is_that_of_the_freeze(
        self, bench: Bench
    ) -> None:
        chance = random.Random(SEED)
        async with filesystem_load(bench, "ext4", 64 * MIB, chance) as load:
            prepared, copy = await bench.prepare(load.lun, PLEX)
            truth = bench.luns.parent / "truth"

            def instant() -> None:
                with load.hold():
                    bench.engine.commit(prepared)
                    shutil.copyfile(bench.image(load.lun), truth)

            await trio.to_thread.run_sync(instant)
            await bench.engine.settle(prepared)
            assert first_difference(truth, bench.image(copy)) is None


async def full_copy(host: Host, lun: LunId) -> tuple[SnapshotSetId, LunId]:
    """Make a plex, all the way; return its set and its id."""
    set_id = SnapshotSetId(uuid4())
    await host.call(api.prepare, set_id, [lun], PLEX)
    steps: Any = (api.finish_prepare, api.commit, api.settle)
    for method in steps:
        await host.call(method, set_id)
    (record,) = await host.call(api.copies_of, set_id, [lun])
    assert record.naa is not None
    return set_id, record.naa


async def filled(site: Site, size: int) -> LunId:
    """Make a LUN with so many bytes of chance in it."""
    lun = await site.lun(ONE, size=size + 8 * MIB)
    piece = os.urandom(4 * MIB)
    for offset in range(0, size, len(piece)):
        await site.one.write(lun.id, piece, offset)
    return lun.id


def copied_bytes(process: ArrayProcess, but: LunId) -> int:
    """Return the bytes on the disk of the images of all LUNs but one."""
    root = Path(f"/proc/{process.pid}/root{process.pool}/root/luns")
    images = [root / name / "image" for name in process.lun_directories() - {but}]
    return sum(path.stat().st_blocks * 512 for path in images if path.exists())


async def test_a_plex_is_begun_at_once_and_goes_on_between_the_calls(site: Site) -> None:
    lun, set_id = await filled(site, 48 * MIB), SnapshotSetId(uuid4())
    assert await site.one.call(api.can_copy, [lun], PLEX)
    await site.one.call(api.prepare, set_id, [lun], PLEX)
    await until(lambda: copied_bytes(site.process, lun) > 0)
    await site.one.write(lun, b"before the commit", MIB)
    await site.one.call(api.finish_prepare, set_id)
    assert copied_bytes(site.process, lun) >= 48 * MIB
    await site.one.write(lun, b"at the commit", MIB)
    await site.one.call(api.commit, set_id)
    await site.one.write(lun, b"after the commit", MIB)
    await site.one.call(api.settle, set_id)
    (record,) = await site.one.call(api.copies_of, set_id, [lun])
    await site.two.call(api.surface, [record])
    assert record.naa is not None
    assert await site.two.read(record.naa, 17, MIB) == b"at the commitmmit"
    listed = {one.id: one for one in await site.call(api.inventory)}
    assert (listed[record.naa].kind, listed[record.naa].allocated) == (PLEX, 48 * MIB)


async def test_an_origin_goes_while_its_plex_stays(site: Site) -> None:
    lun, set_id = await filled(site, 8 * MIB), SnapshotSetId(uuid4())
    content = await site.one.read(lun, 16 * MIB)
    await site.call(api.mask_lun, lun, ONE)
    await site.call(api.unmask_lun, lun, ONE)
    await site.one.call(api.prepare, set_id, [lun], PLEX)
    await site.call(api.mask_lun, lun, ONE)
    with pytest.raises(BadState, match="parent of"):
        await site.call(api.delete_lun, lun)
    await site.one.call(api.abort, set_id)
    await site.call(api.unmask_lun, lun, ONE)
    set_id, copy = await full_copy(site.one, lun)
    await site.call(api.mask_lun, lun, ONE)
    await site.call(api.delete_lun, lun)
    (left,) = await site.call(api.inventory)
    assert (left.id, left.origin, left.set_id) == (copy, None, set_id)
    await site.two.call(api.surface, [left.information])
    assert await site.two.read(copy, 16 * MIB) == content
    await site.two.call(api.reclaim, left.information)
    assert await site.states() == {}


async def test_a_differential_copy_still_keeps_its_origin(site: Site) -> None:
    lun = await filled(site, 4 * MIB)
    await full_copy(site.one, lun)
    await site.one.copy(lun)
    await site.call(api.mask_lun, lun, ONE)
    with pytest.raises(BadState, match="parent of") as refusal:
        await site.call(api.delete_lun, lun)
    assert refusal.value.fact.count("naa.") == 2


async def test_a_copy_of_the_kind_of_a_base_lun_is_no_copy(site: Site) -> None:
    lun = await site.lun(ONE)
    assert not await site.one.call(api.can_copy, [lun.id], LunKind.BASE)
    with pytest.raises(InvalidArgument, match="not base"):
        await site.one.call(api.prepare, SnapshotSetId(uuid4()), [lun.id], LunKind.BASE)


@pytest.mark.parametrize("when", ["copying", "prepared"])
async def test_a_plex_that_was_not_committed_is_gone_after_a_kill(
    process: ArrayProcess, when: str
) -> None:
    async with connected(process) as site:
        lun, set_id = await filled(site, 48 * MIB), SnapshotSetId(uuid4())
        await site.one.call(api.prepare, set_id, [lun], PLEX)
        if when == "copying":
            await until(lambda: copied_bytes(process, lun) > 0)
        else:
            await site.one.call(api.finish_prepare, set_id)
    process.restart()
    async with connected(process) as site:
        assert await site.states() == {lun: "ready"}
        assert process.lun_directories() == {lun}
        await full_copy(site.one, lun)


async def test_a_committed_plex_is_completed_after_a_kill(process: ArrayProcess) -> None:
    async with connected(process) as site:
        lun, set_id = await filled(site, 16 * MIB), SnapshotSetId(uuid4())
        await site.one.call(api.prepare, set_id, [lun], PLEX)
        await site.one.call(api.finish_prepare, set_id)
        await site.one.write(lun, b"last" * 1024, 5 * MIB)
        content = await site.one.read(lun, 24 * MIB)
        await site.one.call(api.commit, set_id)
        await site.one.write(lun, b"lost" * 1024, 5 * MIB)
    process.restart()
    async with connected(process) as site:
        (record,) = await site.one.call(api.copies_of, set_id, [lun])
        await site.two.call(api.surface, [record])
        assert record.naa is not None
        assert await site.two.read(record.naa, 24 * MIB) == content


async def test_an_abort_ends_the_copying(site: Site) -> None:
    lun, set_id = await filled(site, 64 * MIB), SnapshotSetId(uuid4())
    await site.one.call(api.prepare, set_id, [lun], PLEX)
    await until(lambda: copied_bytes(site.process, lun) > 0)
    await site.one.call(api.abort, set_id)
    assert site.process.lun_directories() == {lun}
    assert await site.states() == {lun: "ready"}
    await site.one.copy(lun)


class TestInASmallPool:
    @pytest.fixture
    def pool_size(self) -> int:
        return 512 * MIB

    async def test_a_plex_for_which_there_is_no_room_is_refused(self, site: Site) -> None:
        lun, set_id = await filled(site, 240 * MIB), SnapshotSetId(uuid4())
        await site.one.call(api.prepare, set_id, [lun], PLEX)
        with pytest.raises(InsufficientStorage, match="free"):
            await site.one.call(api.finish_prepare, set_id)
        assert copied_bytes(site.process, lun) == 0
        await site.one.call(api.abort, set_id)
        assert await site.states() == {lun: "ready"}
        await site.one.copy(lun)
