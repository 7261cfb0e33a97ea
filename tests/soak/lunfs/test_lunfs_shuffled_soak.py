"""Chains under everything at once, in many orders of events.

`VSSEMU_SECONDS` (300) says for how long, `VSSEMU_SEED` with which seed it begins.
"""

import os
import time
from pathlib import Path

import pytest

from tests.rig.lunfs.chainstorm import storm

SECONDS = float(os.environ.get("VSSEMU_SECONDS", "300"))


@pytest.mark.timeout(SECONDS + 300)
def test_views_hold_what_they_may_in_any_order_of_events(directory: Path) -> None:
    seed = int(os.environ.get("VSSEMU_SEED", str(time.time_ns() % 10**9)))
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        print(f"seed {seed}", flush=True)
        chunk_size = (4096, 16384, 65536)[seed % 3]
        with storm(directory, seed, chunk_size=chunk_size, power=seed % 4 != 0) as one:
            for _ in range(400):
                one.act()
            one.check()
        seed += 1
