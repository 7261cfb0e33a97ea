"""Faults of LUNs and snapshots, seen by programs on loop devices over a real shard."""

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.rig.lunfs.faultrig import (
    FaultRig,
    Started,
    failing_blocks,
    fault_rig,
    read,
    write,
)
from tests.rig.lunfs.lunfsrig import BLOCK, MIB, run, wait_until
from vssemu.api import lunfaults as faults
from vssemu.faults.luns import LunFaultKind
from vssemu.vss.errors import ObjectNotFound
from vssemu.vss.identity import LunId

OLD = b"o" * BLOCK
NEW = b"n" * BLOCK


@pytest.fixture(scope="module")
def rig() -> Iterator[FaultRig]:
    directory = Path(tempfile.mkdtemp(prefix="vssemu-faults-", dir="/tmp"))
    try:
        with fault_rig(directory) as made:
            yield made
    finally:
        shutil.rmtree(directory)


def test_reads_of_chosen_sectors_fail_until_it_is_cleared(rig: FaultRig) -> None:
    lun = rig.lun()
    with rig.rig.loop(lun) as device:
        write(device, 0, OLD * 4)
        rig.fault(lun, LunFaultKind.READ_ERROR, "15-16")
        assert failing_blocks(device, range(4)) == {1, 2}
        with pytest.raises(OSError, match="Input/output error"):
            read(device, 0, 4)
        write(device, 1, NEW)
        assert rig.met(lun) >= 3
        assert rig.clear(lun) == 1
        assert read(device, 0, 4) == OLD + NEW + OLD * 2


def test_writes_and_discards_that_fail_change_nothing(rig: FaultRig) -> None:
    lun = rig.lun()
    with rig.rig.loop(lun) as device:
        write(device, 0, OLD * 2)
        rig.fault(lun, LunFaultKind.WRITE_ERROR, "8-15", times=2)
        with pytest.raises(OSError, match="Input/output error"):
            write(device, 0, NEW * 2)
        said = run("blkdiscard", "-o", "4096", "-l", "4096", device.path, check=False)
        assert "Input/output error" in said
        assert read(device, 0, 2) == OLD * 2
        write(device, 0, NEW * 2)
        assert read(device, 0, 2) == NEW * 2
        rig.clear(lun)


def test_a_flush_fails_and_the_writes_stay(rig: FaultRig) -> None:
    lun = rig.lun()
    with rig.rig.loop(lun) as device:
        rig.fault(lun, LunFaultKind.FLUSH_ERROR, after=1, times=1)
        os.fsync(device.fd)
        with pytest.raises(OSError, match="Input/output error"):
            os.fsync(device.fd)
        os.fsync(device.fd)
        rig.clear(lun)


def test_a_fault_of_a_snapshot_is_the_snapshots_alone(rig: FaultRig) -> None:
    lun = rig.lun()
    with rig.rig.loop(lun) as device:
        write(device, 0, OLD * 2)
        snapshot = rig.snapshot(lun)
        write(device, 0, NEW)
        with rig.rig.loop(snapshot, writable=False) as copy:
            rig.fault(snapshot, LunFaultKind.READ_ERROR, "0-7")
            assert failing_blocks(copy, range(2)) == {0}
            assert failing_blocks(device, range(2)) == set()
            rig.fault(lun, LunFaultKind.READ_ERROR)
            rig.clear(snapshot)
            # What a snapshot passes through to is not what users of the origin are served.
            assert failing_blocks(copy, range(2)) == set()
            assert failing_blocks(device, range(2)) == {0, 1}
            rig.clear(lun)
            assert read(copy, 0, 2) == OLD * 2


def test_delayed_requests_stop_nobody_else(rig: FaultRig) -> None:
    slow, other = rig.lun(), rig.lun()
    with rig.rig.loop(slow) as device, rig.rig.loop(other) as free:
        rig.fault(slow, LunFaultKind.LATENCY, seconds=0.5, times=40)
        begin = time.monotonic()
        started = Started([partial(read, device, block) for block in range(40)])
        wait_until(lambda: rig.met(slow) == 40, "all requests are delayed at once")
        assert read(free, 0) == bytes(BLOCK)
        assert started.results == []
        assert started.wait() == [bytes(BLOCK)] * 40
        assert time.monotonic() - begin >= 0.5
        rig.clear(slow)


