"""Stores that run full under load: their snapshots end, and nobody else notices."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig.lunfs.faultrig import FaultRig, fault_rig
from tests.rig.lunfs.lunfsrig import MIB, wait_until
from tests.rig.lunfs.stampload import StampLoad, Target, at_rest, digest, read_view
from tests.rig.lunfs.stamps import Clock, History, judge
from vssemu.api import shard as api
from vssemu.vss.engine import CopyPair
from vssemu.vss.identity import LunId

SIZE = 16 * MIB


@pytest.fixture
def one(directory: Path) -> Iterator[FaultRig]:
    with fault_rig(directory, 512 * MIB) as made:
        yield made


class Loaded:
    """An origin all of whose blocks are there, under load."""

    def __init__(self, rig: FaultRig) -> None:
        self.rig = rig
        self.origin = rig.lun(SIZE)
        self.clock = Clock()
        self.history = History(self.origin, SIZE)
        self._numbers = iter(range(100, 200))
        descriptor = rig.rig.open(self.origin)
        os.pwrite(descriptor, bytes(SIZE), 0)
        os.close(descriptor)

    @contextmanager
    def load(self) -> Iterator[StampLoad]:
        """Write during the block; no write may fail, and the origin is right afterwards."""
        path = Path(self.rig.rig.path(self.origin))
        # Without discards: an origin needs no room, whatever is written to it.
        load = StampLoad(self.clock, [Target(self.history, path)], depth=8, zeroes=0.0)
        with load.running():
            yield load
        wrong = judge([(self.history, read_view(path))], at_rest(self.clock)).wrong
        assert not wrong, wrong[:5]

    def snapshot(self, limit: int | None = None) -> LunId:
        pair = CopyPair(source=self.origin, target=LunId(f"naa.6{next(self._numbers):031x}"))
        self.rig.call(api.prepare, [pair], limit)
        self.rig.call(api.commit, [pair])
        self.rig.call(api.settle, [pair.target])
        return pair.target

    def sha256(self, name: LunId) -> str:
        return digest(read_view(Path(self.rig.rig.path(name))))

    def is_invalid(self, name: LunId) -> Callable[[], bool]:
        return lambda: name in self.rig.call(api.invalid)


def test_a_store_that_runs_full_ends_its_snapshot_alone(one: FaultRig) -> None:
    loaded = Loaded(one)
    with loaded.load() as load:
        elder = loaded.snapshot()
        first = loaded.sha256(elder)
        full = loaded.snapshot(limit=2 * MIB)
        younger = loaded.snapshot()
        second = loaded.sha256(younger)
        one.call(api.remove, younger)
        wait_until(loaded.is_invalid(full), "the snapshot ended")
        youngest = loaded.snapshot()
        third = loaded.sha256(youngest)
        assert loaded.sha256(elder) == first
        with pytest.raises(OSError, match="Input/output error"):
            loaded.sha256(full)
        writes = load.writes
        one.rig.restart()
        wait_until(lambda: load.writes > writes + 50, "the load goes on")
        assert loaded.sha256(elder) == first
        one.call(api.remove, full)
        assert (loaded.sha256(elder), loaded.sha256(youngest)) == (first, third)
    assert first != second
    assert one.call(api.invalid) == []


def test_a_pool_that_runs_full_ends_snapshots_and_fails_no_write(one: FaultRig) -> None:
    loaded = Loaded(one)
    filler = one.pool / "filler"
    with loaded.load() as load:
        snapshots = [loaded.snapshot() for _ in range(2)]
        with filler.open("wb") as file:
            room = os.fstatvfs(file.fileno())
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - 4 * MIB)
        for name in snapshots:
            wait_until(loaded.is_invalid(name), "the snapshot ended", 60)
        writes = load.writes
        wait_until(lambda: load.writes > writes + 100, "the load goes on")
        for name in snapshots:
            one.call(api.empty, name)
        again = loaded.snapshot()
        first = loaded.sha256(again)
        filler.unlink()
        wait_until(lambda: load.writes > writes + 300, "the load goes on")
        assert loaded.sha256(again) == first
        for name in snapshots:
            one.call(api.remove, name)
        assert loaded.sha256(again) == first
