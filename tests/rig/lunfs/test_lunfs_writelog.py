"""Write logs of LUNs at work: replayed, they are the LUN, and at every flush a file system."""

import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.lunfs.faultrig import FaultRig, fault_rig, flush, read, write
from tests.rig.lunfs.lunfsrig import BLOCK, MIB, Device, run
from vssemu.api import lunfaults as faults
from vssemu.faults.luns import LunFaultKind
from vssemu.faults.replay import Replay, last_before
from vssemu.faults.writelog import EntryKind, LogEntry, LogReader
from vssemu.vss.errors import BadState, Fail, InvalidArgument
from vssemu.vss.identity import LunId

POINTS = 10
"""Flushes at which a file system is looked at, of those that were recorded."""


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="vssemu-writelog-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def rig(directory: Path) -> Iterator[FaultRig]:
    with fault_rig(directory) as made:
        yield made


@pytest.fixture
def log(directory: Path) -> Iterator[Path]:
    """Where a log may be; the file is not there yet."""
    made = Path(tempfile.mkdtemp(dir=directory))
    yield made / "log"
    shutil.rmtree(made)


def record(rig: FaultRig, lun: LunId, log: Path) -> None:
    rig.call(faults.record_writes, lun, str(log))


def entries_of(log: Path) -> list[LogEntry]:
    with LogReader(log) as reader:
        found = list(reader.entries())
        assert reader.cut_off is None
    return found


