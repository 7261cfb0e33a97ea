"""The cow engine: sets of one instant, full copies, shards that die or hang; arrays on it.

What is collected here from other modules runs there on the engine of the environment, and here
on cow.
"""

import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio

from tests.rig.array.arrayrig import BLOCK, MIB, ONE, SCRATCH, ArrayProcess, connected
from tests.rig.array.cowrig import CowBench, Numbered, benched, opened_directory
from tests.rig.array.test_array_plex import (  # noqa: F401
    test_a_committed_plex_is_completed_after_a_kill,
)
from tests.rig.array.test_array_pool_full import (  # noqa: F401
    test_a_restart_finishes_an_end_that_had_begun,
)
from tests.rig.lunfs.fioverify import verifying
from tests.rig.lunfs.lunfsrig import LunfsRig, xfs_pool
from tests.rig.lunfs.lunfsrig import running as shards_running
from vssemu.api import array as api
from vssemu.api import shard as shard_api
from vssemu.array.engines.cow import commit as cow_commit
from vssemu.array.engines.cow import shards as cow_shards
from vssemu.array.naming import mint_lun_id
from vssemu.array.pool import open_pool
from vssemu.linux import loop
from vssemu.vss.array import LunKind
from vssemu.vss.errors import BadState, Fail
from vssemu.vss.identity import LunId


@pytest.fixture
def engine() -> str:
    return "cow"


@pytest.fixture(scope="module")
def shards() -> Iterator[tuple[LunfsRig, Path]]:
    """Two shards and a pool's directory of LUNs, for all tests of the module."""
    made = SCRATCH / uuid4().hex[:8]
    made.mkdir(parents=True)
    try:
        with xfs_pool(made, 1024 * MIB) as luns, shards_running(made, shards=2) as rig:
            yield rig, luns
    finally:
        shutil.rmtree(made)


@pytest.fixture
async def bench(shards: tuple[LunfsRig, Path]) -> AsyncIterator[CowBench]:
    """An engine over them; nothing is left of its LUNs."""
    async with benched(*shards) as made:
        yield made
        await made.engine.remove_unknown(set())
        assert os.listdir(made.luns) == []


async def test_a_set_over_shards_is_one_instant_of_raw_luns(
    bench: CowBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = cow_commit.Line.ask_once

    def ask_late(line: cow_commit.Line, *what: Any) -> Any:
        # Long enough for writes to go between the shards, if they could.
        time.sleep(0.02)
        return ask(line, *what)

    monkeypatch.setattr(cow_commit.Line, "ask_once", ask_late)
    first, second = await bench.lun(), await bench.lun()
    assert bench.shard_of(first) != bench.shard_of(second)
    writer = Numbered(
        *[(await bench.engine.activate(lun, writable=True)).path for lun in (first, second)]
    )
    seen = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, writer.run)
        try:
            for _ in range(8):
                before = writer.count
                copies = await bench.copy(first, second)
                seen.append(
                    [int.from_bytes(await bench.read(copy, 8), "little") for copy in copies]
                )
                assert seen[-1][0] >= before - 1
        finally:
            writer.stopped = True
    assert all(second <= first <= second + 1 for first, second in seen), seen
    assert len({first for first, _ in seen}) == len(seen)


async def test_copies_are_taken_in_a_moment_while_fio_writes(bench: CowBench) -> None:
    lun = await bench.lun(64 * MIB)
    sums: dict[LunId, str] = {}
    seconds: list[float] = []

    async def checksum(copy: LunId) -> str:
        return hashlib.blake2b(await bench.read(copy, 64 * MIB)).hexdigest()

    with (
        bench.rig.loop(lun, bench.shard_of(lun)) as device,
        verifying(device.path, size=64 * MIB, seconds=3) as fio,
    ):
        for _ in range(4):
            prepared, (copy,) = await bench.prepare(lun)
            begun = time.perf_counter()
            await trio.to_thread.run_sync(bench.engine.commit, prepared)
            seconds.append(time.perf_counter() - begun)
            await bench.engine.settle(prepared)
            sums[copy] = await checksum(copy)
        done = await trio.to_thread.run_sync(fio.result, 60.0)
        assert done.writes > 0
    assert {copy: await checksum(copy) for copy in sums} == sums
    print(f"commits: {', '.join(f'{each * 1e3:.1f}' for each in seconds)} ms")


