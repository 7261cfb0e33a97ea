"""Files of the pool that somebody damaged: what is lost says so, the rest goes on."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig.lunfs.faultrig import FaultRig, fault_rig, read, write
from tests.rig.lunfs.lunfsrig import BLOCK, MIB
from vssemu.api import shard as api
from vssemu.stores.format import EXCEPTION
from vssemu.vss.engine import CopyPair
from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.shard.served import CHUNK_SIZE as CHUNK

OLD, MIDDLE, NEW = (letter * BLOCK for letter in (b"o", b"m", b"n"))


Scene = tuple[FaultRig, LunId, LunId, LunId]


@pytest.fixture(scope="module")
def one(module_directory: Path) -> Iterator[FaultRig]:
    with fault_rig(module_directory) as rig:
        yield rig


@pytest.fixture
def scene(one: FaultRig) -> Scene:
    """A LUN, its elder snapshot (`OLD` in block 0), and its younger one (`MIDDLE`)."""
    lun = one.lun()
    with one.rig.loop(lun) as device:
        write(device, 0, OLD)
        elder = one.snapshot(lun)
        write(device, 0, MIDDLE)
        younger = one.snapshot(lun)
        write(device, 0, NEW)
        write(device, 64, NEW)
    return one, lun, elder, younger


def restarted_after(rig: FaultRig, change: Callable[[], None]) -> None:
    """Change files while no lunfs runs."""
    with rig.rig.dead():
        change()


def first(rig: FaultRig, name: LunId) -> bytes | None:
    """Return block 0 of a view; None when it cannot be read."""
    descriptor = rig.rig.open(name, flags=os.O_RDONLY)
    try:
        return os.pread(descriptor, BLOCK, 0)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def overwrite(path: Path, offset: int, data: bytes) -> Callable[[], None]:
    def change() -> None:
        with path.open("r+b", buffering=0) as file:
            file.seek(offset)
            file.write(data)
            os.fsync(file.fileno())

    return change


DAMAGES = {
    "header": (0, b"nonsense"),
    "dangling": (CHUNK, EXCEPTION.pack(0, 1 << 40)),
    "twice": (CHUNK + EXCEPTION.size, EXCEPTION.pack(0, 3)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_store_ends_its_snapshot_and_the_elders_that_saw_through_it(
    scene: Scene, damage: tuple[int, bytes]
) -> None:
    rig, lun, elder, younger = scene
    restarted_after(rig, overwrite(rig.pool / younger / "store", *damage))
    assert first(rig, lun) == NEW
    assert first(rig, younger) is None
    assert first(rig, elder) is None
    assert f'"invalid_with_its_elders", "lun": "{younger}"' in rig.rig.log()
    with rig.rig.loop(lun) as device:
        write(device, 1, NEW)
        assert read(device, 1) == NEW
    rig.rig.restart()
    assert first(rig, elder) is None
    rig.call(api.remove, younger)
    rig.call(api.remove, elder)
    youngest = rig.snapshot(lun)
    assert first(rig, youngest) == NEW


@pytest.mark.parametrize("length", [100, 2 * CHUNK])
def test_a_store_that_was_cut_ends_its_snapshot_alone_if_it_is_the_eldest(
    scene: Scene, length: int
) -> None:
    rig, lun, elder, younger = scene
    restarted_after(rig, lambda: os.truncate(rig.pool / elder / "store", length))
    assert (first(rig, lun), first(rig, younger), first(rig, elder)) == (NEW, MIDDLE, None)


def test_a_record_that_cannot_be_read_keeps_no_other_lun_from_being_served(
    scene: Scene,
) -> None:
    rig, lun, *_ = scene
    other = rig.lun(4 * MIB)
    with rig.rig.loop(other) as device:
        write(device, 0, OLD)
    restarted_after(rig, overwrite(rig.pool / lun / "chain", 0, b"nonsense"))
    assert first(rig, other) == OLD
    lines = [line for line in rig.rig.log().splitlines() if "chain_not_served" in line]
    assert lun in lines[-1]


def test_a_restart_makes_durable_what_copies_rely_on(scene: Scene) -> None:
    """A snapshot that is not settled may be the only one with what its elders show."""
    rig, lun, *_ = scene
    pair = CopyPair(source=lun, target=LunId(f"naa.6{99:031x}"))
    rig.call(api.prepare, [pair])
    rig.call(api.commit, [pair])
    assert (rig.pool / lun / "chain.next").exists()
    rig.rig.restart()
    assert not (rig.pool / lun / "chain.next").exists()
    assert pair.target.encode() in (rig.pool / lun / "chain").read_bytes()
