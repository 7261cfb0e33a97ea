"""A power loss at any moment of what is rare: a snapshot's first copy, and its end.

`VSSEMU_LOSSES` (12): how many moments.
"""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.rig.lunfs.chains import Driver, directory, wait
from tests.rig.lunfs.chaosdisk import BLOCK
from tests.rig.lunfs.ordeal import ORIGIN, Ordeal
from vssemu.stores.format import store_length
from vssemu.vss.identity import LunId

FIRST, SECOND = LunId("snapshot0"), LunId("snapshot1")
SEEDS = range(int(os.environ.get("VSSEMU_LOSSES", "12")))
TORN = (9, 13, 14)
"""Seeds that leave a later area of a table and not the end of an earlier one."""
CHUNKS = 8


@contextmanager
def written(order: random.Random) -> Iterator[Ordeal]:
    """An origin whose blocks all have durable values, and a durable snapshot of it."""
    with directory() as path:
        ordeal = Ordeal(path, chunk_size=BLOCK, chunks=4, power=True)
        ordeal.write(ORIGIN, 0, 4)
        ordeal.drain(order)
        ordeal.flush(ORIGIN)
        ordeal.snapshot(ORIGIN)
        ordeal.drain(order)
        ordeal.settle(FIRST)
        ordeal.drain(order)
        yield ordeal
        ordeal.close()


def _lose(ordeal: Ordeal, order: random.Random, *, within: int = 60) -> None:
    """Lose power after some steps, and look at everything."""
    for _ in range(order.randrange(within)):
        ordeal.step(order)
    ordeal.lose_power(order)
    ordeal.drain(order)


@pytest.mark.parametrize("is_full", [True, False])
def test_a_snapshot_that_ends_is_never_believed(is_full: bool) -> None:
    for seed in SEEDS:
        order = random.Random(seed)
        with written(order) as ordeal:
            ordeal.fail(FIRST, failures=0 if is_full else 2)
            ordeal.write(ORIGIN, 1, 1)
            while (node := ordeal.chain.node(FIRST)).valid and node.ending is None:
                ordeal.step(order)
            # This one wants no copy if the snapshot is invalid: but is it, on the disk?
            ordeal.write(ORIGIN, 2, 1)
            _lose(ordeal, order, within=12)


def test_what_a_new_snapshot_keeps_for_an_elder_is_not_lost_with_it() -> None:
    for seed in SEEDS:
        order = random.Random(seed)
        with written(order) as ordeal:
            ordeal.snapshot(ORIGIN)
            ordeal.drain(order)
            ordeal.write(ORIGIN, 1, 2)
            _lose(ordeal, order)


def test_what_is_handed_down_is_there_when_the_record_says_so() -> None:
    for seed in SEEDS:
        order = random.Random(seed)
        with written(order) as ordeal:
            ordeal.snapshot(ORIGIN)
            ordeal.drain(order)
            ordeal.write(ORIGIN, 1, 2)
            ordeal.drain(order)
            ordeal.remove(SECOND)
            ordeal.write(ORIGIN, 0, 2)
            _lose(ordeal, order)


@contextmanager
def large(order: random.Random) -> Iterator[Ordeal]:
    """An origin of 600 chunks, whose tables have three areas and more."""
    with directory() as path:
        ordeal = Ordeal(path, chunk_size=BLOCK, chunks=600, power=True, batch=512)
        ordeal.write(ORIGIN, 0, 600)
        ordeal.drain(order)
        ordeal.flush(ORIGIN)
        ordeal.drain(order)
        yield ordeal
        ordeal.close()


def test_the_end_of_a_torn_table_does_not_come_to_life() -> None:
    for seed in (*TORN, *SEEDS[: len(SEEDS) // 3]):
        order = random.Random(seed)
        with large(order) as ordeal:
            ordeal.snapshot(ORIGIN)
            ordeal.drain(order)
            ordeal.settle(FIRST)
            ordeal.drain(order)
            # One commit of entries in three areas, interrupted; then one that fills the first.
            ordeal.write(ORIGIN, 0, 520)
            for _ in range(order.randrange(10, 40)):
                ordeal.step(order)
            ordeal.lose_power(order)
            ordeal.write(ORIGIN, 300, 256)
            ordeal.drain(order)
            ordeal.kill(order)
            ordeal.drain(order)


def test_what_was_handed_to_an_elder_that_ends_goes_to_the_next() -> None:
    order = random.Random(0)
    with large(order) as ordeal:
        ordeal.snapshot(ORIGIN)
        ordeal.drain(order)
        ordeal.snapshot(ORIGIN, room=550)
        ordeal.drain(order)
        ordeal.snapshot(ORIGIN)
        ordeal.drain(order)
        ordeal.write(ORIGIN, 0, 600)
        ordeal.drain(order)
        ordeal.remove(LunId("snapshot2"))
        ordeal.drain(order)
        assert not ordeal.chain.node(SECOND).valid
        assert ordeal.luns() == [FIRST, ORIGIN]


def test_chunks_that_a_crash_left_do_not_show_where_zeroes_are_kept() -> None:
    """Zeroes are not written to chunks that were never used, so these must be holes."""
    with directory() as path:
        driver = Driver(path, CHUNKS * BLOCK, chunk_size=BLOCK)
        driver.snapshot("snapshot", store=store_length(CHUNKS, BLOCK))
        driver.write("origin", b"\1" * BLOCK, 0)
        with (path / "snapshot").open("r+b") as store:
            store.seek(3 * BLOCK)
            store.write(b"\2" * CHUNKS * BLOCK)
        wait(driver.worker, driver.chain.reload())
        driver.write("origin", b"\3" * (CHUNKS - 1) * BLOCK, BLOCK)
        assert driver.whole("snapshot") == bytes(CHUNKS * BLOCK)
        driver.close()
