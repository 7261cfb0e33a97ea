"""The storms of the rig, for longer: sets over two shards, volumes, a pool without power.

`VSSEMU_SECONDS` (600) says for how long each; the pool loses its power every three seconds.
"""

import os
from pathlib import Path

import pytest

from tests.rig.lunfs.poolcut import CutPool
from tests.rig.lunfs.setstorm import set_storm
from tests.rig.lunfs.volumestorm import volume_storm

SECONDS = float(os.environ.get("VSSEMU_SECONDS", "600"))
SEED = int(os.environ.get("VSSEMU_SEED", "2"))

pytestmark = pytest.mark.timeout(4 * SECONDS + 300)


async def test_sets_are_one_instant_of_all_their_luns(directory: Path) -> None:
    done = await set_storm(directory, SECONDS, SEED, kill=True)
    print(done)
    assert done.sets
    assert done.kills


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_snapshots_of_a_volume_have_what_was_fsynced(directory: Path, fstype: str) -> None:
    done = volume_storm(directory, fstype, SECONDS, SEED)
    print(done)
    assert done.files
    assert done.kills


def test_what_was_flushed_or_settled_outlives_losses_of_power(directory: Path) -> None:
    pool = CutPool(directory, SEED)
    for _ in range(max(1, round(SECONDS / 3))):
        pool.round(2.0)
    pool.check()
    print(f"{pool.cuts} losses, {pool.looks} looks at snapshots")
    assert pool.looks
