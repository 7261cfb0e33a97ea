"""A chain in this process under everything at once, with the order of events chosen by a seed.

Writes, zeroings and reads of all views are in flight while snapshots of any node are taken and
removed, stores run full, and the process "dies": its chain is dropped with whatever was under
way, another one is loaded from the files, and requests without an answer are made again, as the
kernel does it. Each view has a history of its own; a snapshot's begins with what it first showed,
which is judged against the history of its source.
"""

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.rig.lunfs.shuffle import Scheduler, ShuffledDisk
from tests.rig.lunfs.stamps import BLOCK, WORDS, Clock, Cut, History, Words, judge, stamp
from vssemu.stores.format import store_length
from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.chain.chain import Chain, prepare_store
from vssemu_fuse.lunfs.chain.holding import Hold
from vssemu_fuse.lunfs.io.buffers import Scratch, aligned
from vssemu_fuse.lunfs.io.disk import FileDisk
from vssemu_fuse.lunfs.io.work import Worker

MIB = 1 << 20
LONGEST = 24
ORIGIN = LunId("origin")
HOLD_SECONDS = 600.0


@dataclass(slots=True)
class Lun:
    """A view, and what may be in it. base: it was read; may_end: its store has a limit."""

    name: LunId
    history: History
    cut: Cut | None = None
    source: History | None = None
    may_end: bool = False
    is_going: bool = False

    @property
    def is_known(self) -> bool:
        return self.cut is None


@dataclass(slots=True)
class Request:
    """A write, zeroing or read that was not answered yet. room: where its bytes are."""

    lun: Lun
    kind: str
    first: int
    count: int
    begun: int
    room: memoryview
    number: int = 0


@dataclass(slots=True)
class Seen:
    """What a storm has met; so that a test can see that it met it."""

    answers: dict[str, int] = field(default_factory=dict)

    def add(self, what: str) -> None:
        self.answers[what] = self.answers.get(what, 0) + 1


