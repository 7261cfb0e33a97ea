"""Power losses of LUNs on loop devices: what is lost, when it comes back, what survives."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.lunfs.faultrig import FaultRig, fault_rig, flush, read, write
from tests.rig.lunfs.lunfsrig import BLOCK, wait_until
from tests.rig.lunfs.powerload import PowerLosses
from vssemu.api import lunfaults as faults
from vssemu.api.lunfaults import PowerStatus
from vssemu.vss.errors import BadState
from vssemu.vss.identity import LunId

OLD, NEW = b"o" * BLOCK, b"n" * BLOCK
BLOCKS = 64


@pytest.fixture(scope="module")
def rig() -> Iterator[FaultRig]:
    directory = Path(tempfile.mkdtemp(prefix="vssemu-power-", dir="/tmp"))
    try:
        with fault_rig(directory) as made:
            yield made
    finally:
        shutil.rmtree(directory)


def status(rig: FaultRig, lun: LunId) -> PowerStatus:
    return next(one for one in rig.call(faults.list_lun_power) if one.origin == lun)


def test_what_was_flushed_stays_and_the_rest_is_lost_by_a_seed(rig: FaultRig) -> None:
    kept = []
    for seed in (3, 3, 4):
        lun = rig.lun()
        with rig.rig.loop(lun) as device:
            write(device, 0, OLD * BLOCKS)
            rig.call(faults.set_volatile, lun, True)
            write(device, BLOCKS, OLD * BLOCKS)
            flush(device)
            assert status(rig, lun).pending == 0
            write(device, 0, NEW * BLOCKS)
            write(device, 2 * BLOCKS, NEW * BLOCKS)
            assert status(rig, lun).pending == 2 * BLOCKS * BLOCK
            loss = rig.call(faults.power_loss, lun, seed)
            for act in (lambda: read(device, 0), lambda: write(device, 0, NEW)):
                with pytest.raises(OSError, match="Input/output error"):
                    act()
            rig.call(faults.power_on, lun)
            assert read(device, BLOCKS, BLOCKS) == OLD * BLOCKS
            first, last = read(device, 0, BLOCKS), read(device, 2 * BLOCKS, BLOCKS)
        # Blocks are lost as a whole, some of one write and some not: it tears.
        assert {first[at : at + BLOCK] for at in range(0, len(first), BLOCK)} == {OLD, NEW}
        assert first.count(NEW) + last.count(NEW) == loss.blocks - loss.lost
        assert 0 < loss.lost < loss.blocks == 2 * BLOCKS
        kept.append(first + last)
    assert kept[0] == kept[1] != kept[2]


def test_power_comes_back_by_itself_and_stays_off_over_a_kill(rig: FaultRig) -> None:
    lun = rig.lun()
    with rig.rig.loop(lun) as device:
        rig.call(faults.set_volatile, lun, True)
        snapshot = rig.snapshot(lun)
        rig.call(faults.power_loss, lun, 1, None)
        rig.rig.restart()
        assert status(rig, lun).is_off
        with pytest.raises(OSError, match="Input/output error"):
            read(device, 0)
        with rig.rig.loop(snapshot, writable=False) as copy, pytest.raises(OSError, match="Input"):
            read(copy, 0)
        rig.call(faults.power_loss, snapshot, None, 0.3)
        rig.rig.restart()
        wait_until(lambda: not status(rig, lun).is_off, "the power comes back")
        write(device, 0, NEW)
        assert read(device, 0) == NEW
        assert status(rig, lun).is_volatile
        rig.call(faults.set_volatile, snapshot, False)
        assert all(one.origin != lun for one in rig.call(faults.list_lun_power))


def test_back_after_is_the_time_that_was_asked_for_last(rig: FaultRig) -> None:
    lun = rig.lun()
    rig.call(faults.set_volatile, lun, True)
    rig.call(faults.power_loss, lun, 1, 0.1)
    rig.call(faults.power_loss, lun, 1, None)
    time.sleep(0.3)
    assert status(rig, lun).is_off
    rig.call(faults.power_on, lun)
    assert not status(rig, lun).is_off
    assert status(rig, lun).losses == 1


def test_a_lun_that_is_not_volatile_cannot_lose_its_power(rig: FaultRig) -> None:
    lun = rig.lun()
    with pytest.raises(BadState, match="nothing that is written") as caught:
        rig.call(faults.power_loss, lun)
    assert "vssemu array fault volatile" in str(caught.value)
    rig.call(faults.set_volatile, lun, True)
    rig.call(faults.power_loss, lun)
    with pytest.raises(BadState, match="no power"):
        rig.call(faults.set_volatile, lun, False)
    rig.call(faults.power_on, lun)


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_a_file_system_survives_power_losses(rig: FaultRig, fstype: str) -> None:
    PowerLosses(rig, fstype, seed=7).run(5)
