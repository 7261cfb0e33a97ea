"""lunfs killed at every moment of copy, exception, data and answer, once and twice in a row."""

from pathlib import Path

import pytest

from tests.rig.lunfs.killmoments import die_at_moments


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lives", [1, 2])
@pytest.mark.parametrize("safety", ["power", "process"])
def test_a_kill_at_any_moment_changes_no_snapshot_and_undoes_nothing(
    directory: Path, safety: str, lives: int
) -> None:
    print(f"{die_at_moments(directory, safety, lives=lives, every=1)} moments")
