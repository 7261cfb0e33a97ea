"""Everything at once on a chain in this process, in orders of events that a seed chooses."""

import os
from pathlib import Path

import pytest

from tests.rig.lunfs.chainstorm import storm

FIRST = int(os.environ.get("VSSEMU_SEED", "1"))


@pytest.mark.parametrize("chunk_size", [4096, 16384, 65536])
@pytest.mark.parametrize("power", [True, False])
def test_views_hold_what_they_may_in_any_order_of_events(
    directory: Path, chunk_size: int, power: bool
) -> None:
    with storm(directory, FIRST, chunk_size=chunk_size, power=power) as one:
        for _ in range(250):
            one.act()
        one.check()
    assert {"death", "removal", "snapshot", "write done"} <= set(one.seen.answers)