class Storm:
    """One origin with its snapshots below a directory, and what is done to them."""

    def __init__(
        self, directory: Path, seed: int, *, chunk_size: int, size: int = MIB, power: bool = True
    ) -> None:
        self.directory = directory
        self.chance = random.Random(seed)
        self.chunk_size = chunk_size
        self.power = power
        self.clock = Clock()
        self.seen = Seen()
        self.luns: dict[LunId, Lun] = {ORIGIN: Lun(ORIGIN, History("origin", size))}
        self.record: list[LunId] = []
        self.wrong: list[str] = []
        self._requests: dict[int, Request] = {}
        self._numbers = iter(range(1, 1 << 30))
        self._free = [aligned(LONGEST * BLOCK) for _ in range(16)]
        self._holds: set[Hold] = set()
        self._removing: set[LunId] = set()
        with self._path(ORIGIN).open("xb") as file:
            file.truncate(size)
        self._open()

    # --- the chain's life

    def _path(self, name: LunId) -> Path:
        return self.directory / f"{name}.file"

    def _disk(self, name: LunId) -> ShuffledDisk:
        return ShuffledDisk(FileDisk.open(self._path(name)), self.scheduler)

    def _open(self) -> None:
        self.worker = Worker()
        self.scheduler = Scheduler(self.worker, self.chance)
        self.life = object()
        self.chain = Chain(
            self.worker,
            Scratch(3),
            ORIGIN,
            self._disk(ORIGIN),
            chunk_size=self.chunk_size,
            power=self.power,
            gathers=self.power,
        )
        stores = [
            (name, self._disk(name), self.luns[name].history.blocks * BLOCK)
            for name in self.record
        ]
        failures: list[Any] = []
        self.worker.start(self.chain.load(stores), failures.append)
        self._drain(partial(bool, failures))
        if isinstance(failures[0], OSError):
            raise failures[0]

    def die(self) -> None:
        """Drop the chain as a kill does, load it again and make open requests again."""
        self.seen.add("death")
        self.life = object()
        self.worker.close()
        self.chain.close()
        self._holds.clear()
        self._removing.clear()
        self._open()
        for name in self.luns.keys() - {ORIGIN, *self.record}:
            # It was out of the chain, and only its files were left.
            del self.luns[name]
            self._unlink(name)
        for lun in self.luns.values():
            lun.is_going = not self.chain.node(lun.name).valid
        if self.chance.random() < 0.5:
            # Taken between what was done of a request and its being made again.
            self._snapshot()
            self.scheduler.finish()
        for key, request in list(self._requests.items()):
            if request.kind == "read" or request.lun.name not in self.luns:
                self._forget(key)
            else:
                self._submit(key, request)
        for lun in list(self.luns.values()):
            if not lun.is_known:
                self._look(lun)

    def _drain(self, is_over: Callable[[], object]) -> None:
        """Go on until something is so; what cannot come about any more is a hang."""
        while not is_over():
            if not self.scheduler.step():
                self.scheduler.finish()
                assert is_over(), f"hangs: {self._open_requests()}"

    def _open_requests(self) -> list[tuple[object, ...]]:
        return [(r.kind, r.lun.name, r.first, r.count) for r in self._requests.values()]

    def quiet(self) -> None:
        """Let everything end, holds first."""
        self.scheduler.finish()
        while self._holds:
            for hold in list(self._holds):
                self._release(hold)
            self.scheduler.finish()
        assert not self._requests, f"never answered: {self._open_requests()}"
        assert not self._removing, f"never removed: {self._removing}"
        assert self.worker.idle

    # --- requests

    def act(self) -> None:
        """Do one thing of chance, or let one thing go on."""
        for _ in range(self.chance.randrange(6)):
            self.scheduler.step()
        what = self.chance.random()
        if what < 0.50:
            self._begin("write")
        elif what < 0.58:
            self._begin("zero")
        elif what < 0.80:
            self._begin("read")
        elif what < 0.83:
            self._begin("flush")
        elif what < 0.89:
            self._snapshot()
        elif what < 0.93 and len(self.record) > 2:
            self._remove()
        elif what < 0.935:
            self.die()
        elif what < 0.945:
            self._reject()

    def _begin(self, kind: str) -> None:
        if not self._free:
            return
        known = [lun for lun in self.luns.values() if lun.is_known and not lun.is_going]
        # Half of all goes to the origin.
        lun = self.luns[ORIGIN] if self.chance.random() < 0.5 else self.chance.choice(known)
        history = lun.history
        # Few blocks are fought for by many.
        count = self.chance.choice((1, 1, 1, 2, 3, 4, 8, LONGEST))
        area = self.chance.choice((64, history.blocks))
        first = self.chance.randrange(max(1, area - count + 1))
        if kind in {"write", "zero"} and not history.claim(first, count):
            return
        key, room = next(self._numbers), self._free.pop()
        request = Request(lun, kind, first, count, self.clock.now(), room)
        if kind in {"write", "zero"}:
            request.number = history.begin(self.clock, first, count, zeroes=kind == "zero")
        if kind == "write":
            stamp(_words(room, count), request.number, first)
        self._requests[key] = request
        self._submit(key, request)

    def _submit(self, key: int, request: Request) -> None:
        life, view = self.life, self.chain.view(request.lun.name)
        offset, length = request.first * BLOCK, request.count * BLOCK

        def done(result: Any) -> None:
            if life is self.life:
                self._answered(key, request, result)

        if request.kind == "write":
            work: Any = view.write(request.room[:length], offset)
        elif request.kind == "zero":
            work = view.zero(offset, length)
        elif request.kind == "read":
            work = view.read(request.room[:length], offset)
        else:
            work = view.flush()
        self.worker.run(work, done)

    def _answered(self, key: int, request: Request, result: Any) -> None:
        lun, failed = request.lun, isinstance(result, OSError)
        self.seen.add(f"{request.kind} {'failed' if failed else 'done'}")
        if failed and not self._may_fail(lun):
            self.wrong.append(f"{request.kind} of {lun.name}: {result!r}")
        if request.kind in {"write", "zero"}:
            lun.history.end(self.clock, request.first, request.count, failed=failed)
        elif request.kind == "read" and not failed:
            cut = Cut(asked=request.begun, made=self.clock.now())
            view = _words(request.room, request.count)
            found = judge([(lun.history, view)], cut, first=request.first, ordered=False)
            self.wrong += [f"read: {each}" for each in found.wrong]
        self._forget(key)

    def _may_fail(self, lun: Lun) -> bool:
        return lun.name != ORIGIN and (lun.is_going or lun.may_end)

    def _forget(self, key: int) -> None:
        self._free.append(self._requests.pop(key).room)

    # --- snapshots

    def _snapshot(self) -> None:
        known = [lun for lun in self.luns.values() if lun.is_known and not lun.is_going]
        source = self.luns[ORIGIN] if self.chance.random() < 0.7 else self.chance.choice(known)
        if not self.chain.node(source.name).valid or len(self.luns) > 9:
            return
        self.seen.add("snapshot asked")
        life, asked = self.life, self.clock.now()
        name = LunId(f"s{next(self._numbers)}")
        length = store_length(source.history.blocks * BLOCK // self.chunk_size, self.chunk_size)
        may_end = self.chance.random() < 0.25
        if may_end:
            length = min(length, self.chunk_size * self.chance.randrange(3, 40))
        with self._path(name).open("xb") as file:
            file.truncate(length)
        store = self._disk(name)
        hold: list[Hold] = []

        def prepared(result: Any) -> None:
            assert not isinstance(result, OSError), result
            if life is self.life and source.name in self.chain.luns:
                hold.append(self.chain.hold(source.name, HOLD_SECONDS))
                self._holds.add(hold[0])
                self.worker.start(hold[0].quiet(), held)

        def held(result: Any) -> None:
            if life is not self.life:
                return
            if result is not True or source.name not in self.chain.luns:
                self._unlink(name)
                return
            try:
                self.chain.insert(name, store, source.name)
            except OSError as error:
                if error.errno != errno.EIO or not self._may_fail(source):
                    raise
                self._release(hold[0])
                self._unlink(name)
                return
            self.record = self.chain.luns[:-1]
            cut = Cut(asked=asked, made=self.clock.now())
            history = History(str(name), source.history.blocks * BLOCK)
            lun = Lun(name, history, cut, source.history, may_end=may_end)
            # What a snapshot of an invalid one would be is nobody's business.
            self.luns[name] = lun
            self.seen.add("snapshot")
            self._look(lun)
            if self.chance.random() < 0.7:
                self._release(hold[0])

        self.worker.start(prepare_store(store, self.chunk_size), prepared)

    def _release(self, hold: Hold) -> None:
        hold.release()
        self._holds.discard(hold)

    def _unlink(self, name: LunId) -> None:
        self._path(name).unlink(missing_ok=True)

    def _look(self, lun: Lun) -> None:
        """Read a new snapshot as a whole and judge it; from then on that is what it holds."""
        life, room = self.life, aligned(lun.history.blocks * BLOCK)

        def done(result: Any) -> None:
            if life is not self.life:
                return
            if isinstance(result, OSError):
                if not self._may_fail(lun):
                    self.wrong.append(f"first look at {lun.name}: {result!r}")
                lun.is_going = True
                return
            assert lun.cut is not None
            assert lun.source is not None
            view = _words(room, lun.history.blocks)
            # Its source may have a longer name by now, and the same history.
            verdict = judge([(lun.source, view)], lun.cut)
            self.wrong += [f"snapshot {lun.name}: {each}" for each in verdict.wrong]
            lun.history = History(
                str(lun.name), lun.history.blocks * BLOCK, verdict.held[lun.source.name].tolist()
            )
            lun.cut = None

        self.worker.run(self.chain.view(lun.name).read(room, 0), done)

    def _remove(self) -> None:
        candidates = [
            self.luns[name]
            for name in self.record
            if self.luns[name].is_known and name not in self._removing
        ]
        if not candidates:
            return
        lun, life = self.chance.choice(candidates), self.life
        lun.is_going = lun.may_end = True
        self._removing.add(lun.name)
        self.seen.add("removal")

        def done(result: Any) -> None:
            if life is not self.life:
                return
            if isinstance(result, OSError):
                self.wrong.append(f"removal of {lun.name}: {result!r}")
            self.record = self.chain.luns[:-1]
            self._removing.discard(lun.name)
            self.luns.pop(lun.name, None)
            self._unlink(lun.name)

        self.worker.start(self.chain.remove(lun.name), done)

    def _reject(self) -> None:
        """Release a hold that was left on."""
        if self._holds:
            self._release(next(iter(self._holds)))

    # --- the end

    def check(self) -> None:
        """Let everything end; look at all views, also after another start; nothing is wrong."""
        self.quiet()
        self._check_views()
        self.die()
        self.quiet()
        self._check_views()
        self.close()
        assert not self.wrong, self.wrong[:6]

    def _check_views(self) -> None:
        for name, lun in self.luns.items():
            if not self.chain.node(name).valid:
                assert lun.may_end or lun.is_going, f"{name} is invalid"
                self.seen.add("invalid at the end")
                continue
            room = aligned(lun.history.blocks * BLOCK)
            results: list[Any] = []
            self.worker.run(self.chain.view(name).read(room, 0), results.append)
            self._drain(partial(bool, results))
            if isinstance(results[0], OSError):
                self.wrong.append(f"end: {name}: {results[0]!r}")
                continue
            cut = Cut(asked=self.clock.now(), made=self.clock.now())
            found = judge([(lun.history, _words(room, lun.history.blocks))], cut, ordered=False)
            self.wrong += [f"end: {each}" for each in found.wrong]

    def close(self) -> None:
        self.worker.close()
        self.chain.close()


def _words(room: memoryview, count: int) -> Words:
    words: Words = np.frombuffer(room, dtype=np.uint64)[: count * WORDS]
    return words.reshape(-1, WORDS)


@contextmanager
def storm(directory: Path, seed: int, **options: Any) -> Iterator[Storm]:
    """Give a storm in a directory of its own, whose files are removed afterwards."""
    place = directory / f"storm{seed}"
    place.mkdir()
    made = Storm(place, seed, **options)
    try:
        yield made
    finally:
        made.close()
        for file in place.iterdir():
            os.unlink(file)
        place.rmdir()
