"""The programs in docs/examples do what they say."""

import subprocess
import sys
from pathlib import Path

from tests.rig.lab.labrig import ONE, ROOT, Rig, digest

EXAMPLES = ROOT / "docs/examples"


def test_the_asyncio_program_carries_a_backup_over(lab: Rig, scratch: Path) -> None:
    target = scratch / "target"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "asyncio_backup.py", lab.name, target],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    source = digest(lab.path(ONE, "/mnt/F/data"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{len(source)} files"
    assert digest(target) == source


def test_the_asyncio_program_ends_when_one_host_fails(lab: Rig, scratch: Path) -> None:
    """Its target is there already, so that the copying task fails; the other one ends with it."""
    before = lab.lun_ids()
    done = subprocess.run(
        [sys.executable, EXAMPLES / "asyncio_backup.py", lab.name, scratch],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "FileExistsError" in done.stderr
    assert lab.lun_ids() == before
