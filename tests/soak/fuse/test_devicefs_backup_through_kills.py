"""Backups of a shadow copy in a real lab while devicefs, or vssd too, is killed all the time.

VSSEMU_KILLS: kills of each kind, 100 by default.
"""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig.lab.conftest import Labs
from tests.rig.lab.labrig import (
    GLOBALROOT,
    ONE,
    PERSISTENT,
    TWO,
    Rig,
    create,
    digest,
    eventually,
    fill,
    import_set,
)
from vssemu import Context, ObjectType
from vssemu.linux import cgroup
from vssemu.vss.identity import SnapshotId

KILLS = int(os.environ.get("VSSEMU_KILLS", "100"))
PROGRAMS = {"devicefs": "vssemu_fuse.devicefs", "vssd": "vssemu.daemons.vssd"}
END_LIMIT = 120.0
"""Seconds in which a backup that has begun ends."""

BACKUPS = {
    "tar": 'tar --directory="$DEVICE" --create --file=- data | sha256sum',
    "dd": 'dd if="$IMAGE" bs=1M iflag=direct status=none | sha256sum',
    "sha256sum": 'sha256sum < "$IMAGE"',
    "find": f"find {GLOBALROOT} -maxdepth 2 -printf '%P %i %m\\n' | sort | sha256sum",
    "restic": 'restic --quiet --no-cache backup "$DEVICE/data" && echo saved',
}
"""What runs over and over on systemTwo; whatever it prints must be the same each time."""


@dataclass(frozen=True)
class Imported:
    """A copy on systemTwo. data: the origin's tree; scratch: a directory of all hosts."""

    rig: Rig
    device: str
    data: Path
    scratch: Path
    copy: SnapshotId

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DEVICE": self.device,
            "IMAGE": self.device.replace("/Device/", "/Image/"),
            "RESTIC_REPOSITORY": str(self.scratch / "repository"),
            "RESTIC_PASSWORD": "none",
            "STOP": str(self.scratch / "stop"),
            "OUT": str(self.scratch / "restored"),
        }

    def run(self, script: str) -> str:
        """Run a script on systemTwo that must succeed."""
        return self.rig.run(TWO, "bash", "-c", script, env=self.environment, timeout=END_LIMIT)


@pytest.fixture
def imported(labs: Labs, scratch: Path) -> Iterator[Imported]:
    rig = labs.new()
    try:
        rig.up("F:=256M")
        data = rig.path(ONE, "/mnt/F/data")
        fill(data, files=300)
        with rig.backup(ONE) as creator:
            made = create(creator, context=PERSISTENT)
            document = creator.save_as_xml()
        with rig.backup(TWO) as importer:
            import_set(importer, document)
            device = importer.get_snapshot_properties(made.copy).device_object
        yield Imported(rig, device, data, scratch, made.copy)
    finally:
        rig.down()


def kill(rig: Rig, *names: str) -> None:
    """SIGKILL programs of systemTwo at once, as soon as all of them run."""
    eventually(lambda: all(rig.pids(TWO, PROGRAMS[name]) for name in names), seconds=60)
    victims = [pid for name in names for pid in rig.pids(TWO, PROGRAMS[name])]
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "names", [("devicefs",), ("devicefs", "vssd")], ids=["devicefs", "devicefs and vssd"]
)
def test_backups_end_without_an_error(imported: Imported, names: tuple[str, ...]) -> None:
    rig, stop = imported.rig, imported.scratch / "stop"
    imported.run("restic init")
    expected = {name: imported.run(script) for name, script in BACKUPS.items()}
    with ExitStack() as stack:
        running = {}
        for name, script in BACKUPS.items():
            loop = f'while [ ! -e "$STOP" ]; do {script} 2>&1 || echo failed; done'
            running[name] = stack.enter_context(
                rig.running(
                    TWO, "bash", "-o", "pipefail", "-c", loop,
                    env=imported.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )
            )  # fmt: skip
        stack.callback(stop.touch)
        for number in range(KILLS):
            # Every fourth kill may meet one that does not serve yet.
            if number % 4:
                rig.wait_service(TWO, "devicefs")
            time.sleep(random.uniform(0, 1))
            kill(rig, *names)
        for name in names:
            rig.wait_service(TWO, name)
        stop.touch()
        served = rig.log(TWO, "devicefs").count('"took_over": true')
        print(f"{KILLS} kills, {served} of them when devicefs served")
        for name, process in running.items():
            output, _ = process.communicate(timeout=END_LIMIT)
            seen = Counter(output.decode().splitlines(keepends=True))
            print(f"{name}: {seen.total()} times")
            assert list(seen) == [expected[name]], f"{name}: {seen}"
    imported.run('restic --quiet check --read-data && restic restore latest --target "$OUT"')
    (restored,) = (imported.scratch / "restored").rglob("data")
    assert digest(restored) == digest(imported.data)
    with rig.backup(TWO) as administrator:
        administrator.initialize_for_backup()
        administrator.set_context(Context.ALL)
        gone = administrator.delete_snapshots(imported.copy, ObjectType.SNAPSHOT, False)
        assert gone.deleted == 1
    with pytest.raises(FileNotFoundError):
        os.stat(rig.path(TWO, imported.device))


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_power_off_ends_who_waits_for_devicefs(imported: Imported, killed: bool) -> None:
    """Both that have the connection go with PID 1, and so does who waits."""
    rig = imported.rig
    with ExitStack() as stack:
        (victim,) = rig.pids(TWO, PROGRAMS["devicefs"])
        os.kill(victim, signal.SIGSTOP)
        walkers = [
            stack.enter_context(
                rig.running(TWO, *words, stdout=subprocess.DEVNULL, env=imported.environment)
            )
            for words in (
                ("ls", imported.device),
                ("sha256sum", imported.device.replace("/Device/", "/Image/")),
            )
        ]
        eventually(lambda: waiting(rig, "ls") and waiting(rig, "sha256sum"), seconds=60)
        if killed:
            os.kill(victim, signal.SIGKILL)
        started = time.monotonic()
        rig.lab.power_off(TWO)
        print(f"powered off after {time.monotonic() - started:.2f} s")
        for each in walkers:
            each.wait(60)
            assert each.returncode != 0
    assert rig.pids(TWO, PROGRAMS["vssd"]) == []


def waiting(rig: Rig, program: str) -> bool:
    """Tell whether a program of systemTwo waits for an answer of a FUSE file system."""
    for pid in cgroup.pids(rig.group / TWO):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                return Path(f"/proc/{pid}/wchan").read_text() == "request_wait_answer"
    return False