def whole(device: Device) -> bytes:
    size = device.facts.size
    return b"".join(read(device, at // BLOCK, MIB // BLOCK) for at in range(0, size, MIB))


def assert_replays_to(log: Path, expected: bytes) -> None:
    image = log.with_name("image")
    with Replay(log, image) as replay:
        replay.to(last_before(log))
    found = image.read_bytes()
    assert len(found) == len(expected)
    different = [
        at // BLOCK
        for at in range(0, len(found), BLOCK)
        if found[at : at + BLOCK] != expected[at : at + BLOCK]
    ]
    assert different == []
    image.unlink()


def work(place: Path, name: str) -> None:
    """Do what programs do: files, directories, flushes, removals."""
    chance = random.Random(name)
    for number in range(12):
        folder = place / f"{name}-{number % 4}"
        folder.mkdir(exist_ok=True)
        with (folder / f"file-{number}").open("wb") as file:
            file.write(chance.randbytes(chance.choice([200, 9000, 300_000])))
            file.flush()
            if number % 3 == 0:
                os.fsync(file.fileno())
        if number % 5 == 4:
            (folder / f"file-{number}").unlink()
    os.sync()


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_a_log_is_a_file_system_at_every_flush(rig: FaultRig, log: Path, fstype: str) -> None:
    lun = rig.lun(64 * MIB)
    record(rig, lun, log)
    make = ("mkfs.ext4", "-q") if fstype == "ext4" else ("mkfs.xfs", "-q", "--unsupported")
    with rig.rig.loop(lun) as device:
        run(*make, device.path)
        rig.call(faults.mark_writes, lun, "made")
        with rig.rig.mounted(device, fstype) as place:
            run("fstrim", place)
            work(place, "before")
            # What was recorded before a kill, and what after it, is one log.
            rig.rig.restart()
            work(place, "after")
            (place / "marked").write_bytes(b"marked")
            os.sync()
            rig.call(faults.mark_writes, lun, "marked")
            (place / "marked").unlink()
            work(place, "end")
        count = rig.call(faults.stop_writes, lun)
        expected = whole(device)
    entries = entries_of(log)
    assert len(entries) == count
    assert {entry.kind for entry in entries} == set(EntryKind)
    assert_replays_to(log, expected)

    made = last_before(log, mark="made")
    flushes = [e.number for e in entries if e.kind is EntryKind.FLUSH and e.number > made]
    points = random.Random(1).sample(flushes, min(POINTS, len(flushes)))
    image, copy = log.with_name("image"), log.with_name("copy")
    with Replay(log, image) as replay:
        for point in sorted({*points, made, last_before(log, mark="marked")}):
            replay.to(point)
            run("cp", "--sparse=always", image, copy)
            check(copy, fstype)
            if point == last_before(log, mark="marked"):
                assert (log.parent / "found").read_bytes() == b"marked"


def check(image: Path, fstype: str) -> None:
    """Mount a copy, as after a crash, keep what is marked, and look it over."""
    place = image.with_name("mounted")
    place.mkdir(exist_ok=True)
    run("mount", "-o", "loop", "-t", fstype, image, place)
    try:
        if (place / "marked").exists():
            shutil.copy(place / "marked", image.with_name("found"))
    finally:
        run("umount", place)
    run(*(("e2fsck", "-fn") if fstype == "ext4" else ("xfs_repair", "-n", "-f")), image)


def test_raw_writes_discards_and_flushes_stand_in_the_log_as_they_were_done(
    rig: FaultRig, log: Path
) -> None:
    lun = rig.lun(8 * MIB)
    with rig.rig.loop(lun) as device:
        write(device, 0, b"x" * 2 * MIB)
        shutil.copyfile(device.path, log.with_name("image"))
        record(rig, lun, log)
        write(device, 5, b"a" * 2 * BLOCK)
        run("blkdiscard", "-o", "16384", "-l", "8192", device.path)
        flush(device)
        read(device, 0)
        assert rig.call(faults.mark_writes, lun, "here") >= 4
        # That asks again, as when an answer was lost.
        record(rig, lun, log)
        (status,) = rig.call(faults.list_recordings)
        assert (status.lun, status.log, status.failed) == (lun, str(log), None)
        rig.call(faults.stop_writes, lun)
        write(device, 7, b"z" * BLOCK)
        entries = entries_of(log)
        kinds = [kind for kind, _ in itertools.groupby(entry.kind for entry in entries)]
        assert kinds[:3] == [EntryKind.WRITE, EntryKind.ZERO, EntryKind.FLUSH]
        first, second = entries[:2]
        assert (first.offset, first.length) == (5 * BLOCK, 2 * BLOCK)
        assert (second.offset, second.length) == (4 * BLOCK, 2 * BLOCK)
        (flushed,) = [entry for entry in entries if entry.kind is EntryKind.FLUSH][-1:]
        assert flushed.covers is not None
        assert flushed.covers >= 2
        expected = bytearray(whole(device))
        expected[7 * BLOCK : 8 * BLOCK] = b"x" * BLOCK
    assert_replays_to(log, bytes(expected))


def test_a_write_that_failed_is_not_in_the_log(rig: FaultRig, log: Path) -> None:
    lun = rig.lun()
    with rig.rig.loop(lun) as device:
        record(rig, lun, log)
        rig.fault(lun, LunFaultKind.WRITE_ERROR, "8-15")
        with pytest.raises(OSError, match="Input/output error"):
            write(device, 1, b"a" * BLOCK)
        write(device, 2, b"b" * BLOCK)
        rig.clear(lun)
        rig.call(faults.stop_writes, lun)
    assert [e.offset for e in entries_of(log) if e.kind is EntryKind.WRITE] == [2 * BLOCK]


def test_a_snapshot_has_a_log_of_its_own(rig: FaultRig, log: Path) -> None:
    lun = rig.lun()
    with rig.rig.loop(lun) as device:
        write(device, 0, b"o" * BLOCK)
        snapshot = rig.snapshot(lun)
        record(rig, snapshot, log)
        write(device, 0, b"n" * BLOCK)
        with rig.rig.loop(snapshot) as copy:
            write(copy, 3, b"c" * BLOCK)
        rig.call(faults.stop_writes, snapshot)
    assert [e.offset for e in entries_of(log) if e.kind is EntryKind.WRITE] == [3 * BLOCK]


def test_a_log_that_finds_no_room_ends_and_the_lun_goes_on(rig: FaultRig, log: Path) -> None:
    lun = rig.lun()
    small = log.parent / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small)
    try:
        with rig.rig.loop(lun) as device:
            record(rig, lun, small / "log")
            for number in range(3):
                write(device, number * 128, bytes([number + 1]) * (MIB // 2))
            assert read(device, 256) == b"\3" * BLOCK
            (status,) = rig.call(faults.list_recordings)
            assert "No space left" in (status.failed or "")
            with pytest.raises(Fail, match="No space left"):
                rig.call(faults.mark_writes, lun, "late")
            assert len(entries_of(small / "log")) == status.entries >= 1
            rig.call(faults.stop_writes, lun)
            record(rig, lun, log)
            rig.call(faults.stop_writes, lun)
    finally:
        run("umount", small)


def test_places_and_states_that_do_not_fit_are_refused(rig: FaultRig, log: Path) -> None:
    lun = rig.lun()
    with pytest.raises(InvalidArgument, match="lies in the pool"):
        record(rig, lun, rig.pool / lun / "log")
    with pytest.raises(InvalidArgument, match="absolute"):
        record(rig, lun, Path("log"))
    with pytest.raises(Fail, match="No such file"):
        record(rig, lun, log.parent / "nowhere" / "log")
    with pytest.raises(BadState, match="not recorded"):
        rig.call(faults.stop_writes, lun)
    log.touch()
    with pytest.raises(Fail, match="File exists"):
        record(rig, lun, log)
    log.unlink()
    record(rig, lun, log)
    with pytest.raises(BadState, match="are recorded in"):
        record(rig, lun, log.with_name("other"))
    assert rig.call(faults.stop_writes, lun) == 0