def test_stuck_requests_wait_until_they_are_released(rig: FaultRig) -> None:
    lun, other = rig.lun(), rig.lun()
    with rig.rig.loop(lun) as device, rig.rig.loop(other) as free:
        rig.fault(lun, LunFaultKind.STUCK)
        # More than a shard has places for at first.
        started = Started([partial(write, device, block, NEW) for block in range(64)])
        wait_until(lambda: rig.standing(lun) == 64, "all requests are stuck")
        write(free, 0, OLD)
        assert read(free, 0) == OLD
        assert started.results == []
        assert rig.call(faults.release_lun, lun) == 64
        assert started.wait() == [None] * 64
        assert rig.call(faults.release_lun, lun) == 0
        again = Started([lambda: read(device, 0)])
        wait_until(lambda: rig.standing(lun) == 1, "later requests are stuck again")
        assert rig.clear(lun) == 1
        assert again.wait() == [NEW]


def test_a_stuck_request_is_stuck_again_after_a_kill(rig: FaultRig) -> None:
    lun = rig.lun()
    with rig.rig.loop(lun) as device:
        rig.fault(lun, LunFaultKind.STUCK, "0-7", times=1)
        started = Started([lambda: write(device, 0, NEW)])
        wait_until(lambda: rig.standing(lun) == 1, "the request is stuck")
        # What is kept is written anew while it stands.
        rig.fault(lun, LunFaultKind.READ_ERROR, "80-87")
        rig.rig.restart()
        wait_until(lambda: rig.standing(lun) == 1, "the request was sent again")
        assert started.results == []
        assert rig.call(faults.release_lun, lun) == 1
        assert started.wait() == [None]
        # It was the only one that was to be stuck, and the next lunfs knows.
        rig.rig.restart()
        assert read(device, 0) == NEW
        rig.clear(lun)


def test_a_seed_says_which_sectors_are_bad(rig: FaultRig) -> None:
    first, second = rig.lun(), rig.lun()
    blocks = list(range(200))
    found = []
    with rig.rig.loop(first) as one, rig.rig.loop(second) as two:
        for lun, device in ((first, one), (second, two)):
            rig.fault(lun, LunFaultKind.READ_ERROR, probability=0.02, seed=42)
            random.Random(lun).shuffle(blocks)
            found.append(failing_blocks(device, blocks))
        rig.rig.restart()
        found.append(failing_blocks(one, blocks))
        rig.clear(first)
        rig.fault(first, LunFaultKind.READ_ERROR, probability=0.02, seed=43)
        other = failing_blocks(one, blocks)
        rig.clear()
    assert found[0] == found[1] == found[2]
    assert 10 < len(found[0]) < 100
    assert other != found[0]


def test_counts_outlive_a_kill(rig: FaultRig) -> None:
    lun = rig.lun()
    with rig.rig.loop(lun) as device:
        rig.fault(lun, LunFaultKind.READ_ERROR, after=3, times=2)
        assert failing_blocks(device, range(2)) == set()
        rig.rig.restart()
        assert failing_blocks(device, range(10)) == {1, 2}
        assert rig.met(lun) == 2
        rig.clear(lun)


def test_an_equal_fault_is_no_second_one_unless_it_is_over(rig: FaultRig) -> None:
    lun = rig.lun()
    with rig.rig.loop(lun) as device:
        for _ in range(2):
            rig.fault(lun, LunFaultKind.READ_ERROR, seed=1, times=1)
        assert failing_blocks(device, range(3)) == {0}
        rig.fault(lun, LunFaultKind.READ_ERROR, seed=1, times=1)
        assert failing_blocks(device, range(3)) == {0}
        rig.fault(lun, LunFaultKind.WRITE_ERROR, seed=1)
        assert rig.clear(lun) == 2


def test_a_file_system_that_meets_errors_is_told_and_is_whole_afterwards(rig: FaultRig) -> None:
    lun = rig.lun(64 * MIB)
    with rig.rig.loop(lun) as device:
        run("mkfs.ext4", "-q", device.path)
        with rig.rig.mounted(device) as place:
            file = place / "file"
            file.write_bytes(b"x" * MIB)
            os.sync()
            rig.fault(lun, LunFaultKind.FLUSH_ERROR, times=1)
            with file.open("r+b", buffering=0) as changed:
                changed.write(b"y")
                with pytest.raises(OSError, match=r"Input/output error|Read-only"):
                    os.fsync(changed.fileno())
            rig.clear(lun)
        run("e2fsck", "-fp", device.path, check=False)
        assert "clean" in run("e2fsck", "-n", device.path)


def test_a_lun_that_is_not_there_has_no_faults(rig: FaultRig) -> None:
    nowhere = LunId("naa.6" + "f" * 31)
    with pytest.raises(ObjectNotFound, match=nowhere):
        rig.fault(nowhere, LunFaultKind.STUCK)
    with pytest.raises(ObjectNotFound, match=nowhere):
        rig.call(faults.release_lun, nowhere)
    with pytest.raises(ObjectNotFound, match=nowhere):
        rig.call(faults.power_on, nowhere)
