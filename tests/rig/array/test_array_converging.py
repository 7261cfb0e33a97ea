"""The converging clone against held origins, on the engine alone and through the real array."""

import os
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from tests.rig.array.arrayrig import ONE, until
from tests.rig.array.convergingrig import (
    BLOCK,
    MIB,
    Bench,
    bound,
    filesystem_load,
    first_difference,
    raw_load,
    rounds,
)
from vssemu.array import sets
from vssemu.array.array import Array, open_array
from vssemu.array.engines.reflink.engine import SECONDS_PER_CLONE
from vssemu.linux import fiemap, filesystems
from vssemu.linux.fiemap import ExtentFlag
from vssemu.vss.array import LunKind
from vssemu.vss.engine import CopyPair
from vssemu.vss.errors import BadState, ProviderVeto
from vssemu.vss.identity import LunId, SnapshotSetId

SEED = 20_240_917


def fragment(image: Path, pieces: int, *, seed: int = SEED) -> None:
    """Write every other block of a file from its begin, in an order of chance."""
    offsets = [number * 2 * BLOCK for number in range(pieces)]
    random.Random(seed).shuffle(offsets)
    with image.open("r+b", buffering=0) as file:
        for offset in offsets:
            os.pwrite(file.fileno(), offset.to_bytes(8, "little") * (BLOCK // 8), offset)


async def test_copies_of_a_raw_device_under_load_equal_it_at_the_hold(bench: Bench) -> None:
    chance = random.Random(SEED)
    async with raw_load(bench, 24 * MIB, chance) as load:
        assert await rounds(bench, load, 4, chance) > 0


@pytest.mark.parametrize(("fstype", "size"), [("ext4", 64 * MIB), ("xfs", filesystems.XFS_LEAST)])
async def test_copies_of_a_file_system_under_load_equal_it_frozen(
    bench: Bench, fstype: str, size: int
) -> None:
    chance = random.Random(SEED)
    async with filesystem_load(bench, fstype, size, chance) as load:
        assert await rounds(bench, load, 3, chance) > 0


async def test_what_is_written_after_the_commit_is_not_in_the_copy(bench: Bench) -> None:
    lun = await bench.lun(8 * MIB)
    fragment(bench.image(lun), 600)
    before = bench.image(lun).read_bytes()
    prepared, copy = await bench.prepare(lun)
    bench.engine.commit(prepared)
    fragment(bench.image(lun), 700, seed=1)
    with bench.image(lun).open("r+b") as file:
        file.truncate(0)
    await bench.engine.settle(prepared)
    assert bench.image(copy).read_bytes() == before


async def test_little_is_left_for_the_hold(bench: Bench) -> None:
    """Nearly all extents of the copy are there before the commit."""
    lun = await bench.lun(64 * MIB)
    fragment(bench.image(lun), 4000)
    prepared, copy = await bench.prepare(lun)
    assert bench.changed(lun, copy) == 0
    with bench.image(lun).open("r+b", buffering=0) as file:
        for number in range(10):
            os.pwrite(file.fileno(), b"late" * 1024, number * 400 * BLOCK)
    os.sync()
    assert bench.changed(lun, copy) == 10
    bench.engine.commit(prepared)
    assert bench.changed(lun, copy) == 0
    await bench.engine.settle(prepared)


async def test_a_copy_is_of_the_size_that_its_source_has_at_the_commit(bench: Bench) -> None:
    lun = await bench.lun(4 * MIB)
    prepared, copy = await bench.prepare(lun)
    await bench.engine.extend(lun, 9 * MIB)
    with bench.image(lun).open("r+b") as file:
        file.seek(7 * MIB)
        file.write(b"beyond")
    assert bench.engine.commit(prepared) == [9 * MIB]
    assert first_difference(bench.image(lun), bench.image(copy)) is None
    await bench.engine.settle(prepared)


async def test_a_cancelled_preparation_leaves_nothing(bench: Bench) -> None:
    lun = await bench.lun(64 * MIB)
    fragment(bench.image(lun), 4000)
    before, target = set(bench.luns.iterdir()), bench.new_id()
    pair = CopyPair(source=lun, target=target)
    descriptors = len(os.listdir("/proc/self/fd"))
    for kind in (LunKind.DIFFERENTIAL, LunKind.PLEX):
        with trio.move_on_after(0.03) as scope:
            await bench.engine.prepare([pair], kind, trio.current_time() + 60)
        assert scope.cancelled_caught
        assert set(bench.luns.iterdir()) == before
    with pytest.raises(trio.TooSlowError):
        await bench.engine.prepare([pair], LunKind.PLEX, trio.current_time() + 0.03)
    assert set(bench.luns.iterdir()) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_writers_go_on_while_a_copy_is_prepared(bench: Bench) -> None:
    """The first clone lets the source go between its slices."""
    lun = await bench.lun(128 * MIB)
    fragment(bench.image(lun), 5000)
    waits: list[None] = []
    over = trio.Event()

    def write() -> None:
        with bound(bench.image(lun)) as number, open(f"/dev/loop{number}", "r+b") as device:
            while not over.is_set():
                device.seek(0)
                device.write(os.urandom(BLOCK))
                os.fsync(device.fileno())
                waits.append(None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, write)
        await until(lambda: waits)
        begun = len(waits)
        prepared, _ = await bench.prepare(lun)
        written = len(waits) - begun
        over.set()
    await bench.engine.abort(prepared)
    assert written > 10


def test_a_map_tells_written_unwritten_and_hole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(64 * BLOCK)
        os.posix_fallocate(file.fileno(), 16 * BLOCK, 8 * BLOCK)
        os.pwrite(file.fileno(), b"x" * 4 * BLOCK, 4 * BLOCK)
        found = fiemap.extents(file.fileno())
    covered = [
        (int(at), int(at + length), bool(flags & ExtentFlag.UNWRITTEN))
        for at, length, flags in zip(found.logical, found.length, found.flags, strict=True)
    ]
    assert covered[0] == (4 * BLOCK, 8 * BLOCK, False)
    assert {unwritten for *_, unwritten in covered[1:]} == {True}
    assert (covered[1][0], covered[-1][1]) == (16 * BLOCK, 24 * BLOCK)
    assert found.flags[-1] & ExtentFlag.LAST


async def test_a_map_of_more_extents_than_a_batch_is_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fiemap, "BATCH", 100)
    lun = await bench.lun(8 * MIB)
    fragment(bench.image(lun), 1000)
    with bench.image(lun).open("rb") as file:
        found = fiemap.extents(file.fileno())
    assert found.logical.tolist() == [number * 2 * BLOCK for number in range(1000)]


class TestThroughAnArray:
    """The array in this process, over the pool of the module."""

    @pytest.fixture
    async def array(self, directory: Path, pool_directory: Path) -> AsyncIterator[Array]:
        own = pool_directory.parent / uuid4().hex[:8]
        async with open_array(state=directory / "state", pool=own) as opened:
            await opened.add_initiator(ONE)
            yield opened
        shutil.rmtree(own)

    async def lun(self, array: Array, size: int = 64 * MIB) -> LunId:
        lun = await array.luns.create(size)
        await array.masking.unmask(lun.id, ONE, shared=False)
        return lun.id

    async def test_a_hold_that_would_be_too_long_is_refused_with_a_remedy(
        self, array: Array, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lun, set_id = await self.lun(array), SnapshotSetId(uuid4())
        monkeypatch.setattr(sets, "HOLD_LIMIT", SECONDS_PER_CLONE)
        await array.sets.prepare(ONE, set_id, [lun], LunKind.DIFFERENTIAL)
        with pytest.raises(ProviderVeto, match="hold writes for") as refusal:
            await array.sets.finish_prepare(ONE, set_id)
        assert "fragmented" in (refusal.value.hint or "")
        monkeypatch.undo()
        await array.sets.abort(ONE, set_id)
        assert [row.id for row in await array.luns.inventory()] == [lun]
        assert {path.name for path in array.core.pool.luns.iterdir()} == {lun}

    async def test_a_commit_that_comes_late_has_little_to_do(self, array: Array) -> None:
        """While a prepared set waits, what is written is cloned all the same."""
        lun, set_id = await self.lun(array), SnapshotSetId(uuid4())
        await array.sets.prepare(ONE, set_id, [lun], LunKind.DIFFERENTIAL)
        await array.sets.finish_prepare(ONE, set_id)
        bench = Bench(array.core.pool.luns)
        (copy,) = [one.id for one in await array.luns.inventory() if one.origin == lun]
        fragment(bench.image(lun), 500)
        assert bench.changed(lun, copy) > 0
        await until(lambda: bench.changed(lun, copy) == 0)
        await array.sets.commit(ONE, set_id)
        fragment(bench.image(lun), 600, seed=2)
        changed = bench.changed(lun, copy)
        await trio.sleep(1)
        assert bench.changed(lun, copy) == changed > 0
        await array.sets.settle(ONE, set_id)

    async def test_an_abort_ends_a_preparation_that_is_under_way(self, array: Array) -> None:
        lun, set_id = await self.lun(array), SnapshotSetId(uuid4())
        fragment(array.core.pool.luns / lun / "image", 6000)
        await array.sets.prepare(ONE, set_id, [lun], LunKind.DIFFERENTIAL)
        async with trio.open_nursery() as nursery:

            async def finish() -> None:
                with pytest.raises(BadState, match="aborted"):
                    await array.sets.finish_prepare(ONE, set_id)

            nursery.start_soon(finish)
            await until(lambda: len(list(array.core.pool.luns.iterdir())) > 1)
            await array.sets.abort(ONE, set_id)
        assert {path.name for path in array.core.pool.luns.iterdir()} == {lun}

    async def test_a_lun_grows_while_it_is_copied(self, array: Array) -> None:
        lun, set_id = await self.lun(array), SnapshotSetId(uuid4())
        await array.sets.prepare(ONE, set_id, [lun], LunKind.DIFFERENTIAL)
        await array.sets.finish_prepare(ONE, set_id)
        await array.luns.extend(lun, 80 * MIB)
        await array.sets.commit(ONE, set_id)
        await array.sets.settle(ONE, set_id)
        (copy,) = [one for one in await array.luns.inventory() if one.origin == lun]
        assert copy.size == 80 * MIB
        assert (array.core.pool.luns / copy.id / "image").stat().st_size == 80 * MIB
