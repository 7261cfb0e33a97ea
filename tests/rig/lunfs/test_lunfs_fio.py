"""fio with verification over an origin while snapshots come and go and lunfs is killed.

`VSSEMU_SECONDS` (60) says for how long.
"""

import os
from pathlib import Path

import pytest

from tests.rig.lunfs.fiostorm import fio_storm
from vssemu.linux import fuse

SECONDS = float(os.environ.get("VSSEMU_SECONDS", "60"))
SEED = int(os.environ.get("VSSEMU_SEED", "3"))

pytestmark = pytest.mark.skipif(
    not fuse.kernel_resends(), reason="this kernel does not send requests again (6.9 does)"
)


@pytest.mark.timeout(SECONDS + 180)
def test_nothing_is_lost_while_snapshots_come_and_go_and_lunfs_is_killed(directory: Path) -> None:
    print(fio_storm(directory, SECONDS, SEED))
