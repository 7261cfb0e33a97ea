"""File systems that lose their power, again and again, with programs at work.

    with fault_rig(directory) as rig:
        PowerLosses(rig, "ext4", seed=1).run(10)

In each round tasks write files and have them flushed, the array takes snapshots and removes
them, and the power goes at a random moment. Afterwards the file system is mounted as after a
crash: every file that a task was told is on the disk is there and whole, the check finds
nothing, and each snapshot is what it was.
"""

import contextlib
import hashlib
import os
import random
import threading
import time
from pathlib import Path

from tests.rig.lunfs.faultrig import FaultRig, Started
from tests.rig.lunfs.lunfsrig import MIB, Device, run
from vssemu.api import lunfaults as faults
from vssemu.api import shard as api
from vssemu.vss.errors import VssError
from vssemu.vss.identity import LunId

SIZE = 64 * MIB
MAKE = {"ext4": ("mkfs.ext4", "-q"), "xfs": ("mkfs.xfs", "-q", "--unsupported")}
TASKS = 3
MOST_SNAPSHOTS = 3
RECORD = 4096


def content_of(name: str, length: int) -> bytes:
    """Return the bytes that a name stands for."""
    return random.Random(name).randbytes(length)


def record(number: int) -> bytes:
    """Return a record of a task's journal."""
    return f"{number:08d}".encode() * (RECORD // 8)


class Task:
    """A program that writes files and believes what fsync says. durable: what was said to be."""

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        self._chance = random.Random(seed)
        self.durable: dict[str, int] = {}
        self.records = 0
        self._thread: threading.Thread | None = None

    def start(self, place: Path, round_number: int) -> None:
        self._thread = threading.Thread(target=self._work, args=(place, round_number))
        self._thread.start()

    def wait(self) -> None:
        assert self._thread is not None
        self._thread.join(20)
        assert not self._thread.is_alive(), "a task hangs"

    def _work(self, place: Path, round_number: int) -> None:
        # The power goes while it works.
        with contextlib.suppress(OSError):
            count = 0
            while True:
                count += 1
                self._make_file(place, f"{self.number}-{round_number}-{count}")
                self._append_record(place)

    def _make_file(self, place: Path, name: str) -> None:
        length = self._chance.choice([100, 5000, 70_000, 400_000])
        temporary = place / f"{name}.new"
        with temporary.open("wb", buffering=0) as file:
            file.write(content_of(name, length))
            os.fsync(file.fileno())
        temporary.rename(place / name)
        _sync(place)
        self.durable[name] = length
        if len(self.durable) > 12:
            gone = next(iter(self.durable))
            del self.durable[gone]
            (place / gone).unlink()

    def _append_record(self, place: Path) -> None:
        descriptor = os.open(place / f"journal-{self.number}", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            # What lies behind the last record was perhaps written, but never said to be.
            os.pwrite(descriptor, record(self.records), self.records * RECORD)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        if not self.records:
            _sync(place)
        self.records += 1

    def check(self, place: Path) -> None:
        """Look for all that is durable."""
        for name, length in self.durable.items():
            assert (place / name).is_file(), f"{name} is gone"
            assert (place / name).read_bytes() == content_of(name, length), f"{name} differs"
        if self.records:
            found = (place / f"journal-{self.number}").read_bytes()
            for number in range(self.records):
                kept = found[number * RECORD : (number + 1) * RECORD]
                assert kept == record(number), f"record {number} of {self.number} differs"


class PowerLosses:
    """One LUN with a file system, and its snapshots."""

    def __init__(self, rig: FaultRig, fstype: str, seed: int) -> None:
        self.rig = rig
        self.fstype = fstype
        self.chance = random.Random(seed)
        self.tasks = [Task(number, seed + number) for number in range(TASKS)]
        self.snapshots: dict[LunId, str] = {}
        self.lost = 0
        self.lun = rig.lun(SIZE)
        with rig.rig.loop(self.lun) as device:
            run(*MAKE[fstype], device.path)
        rig.call(faults.set_volatile, self.lun, True)

    def run(self, rounds: int) -> None:
        """Lose the power so often."""
        for number in range(rounds):
            self._round(number)
        assert sum(len(task.durable) for task in self.tasks), "no file was written"
        assert self.lost, "nothing was lost"

    def _round(self, number: int) -> None:
        with self.rig.rig.loop(self.lun) as device, self._mounted(device) as place:
            for task in self.tasks:
                task.start(place, number)
            self._pass(0.2)
            if number % 2 == 0:
                self._take()
                self._pass(0.2)
            removal = self._removal() if len(self.snapshots) > MOST_SNAPSHOTS else None
            self._lose()
            for task in self.tasks:
                task.wait()
        if removal is not None:
            removed, started = removal
            with contextlib.suppress(VssError):
                started.wait()
        self.rig.call(faults.power_on, self.lun)
        if removal is not None:
            self.rig.call(api.remove, removed)
        self._check()

    def _pass(self, seconds: float) -> None:
        time.sleep(self.chance.random() * seconds)

    def _take(self) -> None:
        snapshot = self.rig.snapshot(self.lun)
        self.snapshots[snapshot] = self._sum(snapshot)

    def _removal(self) -> tuple[LunId, Started]:
        """Have the eldest snapshot but one removed, which the power interrupts, or not."""
        removed = list(self.snapshots)[1]
        del self.snapshots[removed]
        return removed, Started([lambda: self._remove(removed)])

    def _remove(self, lun: LunId) -> str:
        try:
            self.rig.call(api.remove, lun)
        except VssError as error:
            return str(error)
        return "removed"

    def _lose(self) -> None:
        loss = self.rig.call(faults.power_loss, self.lun, self.chance.getrandbits(32), None)
        self.lost += loss.lost

    def _check(self) -> None:
        with self.rig.rig.loop(self.lun) as device:
            with self._mounted(device) as place:
                for task in self.tasks:
                    task.check(place)
            check = ("e2fsck", "-fn") if self.fstype == "ext4" else ("xfs_repair", "-n")
            run(*check, device.path)
        for snapshot, expected in self.snapshots.items():
            assert self._sum(snapshot) == expected, f"{snapshot} has changed"

    def _mounted(self, device: Device) -> contextlib.AbstractContextManager[Path]:
        return self.rig.rig.mounted(device, self.fstype)

    def _sum(self, lun: LunId) -> str:
        descriptor = self.rig.rig.open(lun, flags=os.O_RDONLY)
        with open(descriptor, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
