"""Snapshots that come, are looked at and go while their origins are written and lunfs is killed.

Some origins are written by a `StampLoad`: their snapshots are judged by what was acknowledged.
Others by anybody: what their snapshots first showed is what they have to show ever after.
"""

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from tests.rig.lunfs.lunfsrig import LunfsRig
from tests.rig.lunfs.stampload import digest, read_view, room_for
from tests.rig.lunfs.stamps import BLOCK, Clock, Cut, History, Words, judge
from vssemu.api import shard as api
from vssemu.rpc.errors import RpcBroken, RpcClosed
from vssemu.rpc.interface import Method
from vssemu.vss.engine import CopyPair
from vssemu.vss.errors import BadState
from vssemu.vss.identity import LunId

P = ParamSpec("P")
R = TypeVar("R")

PATIENCE = 60.0
_SPOILT = 40
_BROKEN = (RpcBroken, RpcClosed, ConnectionError, FileNotFoundError)


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot, and the SHA-256 of what it first showed."""

    name: LunId
    source: LunId
    sha256: str


class ComeAndGo:
    """What is done to the snapshots of some origins of one shard.

    written: the histories of origins that a `StampLoad` writes; a set is taken of all of them at
    once. others: further origins. first: the numbers of its snapshots follow it.
    """

    def __init__(
        self,
        rig: LunfsRig,
        clock: Clock,
        written: dict[LunId, History],
        others: Sequence[LunId],
        *,
        shard: int = 0,
        seed: int = 1,
        first: int = 0x10000,
    ) -> None:
        self._rig, self._clock, self._shard = rig, clock, shard
        self._written, self._others = written, others
        self.chance = random.Random(seed)
        self._numbers = iter(range(first + 1, 1 << 40))
        self.on_commit: Callable[[], object] = lambda: None
        """Called when a set was taken, before anything else is done with it."""
        self.forgets = True
        """Whether what came before the last snapshot is not asked for any more."""
        self.kept: list[Kept] = []
        self.taken = self.looks = self.spoilt = self.removed = self.interrupted = 0

    def call(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method until it is answered: it may be asked for again."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self._rig.call(self._shard, method, *args, **kwargs)
            except _BROKEN:
                assert time.monotonic() < end, f"{method.name} is not answered"
            time.sleep(0.02)

    def step(self, most: int = 8) -> None:
        """Do one thing of chance. most: snapshots that there are at a time."""
        what = self.chance.random()
        if not self.kept or (what < 0.4 and len(self.kept) < most):
            self.take()
        elif what < 0.65:
            self.look(self.chance.choice(self.kept))
        elif what < 0.75:
            self.spoil(self.chance.choice(self.kept))
        else:
            self.remove(self.chance.choice(self.kept))

    def take(self) -> None:
        """Take a set of all origins, judge and keep it; one that was interrupted is given up."""
        sources = [*self._written, *self._others]
        pairs = [CopyPair(source=each, target=self._name()) for each in sources]
        targets = [pair.target for pair in pairs]
        self.call(api.prepare, pairs)
        asked = self._clock.now()
        try:
            self.call(api.commit, pairs)
        except BadState:
            self.interrupted += 1
            self.call(api.abort, targets)
            return
        cut = Cut(asked=asked, made=self._clock.now())
        self.on_commit()
        self.call(api.settle, targets)
        views = [self.view(target) for target in targets]
        stamped = [(h, view) for h, view in zip(self._written.values(), views, strict=False)]
        wrong = judge(stamped, cut).wrong if stamped else []
        assert not wrong, (targets, wrong[:5])
        if self.forgets:
            for history, _ in stamped:
                history.forget(cut.asked)
        self.kept += [
            Kept(pair.target, pair.source, digest(view))
            for pair, view in zip(pairs, views, strict=True)
        ]
        self.taken += len(pairs)

    def look(self, one: Kept) -> None:
        """See that a snapshot shows what it showed at first."""
        assert digest(self.view(one.name)) == one.sha256, f"{one.name} has changed"
        self.looks += 1

    def spoil(self, one: Kept) -> None:
        """Take a snapshot of a snapshot, write all over it: it holds that, the other nothing."""
        pair = CopyPair(source=one.name, target=LunId(f"{self._name()}.scratch"))
        self.call(api.prepare, [pair])
        self.call(api.commit, [pair])
        wanted = self.view(pair.target)
        assert digest(wanted) == one.sha256, f"{pair.target} is not {one.name}"
        descriptor = self._rig.open(pair.target, self._shard, os.O_RDWR | os.O_DIRECT)
        try:
            with room_for(_SPOILT) as (room, words), self._rig.guarded(PATIENCE):
                for _ in range(10):
                    count = self.chance.randrange(1, _SPOILT)
                    first = self.chance.randrange(len(wanted) - count)
                    words[:] = self.chance.getrandbits(64)
                    wanted[first : first + count] = words[:count]
                    done = os.pwritev(descriptor, [room[: count * BLOCK]], first * BLOCK)
                    assert done == count * BLOCK
        finally:
            os.close(descriptor)
        assert digest(self.view(pair.target)) == digest(wanted), f"{pair.target} has changed"
        self.look(one)
        self.call(api.remove, pair.target)
        self.spoilt += 1

    def remove(self, one: Kept) -> None:
        """Remove a snapshot, whichever it is in its chain."""
        self.kept.remove(one)
        self.call(api.remove, one.name)
        self.removed += 1

    def end(self) -> None:
        """Look at all snapshots that are there, remove them one by one, look at the rest."""
        for one in self.kept:
            self.look(one)
        while self.kept:
            self.remove(self.chance.choice(self.kept))
            for one in self.chance.sample(self.kept, min(2, len(self.kept))):
                self.look(one)

    def view(self, name: LunId) -> Words:
        """Read a view."""
        descriptor = self._rig.open(name, self._shard, os.O_RDONLY | os.O_DIRECT)
        try:
            with self._rig.guarded(PATIENCE):
                return read_view(descriptor)
        finally:
            os.close(descriptor)

    def _name(self) -> LunId:
        return LunId(f"naa.6{next(self._numbers):031x}")


@contextmanager
def killing(
    rig: LunfsRig, *, every: tuple[float, float], shards: Sequence[int] = (0,), seed: int = 1
) -> Iterator[list[int]]:
    """Kill shards at moments of chance during the block; gives the list of who was killed.

    every: seconds between two kills, from and to.
    """
    over, chance = threading.Event(), random.Random(seed)
    killed: list[int] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not over.wait(chance.uniform(*every)):
                shard = chance.choice(shards)
                rig.restart(shard)
                killed.append(shard)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join(PATIENCE)
        with contextlib.suppress(IndexError):
            raise failures[0]
