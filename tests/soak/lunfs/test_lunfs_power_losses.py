"""Two hundred power losses, half of them of an ext4, half of an xfs, with snapshots.

`VSSEMU_LOSSES=1000 pytest -s tests/soak/lunfs/test_lunfs_power_losses.py`, and VSSEMU_SEED
repeats a run.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from tests.rig.lunfs.faultrig import fault_rig
from tests.rig.lunfs.powerload import PowerLosses

LOSSES = int(os.environ.get("VSSEMU_LOSSES", "200"))


@pytest.mark.timeout(300 + 20 * LOSSES)
@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_a_file_system_survives_hundreds_of_power_losses(fstype: str) -> None:
    seed = int(os.environ.get("VSSEMU_SEED", "0")) or time.time_ns() % 1_000_000
    print(f"\n{LOSSES // 2} losses of {fstype}, VSSEMU_SEED={seed}")
    directory = Path(tempfile.mkdtemp(prefix="vssemu-power-", dir="/tmp"))
    try:
        with fault_rig(directory) as rig:
            PowerLosses(rig, fstype, seed).run(LOSSES // 2)
    finally:
        shutil.rmtree(directory)