async def test_a_full_copy_of_what_is_written_and_discarded_meanwhile(bench: CowBench) -> None:
    chance = random.Random(4)
    lun = await bench.lun(16 * MIB)
    await bench.write(lun, chance.randbytes(8 * MIB), 4 * MIB)
    prepared, (copy,) = await bench.prepare(lun, kind=LunKind.PLEX)
    for _ in range(40):
        await bench.write(lun, chance.randbytes(BLOCK), chance.randrange(4096) * BLOCK)
    await bench.write(lun, bytes(MIB), 6 * MIB)
    await bench.engine.extend(lun, 20 * MIB)
    await bench.write(lun, b"grown" + bytes(BLOCK - 5), 18 * MIB)
    truth = await bench.read(lun, 20 * MIB)
    assert await trio.to_thread.run_sync(bench.engine.commit, prepared) == [20 * MIB]
    await bench.write(lun, chance.randbytes(12 * MIB))
    await bench.engine.settle(prepared)
    assert await bench.read(copy, 20 * MIB) == truth
    assert await bench.engine.remove_unknown({lun, copy}) == []
    assert sorted(os.listdir(bench.luns)) == sorted([lun, copy])
    await bench.engine.delete(lun)
    assert await bench.read(copy, 20 * MIB) == truth


async def test_a_copy_and_its_scratch_clone_are_told_apart_and_go_in_any_order(
    bench: CowBench,
) -> None:
    lun = await bench.lun()
    await bench.write(lun, b"old" * 1000)
    (elder,) = await bench.copy(lun)
    (younger,) = await bench.copy(lun)
    scratch = await bench.engine.scratch(younger, writable=True)
    await bench.write_at(scratch.path, b"replayed")
    await bench.write(lun, b"new" * 1000)
    old = b"old" * 1000
    assert os.pread(scratch.descriptor, 16, 0) == b"replayed" + old[8:16]
    for name in (elder, younger):
        assert await bench.read(name, 3000) == old
    await bench.engine.delete(younger)
    assert not await bench.engine.has_scratch(younger)
    assert await bench.read(elder, 3000) == old
    await bench.engine.delete(elder)
    assert os.listdir(bench.luns) == [lun]


async def test_emptied_copies_leave_their_elders_whole(bench: CowBench) -> None:
    lun = await bench.lun()
    await bench.write(lun, b"1" * MIB)
    copies = [(await bench.copy(lun))[0] for _ in range(3)]
    await bench.write(lun, b"2" * MIB)
    assert await bench.engine.freed_at_once(copies) == {copies[0]}
    await bench.engine.empty(copies[1])
    assert await bench.engine.lost() == [copies[1]]
    assert (await bench.engine.usage(copies[1])).size == 0
    assert await bench.read(copies[0], MIB) == await bench.read(copies[2], MIB) == b"1" * MIB
    with pytest.raises(OSError, match="Input/output"):
        await bench.read(copies[1], BLOCK)
    await bench.engine.empty(copies[0])
    assert await bench.engine.freed_at_once(copies) == {copies[2]}


async def test_a_bound_device_grows_with_its_lun_and_a_copy_does_not_grow(
    bench: CowBench,
) -> None:
    lun = await bench.lun()
    (copy,) = await bench.copy(lun)
    with bench.rig.loop(lun, bench.shard_of(lun)) as device:
        await bench.engine.extend(lun, 32 * MIB)
        loop.set_capacity(device.fd)
        assert device.facts.size == 32 * MIB
        assert os.pwrite(device.fd, b"x" * BLOCK, 31 * MIB) == BLOCK
    assert await bench.read(lun, 1, 31 * MIB) == b"x"
    with pytest.raises(BadState, match="cannot grow"):
        await bench.engine.extend(copy, 32 * MIB)
    (later,) = await bench.copy(lun)
    assert (await bench.engine.usage(later)).size == 32 * MIB


