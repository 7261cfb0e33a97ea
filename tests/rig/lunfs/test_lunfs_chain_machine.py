"""Chains against a model, in any order of things (hypothesis).

VSSEMU_CHAIN_EXAMPLES: how many runs; some hundreds take minutes.
"""

import os
import random
from contextlib import ExitStack

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.rig.lunfs.chains import directory
from tests.rig.lunfs.chaosdisk import BLOCK
from tests.rig.lunfs.ordeal import ORIGIN, Ordeal
from vssemu.vss.identity import LunId

EXAMPLES = int(os.environ.get("VSSEMU_CHAIN_EXAMPLES", "25"))
SEEDS = st.integers(0, 2**32 - 1)
MOST_NODES = 7


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()

    @initialize(
        chunk_size=st.sampled_from([BLOCK, BLOCK, 2 * BLOCK, 4 * BLOCK]),
        chunks=st.sampled_from([4, 12]),
        power=st.booleans(),
    )
    def begin(self, chunk_size: int, chunks: int, power: bool) -> None:
        path = self.stack.enter_context(directory())
        self.ordeal = Ordeal(path, chunk_size=chunk_size, chunks=chunks, power=power)
        self.stack.callback(self.ordeal.close)

    def _lun(self, pick: int, *, snapshot: bool = False) -> LunId | None:
        luns = self.ordeal.luns()
        if snapshot:
            luns.remove(ORIGIN)
        return luns[pick % len(luns)] if luns else None

    def _range(self, first: int, count: int) -> tuple[int, int]:
        first %= self.ordeal.blocks
        return first, min(count, self.ordeal.blocks - first)

    @rule(requests=st.lists(st.tuples(SEEDS, st.integers(0, 63), st.integers(1, 9)), max_size=6))
    def write(self, requests: list[tuple[int, int, int]]) -> None:
        for pick, first, count in requests:
            lun = self._lun(pick)
            assert lun is not None
            self.ordeal.write(lun, *self._range(first, count))

    @rule(first=st.integers(0, 63), count=st.integers(1, 9))
    def write_origin(self, first: int, count: int) -> None:
        self.ordeal.write(ORIGIN, *self._range(first, count))

    @rule(pick=SEEDS, first=st.integers(0, 63), count=st.integers(1, 48))
    def zero(self, pick: int, first: int, count: int) -> None:
        lun = self._lun(pick)
        assert lun is not None
        self.ordeal.zero(lun, *self._range(first, count))

    @rule(pick=SEEDS, first=st.integers(0, 63), count=st.integers(1, 48))
    def read(self, pick: int, first: int, count: int) -> None:
        lun = self._lun(pick)
        assert lun is not None
        self.ordeal.read(lun, *self._range(first, count))

    @rule(pick=SEEDS)
    def read_a_snapshot(self, pick: int) -> None:
        if lun := self._lun(pick, snapshot=True):
            self.ordeal.read(lun, 0, self.ordeal.blocks)

    @rule(pick=SEEDS)
    def flush(self, pick: int) -> None:
        lun = self._lun(pick)
        assert lun is not None
        self.ordeal.flush(lun)

    @rule(pick=SEEDS, room=st.sampled_from([None, None, None, 1, 3, 6]))
    def snapshot(self, pick: int, room: int | None) -> None:
        lun = self._lun(pick)
        assert lun is not None
        if len(self.ordeal.chain.luns) < MOST_NODES:
            self.ordeal.snapshot(lun, room=room)

    @rule()
    def snapshot_origin(self) -> None:
        if len(self.ordeal.chain.luns) < MOST_NODES:
            self.ordeal.snapshot(ORIGIN)

    @rule(pick=SEEDS)
    def settle(self, pick: int) -> None:
        if lun := self._lun(pick, snapshot=True):
            self.ordeal.settle(lun)

    @rule(pick=SEEDS, is_emptied=st.sampled_from([False, False, True]))
    def remove(self, pick: int, is_emptied: bool) -> None:
        if lun := self._lun(pick, snapshot=True):
            (self.ordeal.empty if is_emptied else self.ordeal.remove)(lun)

    @rule(pick=SEEDS)
    def remove_what_is_invalid(self, pick: int) -> None:
        ordeal = self.ordeal
        dead = [
            lun
            for lun in ordeal.chain.luns
            if not ordeal.chain.node(lun).valid and lun not in ordeal.leaving
        ]
        if dead:
            ordeal.remove(dead[pick % len(dead)])

    @rule(pick=SEEDS)
    def hold(self, pick: int) -> None:
        lun = self._lun(pick)
        assert lun is not None
        self.ordeal.hold(lun)

    @rule()
    def release(self) -> None:
        self.ordeal.release()

    @rule(pick=SEEDS, failures=st.sampled_from([0, 1, 2]))
    def fail(self, pick: int, failures: int) -> None:
        if lun := self._lun(pick, snapshot=True):
            self.ordeal.fail(lun, failures=failures)

    @rule(seed=SEEDS, steps=st.integers(1, 60))
    def go_on(self, seed: int, steps: int) -> None:
        order = random.Random(seed)
        for _ in range(steps):
            self.ordeal.step(order)

    @rule(seed=SEEDS)
    def drain(self, seed: int) -> None:
        self.ordeal.drain(random.Random(seed))

    @rule(seed=SEEDS)
    def kill(self, seed: int) -> None:
        self.ordeal.kill(random.Random(seed))

    @rule(seed=SEEDS)
    def lose_power(self, seed: int) -> None:
        if self.ordeal.power:
            self.ordeal.lose_power(random.Random(seed))
        else:
            self.ordeal.kill(random.Random(seed))

    @invariant()
    def is_right(self) -> None:
        if hasattr(self, "ordeal"):
            self.ordeal.check()

    def teardown(self) -> None:
        try:
            if hasattr(self, "ordeal"):
                self.ordeal.drain(random.Random(0))
        finally:
            self.stack.close()


TestChain = Machine.TestCase
TestChain.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
