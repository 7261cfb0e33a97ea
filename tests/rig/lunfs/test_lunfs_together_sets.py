"""Sets of raw LUNs over two shards are one instant, whatever is written and whoever dies."""

import os
from pathlib import Path

import pytest

from tests.rig.lunfs.setstorm import set_storm

SECONDS = float(os.environ.get("VSSEMU_SECONDS", "3"))
SEED = int(os.environ.get("VSSEMU_SEED", "1"))


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("kill", [False, True])
async def test_a_set_is_one_instant_of_all_its_luns(directory: Path, kill: bool) -> None:
    done = await set_storm(directory, SECONDS, SEED, kill=kill)
    print(done)
    assert done.sets
    assert bool(done.kills) == kill
    assert kill or not done.given_up