async def test_shards_that_die_are_waited_for_and_those_that_hang_are_named(
    bench: CowBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await bench.lun(), await bench.lun()
    await bench.write(first, b"kept")
    prepared, (copy, _) = await bench.prepare(first, second)
    for shard in (0, 1):
        await trio.to_thread.run_sync(bench.rig.kill, shard)
    await trio.to_thread.run_sync(bench.engine.commit, prepared)
    await trio.to_thread.run_sync(bench.rig.kill, bench.shard_of(first))
    await bench.engine.settle(prepared)
    await bench.write(first, b"lost")
    assert await bench.read(copy, 4) == b"kept"
    monkeypatch.setattr(cow_shards, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(cow_commit, "CALL_SECONDS", 0.5)
    hanging = bench.shard_of(second)
    ready, _ = await bench.prepare(first, second)
    (unopened,) = await bench.copy(second)
    pid = bench.rig.pid(hanging)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Fail, match=f"shard {hanging} .* does not answer"):
            await bench.engine.usage(second)
        with pytest.raises(Fail, match=f"shard {hanging} .* does not answer"):
            await bench.engine.activate(unopened, writable=False)
        with pytest.raises(Fail, match=f"shard {hanging} .* did not take part"):
            await trio.to_thread.run_sync(bench.engine.commit, ready)
    finally:
        os.kill(pid, signal.SIGCONT)
    await bench.engine.abort(ready)
    await bench.write(first, b"free")
    assert await bench.engine.remove_unknown({first, second, copy}) != []


async def test_a_hold_holds_luns_of_all_shards(bench: CowBench) -> None:
    first, second = await bench.lun(), await bench.lun()
    writer = Numbered(
        *[(await bench.engine.activate(lun, writable=True)).path for lun in (first, second)]
    )

    def hold() -> int:
        with bench.engine.hold([first, second]):
            before = writer.count
            time.sleep(0.3)
            return writer.count - before

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, writer.run)
        try:
            assert await trio.to_thread.run_sync(hold) <= 1
            count = writer.count
            await trio.sleep(0.3)
            assert writer.count > count + 1
        finally:
            writer.stopped = True


async def test_chains_of_shards_that_are_gone_are_divided_among_those_that_are_there(
    directory: Path,
) -> None:
    fewer = directory / "fewer"
    fewer.mkdir()
    with xfs_pool(directory) as luns:
        with shards_running(directory, shards=2) as rig:
            rig.serve(luns)
            for shard in (0, 1):
                rig.call(shard, shard_api.create, mint_lun_id(shard), MIB)
        with shards_running(fewer, shards=1) as rig, opened_directory(luns) as descriptor:
            served = rig.call(0, shard_api.serve, os.getpid(), descriptor, 1)
            assert sorted(served) == sorted(os.listdir(luns))
            assert len(served) == 2
            rig.restart()
            assert rig.call(0, shard_api.usage, served[1]).size == MIB
            with (
                opened_directory(directory) as other,
                pytest.raises(BadState, match="another pool"),
            ):
                rig.call(0, shard_api.serve, os.getpid(), other, 1)


async def test_copies_are_made_and_read_while_shards_die(process: ArrayProcess) -> None:
    async with connected(process) as site:
        lun, other = await site.lun(ONE), await site.lun(ONE)
        assert process.shards is not None
        for round_ in range(2):
            await site.one.write(lun.id, b"%d" % round_)
            await trio.to_thread.run_sync(process.shards.kill, round_)
            _, records = await site.one.copy(lun.id, other.id)
            await trio.to_thread.run_sync(process.shards.kill, round_)
            await site.two.call(api.surface, records)
            assert records[0].naa is not None
            assert await site.two.read(records[0].naa, 1) == b"%d" % round_


async def test_a_pool_is_refused_to_another_engine(directory: Path) -> None:
    (directory / "owner").write_text("one-array\n")
    with pytest.raises(BadState, match="reflink") as refusal:
        async with open_pool(directory, "one-array", engine="cow"):
            pass
    assert "--engine reflink" in str(refusal.value)
