"""The pool's own file system loses its power: what was flushed or settled is there afterwards."""

import os
from pathlib import Path

from tests.rig.lunfs.poolcut import CutPool

ROUNDS = int(os.environ.get("VSSEMU_ROUNDS", "2"))
SEED = int(os.environ.get("VSSEMU_SEED", "1"))


def test_what_was_flushed_or_settled_outlives_a_loss_of_power_of_the_pool(directory: Path) -> None:
    pool = CutPool(directory, SEED)
    for _ in range(ROUNDS):
        pool.round(1.5)
    pool.check()
    assert pool.looks
