"""Half an hour of fio with verification while snapshots come and go and lunfs is killed.

`VSSEMU_SECONDS` (1800) says for how long, shared among three chunk sizes.
"""

import os
from pathlib import Path

import pytest

from tests.rig.lunfs.fiostorm import fio_storm

SECONDS = float(os.environ.get("VSSEMU_SECONDS", "1800"))


@pytest.mark.timeout(SECONDS / 3 + 300)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nothing_is_lost_in_half_an_hour(directory: Path, seed: int) -> None:
    print(fio_storm(directory, SECONDS / 3, seed))
