"""Power losses of a chain without FUSE: what is left of its blocks, and of its snapshots.

Each round writes, flushes and takes snapshots, leaves requests under way, and loses the power.
A block then has a content that it had since the last flush; what a snapshot showed when it was
settled, it shows.
"""

import copy
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.lunfs.chains import Driver, directory, wait
from vssemu.linux.aio import Io, Rooms
from vssemu.stores.format import store_length
from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.faults import volatile
from vssemu_fuse.lunfs.faults.power import PoweredView, Supply
from vssemu_fuse.lunfs.faults.volatile import Power, VolatileDisk
from vssemu_fuse.lunfs.io.buffers import aligned
from vssemu_fuse.lunfs.io.disk import FileDisk
from vssemu_fuse.lunfs.io.work import Gate, Operation

BLOCK = 4096
BLOCKS = 256
CHUNK = 4 * BLOCK
SIZE = BLOCKS * BLOCK
STORE = store_length(SIZE // CHUNK, CHUNK)


class Powered:
    """A chain at a supply, and what each block of its origin may be after a loss."""

    def __init__(self, driver: Driver, seed: int) -> None:
        self.driver = driver
        self.chance = random.Random(seed)
        self.supply = Supply()
        self.supply.plug_all(driver.chain, lambda node: node.lun)
        self.view = PoweredView(driver.view("origin"), self.supply)
        self.possible = [{0} for _ in range(BLOCKS)]
        self.stamp = 0
        self.snapshots: dict[str, bytes] = {}
        self.under_way = 0
        self.removed: list[str] = []
        self.ended: list[Any] = []

    def _stamped(self, count: int) -> tuple[int, int, memoryview]:
        first = self.chance.randrange(BLOCKS - count)
        self.stamp = self.stamp % 255 + 1
        room = aligned(count * BLOCK)
        room[:] = bytes([self.stamp]) * len(room)
        return first, self.stamp, room

    def write(self) -> None:
        count = self.chance.choice([1, 1, 2, 4, 8, 16])
        first, stamp, room = self._stamped(count)
        for block in range(first, first + count):
            self.possible[block].add(stamp)
        wait(self.driver.worker, self.view.write(room, first * BLOCK))

    def zero(self) -> None:
        count = self.chance.choice([4, 8, 16])
        first = self.chance.randrange(BLOCKS - count)
        for block in range(first, first + count):
            self.possible[block].add(0)
        wait(self.driver.worker, self.view.zero(first * BLOCK, count * BLOCK))

    def flush(self) -> None:
        wait(self.driver.worker, self.view.flush())
        now = self.now("origin")
        self.possible = [{now[block * BLOCK]} for block in range(BLOCKS)]

    def snapshot(self) -> None:
        name = f"snapshot{len(self.snapshots) + len(self.removed)}"
        self.driver.snapshot(name, store=STORE)
        self.supply.plug_all(self.driver.chain, lambda node: node.lun)
        wait(self.driver.worker, self.driver.chain.settle(LunId(name)))
        self.snapshots[name] = self.now(name)
        now = self.now("origin")
        self.possible = [{now[block * BLOCK]} for block in range(BLOCKS)]

    def leave_under_way(self) -> None:
        """Begin writes of which nobody waits for the end."""

        def done(_result: Any) -> None:
            self.under_way -= 1

        for _ in range(self.chance.randrange(12)):
            count = self.chance.choice([1, 4, 9])
            first, stamp, room = self._stamped(count)
            for block in range(first, first + count):
                self.possible[block].add(stamp)
            self.under_way += 1
            self.driver.worker.run(self.view.write(room, first * BLOCK), done)
        for _ in range(self.chance.randrange(12)):
            self.driver.worker.turn()

    def remove_under_way(self) -> None:
        """Begin to remove a snapshot, whichever of it is done before the power goes."""
        name = self.chance.choice(list(self.snapshots))
        self.removed.append(name)
        del self.snapshots[name]
        self.driver.worker.run(self.driver.chain.remove(LunId(name)), self.ended.append)
        for _ in range(self.chance.randrange(30)):
            self.driver.worker.turn()

    def remove_again(self) -> None:
        """Remove what the power loss kept."""
        assert len(self.ended) == len(self.removed), "a removal outlives the power"
        for name in self.removed:
            wait(self.driver.worker, self.driver.chain.remove(LunId(name)))

    def lose(self) -> int:
        lost = wait(
            self.driver.worker,
            self.supply.lose(self.driver.chain, self.chance.getrandbits(32)),
        )
        assert self.under_way == 0, "a request outlives the power"
        with pytest.raises(OSError, match="power is off"):
            wait(self.driver.worker, self.view.read(aligned(BLOCK), 0))
        wait(self.driver.worker, self.supply.come_back(self.driver.chain))
        return lost.lost  # type: ignore[attr-defined,no-any-return]

    def check(self) -> None:
        now = self.now("origin")
        for block, possible in enumerate(self.possible):
            content = now[block * BLOCK : (block + 1) * BLOCK]
            assert len(set(content)) == 1, f"block {block} is torn"
            assert content[0] in possible, f"block {block}: {content[0]}, not of {possible}"
        self.possible = [{now[block * BLOCK]} for block in range(BLOCKS)]
        for name, expected in self.snapshots.items():
            assert self.now(name) == expected, f"{name} has changed"

    def now(self, name: str) -> bytes:
        return self.driver.whole(name)


@pytest.fixture
def driver() -> Iterator[Driver]:
    with directory() as path:
        made = Driver(path, SIZE, chunk_size=CHUNK)
        yield made
        made.close()


@pytest.mark.parametrize("seed", range(6))
def test_power_losses_take_only_what_was_not_flushed(driver: Driver, seed: int) -> None:
    powered = Powered(driver, seed)
    lost = 0
    for number in range(10):
        for _ in range(powered.chance.randrange(15)):
            powered.chance.choice([powered.write, powered.write, powered.zero, powered.flush])()
        if number in {1, 3, 5, 7}:
            powered.snapshot()
        powered.leave_under_way()
        if number in {4, 6, 8}:
            powered.remove_under_way()
        lost += powered.lose()
        powered.check()
        powered.remove_again()
        powered.check()
    assert lost, "no power loss took anything"


def test_a_flush_of_one_disk_leaves_the_others_volatile(driver: Driver) -> None:
    driver.snapshot("snapshot", store=STORE)
    supply = Supply()
    supply.plug_all(driver.chain, lambda node: node.lun)
    origin, snapshot = (driver.chain.node(LunId(name)).disk for name in ("origin", "snapshot"))
    room = aligned(BLOCK)
    room[:] = b"x" * BLOCK
    wait(driver.worker, origin.write(room, 0))
    wait(driver.worker, snapshot.write(room, STORE - BLOCK))
    assert supply.pending == 2 * BLOCK
    wait(driver.worker, origin.flush())
    assert supply.pending == BLOCK


class Late(FileDisk):
    """A disk whose writes and flushes begin when they are let go."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.gate = Gate()

    def write(self, rooms: Rooms, offset: int) -> Any:
        return self._late(super().write(rooms, offset))

    def flush(self) -> Any:
        return self._late(super().flush())

    def _late(self, work: Io) -> Operation[int]:
        yield self.gate
        done: int = yield work
        return done


@pytest.fixture
def late(driver: Driver) -> Late:
    return Late.open(driver.path / "origin")  # type: ignore[return-value]


def turn(driver: Driver) -> None:
    """Do what can be done before somebody is let go."""
    wait(driver.worker, driver.chain.node(LunId("origin")).disk.flush())


def until(driver: Driver, results: list[Any], count: int) -> None:
    """Have so many requests answered."""
    deadline = time.monotonic() + 10
    while len(results) < count:
        driver.worker.turn()
        assert time.monotonic() < deadline


def contents(disk: VolatileDisk) -> set[int]:
    """Return what a block may be after losses that took it."""
    found: set[int] = set()
    for seed in range(40):
        history = copy.deepcopy(disk.history)
        found.update(one.content[0] if one.content else 0 for one in history.lose(seed))
    return found


def test_writes_to_one_block_at_once_are_done_one_after_the_other(
    driver: Driver, late: Late
) -> None:
    disk = VolatileDisk(late, "late", Power())
    results: list[Any] = []
    for value in (1, 2):
        room = aligned(BLOCK)
        room[:] = bytes([value]) * BLOCK
        driver.worker.run(disk.write(room, 0), results.append)
    turn(driver)
    late.gate.open()
    until(driver, results, 1)
    turn(driver)
    assert results == [BLOCK], "the second did not wait for the first"
    late.gate.open()
    until(driver, results, 2)
    assert results == [BLOCK, BLOCK]
    assert driver.read("origin", BLOCK, 0) == b"\2" * BLOCK
    assert contents(disk) == {0, 1}
    late.close()


def test_a_flush_does_not_cover_what_was_done_after_it_was_asked_for(
    driver: Driver, late: Late
) -> None:
    disk = VolatileDisk(late, "late", power := Power())
    room = aligned(BLOCK)
    room[:] = b"\1" * BLOCK
    results: list[Any] = []
    driver.worker.run(disk.flush(), results.append)
    turn(driver)
    flushing, late.gate = late.gate, Gate()
    driver.worker.run(disk.write(room, 0), results.append)
    turn(driver)
    late.gate.open()
    until(driver, results, 1)
    flushing.open()
    until(driver, results, 2)
    assert results == [BLOCK, None]
    assert power.pending == BLOCK
    late.close()


def test_a_discard_is_lost_unless_it_is_a_large_one(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    supply = Supply()
    supply.plug_all(driver.chain, lambda node: node.lun)
    driver.write("origin", b"x" * SIZE, 0)
    wait(driver.worker, driver.view("origin").flush())
    driver.zero("origin", 0, SIZE // 2)
    assert supply.pending == SIZE // 2
    seen = set()
    for seed in range(6):
        wait(driver.worker, supply.lose(driver.chain, seed))
        wait(driver.worker, supply.come_back(driver.chain))
        seen.add(driver.whole("origin").count(0))
        driver.zero("origin", 0, SIZE // 2)
    assert len(seen) > 2
    driver.write("origin", b"x" * SIZE, 0)
    wait(driver.worker, driver.view("origin").flush())
    monkeypatch.setattr(volatile, "LARGEST_DISCARD", SIZE // 2 - 1)
    driver.zero("origin", 0, SIZE // 2)
    assert supply.pending == 0
