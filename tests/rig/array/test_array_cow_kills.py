"""arrayd and its shards killed in the middle of everything: each alone, one by one, all at once.

`VSSEMU_SECONDS` (9) says for how long.
"""

import os

import pytest
import trio

from tests.rig.array.arrayrig import ArrayProcess, connected
from tests.rig.array.test_array_restarts import Storm
from vssemu.api import array as api

SECONDS = float(os.environ.get("VSSEMU_SECONDS", "9"))
SEED = int(os.environ.get("VSSEMU_SEED", "4"))


@pytest.fixture
def engine() -> str:
    return "cow"


@pytest.mark.timeout(SECONDS + 240)
async def test_whoever_is_killed_at_any_moment_nothing_is_half_done(process: ArrayProcess) -> None:
    storm = Storm(process)
    storm.random.seed(SEED)
    shards = process.shards
    assert shards is not None
    kills = rounds = 0
    end = trio.current_time() + SECONDS
    while rounds < 6 or storm.done < 6 or trio.current_time() < end:
        victims = (("arrayd",), ("shards", "arrayd"), ("arrayd", "shards"))[rounds % 3]
        rounds += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storm.run_until_killed)
            for victim in victims:
                await trio.sleep(storm.random.uniform(0.05, 0.5))
                if victim == "arrayd":
                    process.kill()
                    kills += 1
                    continue
                for number in storm.random.sample(range(shards.shards), 2):
                    await trio.to_thread.run_sync(shards.kill, number)
                    kills += 1
        await trio.to_thread.run_sync(process.start)
        await storm.check()
    async with connected(process) as site:
        for record, marker in storm.copies:
            await site.three.call(api.surface, [record])
            assert record.naa is not None
            assert await site.three.read(record.naa, len(marker)) == marker
        listed = set(await site.states())
    assert len(storm.gone & listed) <= 3 * kills
    print(f"{kills} kills, {storm.done} operations, {len(storm.copies)} copies kept")
