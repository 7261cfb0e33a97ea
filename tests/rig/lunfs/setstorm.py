"""Sets of raw LUNs over two shards, under dependent writes, with shards that are killed.

Whoever writes waits for each write before the next one, on whichever LUN; no file system is
there to be frozen. So a set is right only if the array held all its LUNs at one instant.
"""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.rig.array.cowrig import CowBench, benched
from tests.rig.lunfs.comeandgo import killing
from tests.rig.lunfs.lunfsrig import MIB, running, xfs_pool
from tests.rig.lunfs.stampload import StampLoad, Target, digest, read_view
from tests.rig.lunfs.stamps import Clock, Cut, History, Words, judge
from vssemu.vss.errors import VssError
from vssemu.vss.identity import LunId

SIZE = 4 * MIB


@dataclass(slots=True)
class Done:
    """What a storm did. given_up: sets that were not taken since a shard died over them."""

    sets: int = 0
    looks: int = 0
    deletions: int = 0
    scratches: int = 0
    kills: int = 0
    given_up: list[str] = field(default_factory=list)


async def set_storm(directory: Path, seconds: float, seed: int, *, kill: bool) -> Done:
    """Play it for so many seconds; what is wrong is a failure."""
    done = Done()
    with (
        xfs_pool(directory, 1024 * MIB) as pool,
        running(directory, shards=2, arguments=("--chunk-size", "16384")) as rig,
    ):
        async with benched(rig, pool) as bench:
            luns = [await bench.lun(SIZE) for _ in range(4)]
            assert {bench.shard_of(lun) for lun in luns} == {0, 1}
            clock = Clock()
            histories = {lun: History(lun, SIZE) for lun in luns}
            targets = [
                Target(histories[lun], Path(rig.path(lun, bench.shard_of(lun)))) for lun in luns
            ]
            load = StampLoad(clock, targets, depth=6, seed=seed, flushes=0.0)
            every = (0.3, 2.0) if kill else (1e6, 1e6)
            with load.running(), killing(rig, every=every, shards=(0, 1), seed=seed) as killed:
                await _play(bench, clock, histories, seconds, random.Random(seed), done)
            done.kills = len(killed)
    return done


async def _play(
    bench: CowBench,
    clock: Clock,
    histories: dict[LunId, History],
    seconds: float,
    chance: random.Random,
    done: Done,
) -> None:
    kept: dict[LunId, str] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end or not done.sets:
        if len(kept) < 16:
            await _take(bench, clock, histories, kept, done)
        for name in chance.sample(sorted(kept), min(3, len(kept))):
            what = chance.random()
            if what < 0.4:
                assert digest(await _view(bench, name)) == kept[name], f"{name} has changed"
                done.looks += 1
            elif what < 0.8:
                await bench.engine.delete(name)
                del kept[name]
                done.deletions += 1
            else:
                await _spoil_scratch(bench, name)
                done.scratches += 1
    for name, wanted in kept.items():
        assert digest(await _view(bench, name)) == wanted, f"{name} has changed"
    for name in kept:
        await bench.engine.delete(name)


async def _take(
    bench: CowBench,
    clock: Clock,
    histories: dict[LunId, History],
    kept: dict[LunId, str],
    done: Done,
) -> None:
    prepared, copies = await bench.prepare(*histories)
    asked = clock.now()
    try:
        await trio.to_thread.run_sync(bench.engine.commit, prepared)
    except VssError as error:
        done.given_up.append(str(error))
        await bench.engine.abort(prepared)
        return
    cut = Cut(asked=asked, made=clock.now())
    await bench.engine.settle(prepared)
    views = [await _view(bench, copy) for copy in copies]
    wrong = judge(list(zip(histories.values(), views, strict=True)), cut).wrong
    assert not wrong, wrong[:5]
    for history in histories.values():
        history.forget(cut.asked)
    kept.update({copy: digest(view) for copy, view in zip(copies, views, strict=True)})
    done.sets += 1


async def _spoil_scratch(bench: CowBench, name: LunId) -> None:
    """Write to the scratch clone of a copy, and drop it."""
    backing = await bench.engine.scratch(name, writable=True)
    await bench.write_at(backing.path, b"spoilt" * 4096, 64 * 4096)
    await bench.engine.discard_scratch(name)


async def _view(bench: CowBench, name: LunId) -> Words:
    path = bench.rig.path(name, bench.shard_of(name))
    with bench.rig.guarded(60):
        return await trio.to_thread.run_sync(read_view, Path(path))
