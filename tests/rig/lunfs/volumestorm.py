"""A file system over an origin under files that come and go, snapshots that nothing was frozen
for, and a lunfs that is killed: each snapshot is a file system that lost its power at that moment.
"""

import contextlib
import hashlib
import os
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.rig.lunfs.comeandgo import ComeAndGo, Kept, killing
from tests.rig.lunfs.lunfsrig import MIB, LunfsRig, run, running, xfs_pool
from tests.rig.lunfs.stamps import Clock
from vssemu.api import shard as api
from vssemu.linux import filesystems
from vssemu.vss.engine import CopyPair
from vssemu.vss.identity import LunId

ORIGIN = LunId(f"naa.6{1:031x}")
SCRATCH = LunId(f"naa.6{2:031x}.scratch")
FILES = 40


@dataclass(slots=True)
class Done:
    """What was done. files: found in snapshots, each with the contents it was fsynced with."""

    snapshots: int = 0
    files: int = 0
    written: int = 0
    kills: int = 0


class Files:
    """Threads that write files, fsync them and their directory, and remove some."""

    def __init__(self, place: Path, seed: int) -> None:
        self._place = place
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._durable: dict[str, str] = {}
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._errors: list[BaseException] = []
        self.written = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a file is still being written"
        if self._errors:
            raise self._errors[0]

    def durable(self) -> dict[str, str]:
        """Return the files that nobody is at, durable by now, and their SHA-256."""
        with self._lock:
            return dict(self._durable)

    def _work(self) -> None:
        try:
            while not self._over.is_set():
                self._one()
        except BaseException as error:  # noqa: BLE001
            self._errors.append(error)

    def _one(self) -> None:
        name = f"file{self._chance.randrange(FILES)}"
        path = self._place / name
        with self._lock:
            self._durable.pop(name, None)
        if self._chance.random() < 0.2:
            path.unlink(missing_ok=True)
            return
        data = self._chance.randbytes(self._chance.randrange(1, 300_000))
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        directory = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)
        self.written += 1
        with self._lock:
            self._durable[name] = hashlib.sha256(data).hexdigest()


def volume_storm(
    directory: Path, fstype: str, seconds: float, seed: int, *, least: int = 1
) -> Done:
    """Play it for so many seconds, `least` snapshots at least; what is wrong is a failure."""
    done = Done()
    size = max(64 * MIB, filesystems.XFS_LEAST if fstype == "xfs" else 0)
    size = -(-size // MIB) * MIB
    with xfs_pool(directory, 2048 * MIB) as pool, running(directory) as rig:
        rig.serve(pool)
        rig.call(0, api.create, ORIGIN, size)
        going = ComeAndGo(rig, Clock(), {}, [ORIGIN], seed=seed)
        with rig.loop(ORIGIN) as device:
            make = filesystems.make_ext4 if fstype == "ext4" else filesystems.make_xfs
            make(device.path, timeout=60.0)
            with rig.mounted(device, fstype) as place:
                files = Files(place, seed)
                files.start()
                with contextlib.ExitStack() as stack:
                    stack.callback(files.stop)
                    killed = stack.enter_context(killing(rig, every=(0.5, 3.0), seed=seed))
                    end = time.monotonic() + seconds
                    while time.monotonic() < end or done.snapshots < least:
                        sure = _durable_in(going, files)
                        done.files += _look_inside(rig, going, going.kept[-1], fstype, sure)
                        done.snapshots += 1
                        while len(going.kept) > 4:
                            going.remove(going.chance.choice(going.kept))
                        going.look(going.chance.choice(going.kept))
                done.written, done.kills = files.written, len(killed)
            _check(device.path, fstype)
        going.end()
    return done


def _durable_in(going: ComeAndGo, files: Files) -> dict[str, str]:
    """Take a snapshot; return the files that were durable before and untouched until it was."""
    before, after = files.durable(), dict[str, str]()
    going.on_commit = lambda: after.update(files.durable())
    going.take()
    return {name: sha for name, sha in before.items() if after.get(name) == sha}


def _look_inside(
    rig: LunfsRig, going: ComeAndGo, one: Kept, fstype: str, files: dict[str, str]
) -> int:
    """Mount a clone of a snapshot, find the files, check the file system; return how many."""
    pair = CopyPair(source=one.name, target=SCRATCH)
    going.call(api.prepare, [pair])
    going.call(api.commit, [pair])
    with rig.loop(SCRATCH) as device:
        place = rig.directory / "inside"
        place.mkdir(exist_ok=True)
        options = "nouuid" if fstype == "xfs" else "data=ordered"
        run("mount", "-t", fstype, "-o", options, device.path, place)
        try:
            for name, wanted in files.items():
                found = hashlib.sha256((place / name).read_bytes()).hexdigest()
                assert found == wanted, f"{name} in {one.name}"
        finally:
            rig.unmount(place)
        _check(device.path, fstype)
    going.call(api.remove, SCRATCH)
    return len(files)


def _check(device: Path, fstype: str) -> None:
    check = ("e2fsck", "-fn") if fstype == "ext4" else ("xfs_repair", "-n")
    run(*check, device)
