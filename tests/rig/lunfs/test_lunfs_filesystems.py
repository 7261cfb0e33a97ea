"""ext4 and xfs over lunfs, under load, with snapshots and kills: nothing that was fsynced is lost.

`VSSEMU_SECONDS` (2) says for how long each.
"""

import os
from pathlib import Path

import pytest

from tests.rig.lunfs.volumestorm import volume_storm

SECONDS = float(os.environ.get("VSSEMU_SECONDS", "2"))
SEED = int(os.environ.get("VSSEMU_SEED", "1"))


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_snapshots_of_a_volume_have_what_was_fsynced_and_are_whole(
    directory: Path, fstype: str
) -> None:
    done = volume_storm(directory, fstype, SECONDS, SEED, least=2)
    print(done)
    assert min(done.files, done.written) > 0
