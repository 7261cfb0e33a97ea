"""lunfs killed at some moments of copy, exception, data and answer, also twice in a row.

`VSSEMU_MOMENTS` (13): every how many-th moment; 1 for all of them, which takes minutes.
"""

import os
from pathlib import Path

import pytest

from tests.rig.lunfs.killmoments import die_at_moments
from vssemu.linux import fuse

EVERY = int(os.environ.get("VSSEMU_MOMENTS", "13"))

pytestmark = pytest.mark.skipif(
    not fuse.kernel_resends(), reason="this kernel does not send requests again (6.9 does)"
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("safety", "lives"), [("power", 2), ("process", 1)])
def test_a_kill_at_a_moment_changes_no_snapshot_and_undoes_nothing(
    directory: Path, safety: str, lives: int
) -> None:
    die_at_moments(directory, safety, lives=lives, every=EVERY)
