"""A chain under requests of all kinds at once, kills and losses of power, beside a plain model.

Requests are begun and done in an order that a seed gives. The model knows for each block of
each view which values it may have: those of the last writes that were acknowledged, and of all
that are under way. A snapshot has, from its instant on, exactly what its source had then.
"""

import os
import random
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.rig.lunfs.chaosdisk import BLOCK, Chaos, ChaosDisk
from vssemu.stores.format import store_length
from vssemu.stores.reading import read_store
from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.chain.chain import Chain, prepare_store
from vssemu_fuse.lunfs.chain.holding import Hold
from vssemu_fuse.lunfs.chain.nodes import Node, runs_of
from vssemu_fuse.lunfs.io.buffers import Scratch, aligned
from vssemu_fuse.lunfs.io.work import Operation, Worker

ORIGIN = LunId("origin")
_STUCK = 100_000


def block_of(value: int) -> bytes:
    return struct.pack("<Q", value) * (BLOCK // 8)


def value_of(block: bytes) -> int:
    value: int = struct.unpack_from("<Q", block)[0]
    assert block == block_of(value), "a block of two writes"
    return value


@dataclass
class Candidate:
    """A value that a block may have. end: when its write was acknowledged."""

    value: int
    start: int
    end: int | None


@dataclass
class Picture:
    """What a view may show. maybe: what it may show after a loss of power.

    base: the same, for what a snapshot shows of others, until it is settled. is_suspect: it may
    become invalid.
    """

    blocks: list[list[Candidate]]
    maybe: list[set[int]]
    base: list[set[int]]
    is_suspect: bool = False

    @classmethod
    def of(cls, values: list[int], maybe: list[set[int]]) -> "Picture":
        base = [set(each) for each in maybe]
        return cls([[Candidate(value, 0, 0)] for value in values], maybe, base)

    def kept(self) -> list[set[int]]:
        """Return what each block may have after a flush that begins now."""
        return [
            self.allowed(index) | (self.base[index] if block[0].start == 0 else set())
            for index, block in enumerate(self.blocks)
        ]

    def allowed(self, block: int) -> set[int]:
        return {each.value for each in self.blocks[block]}


@dataclass(eq=False)
class Change:
    """A write, or a zeroing (value 0)."""

    lun: LunId
    value: int
    first: int
    count: int
    candidates: list[Candidate] = field(default_factory=list)


@dataclass(eq=False)
class Look:
    """A read under way. allowed: what it may find."""

    lun: LunId
    first: int
    allowed: list[set[int]]


class Ordeal:
    """One chain, its files in `path`. batch: entries in a commit at most."""

    def __init__(
        self, path: Path, *, chunk_size: int, chunks: int, power: bool, batch: int = 4
    ) -> None:
        self.batch = batch
        self.path = path
        self.chunk_size = chunk_size
        self.power = power
        self.blocks = chunks * chunk_size // BLOCK
        self.clock = 0
        self.next_value = 1
        self.next_name = 0
        self.chaos = Chaos()
        self.disks: dict[LunId, ChaosDisk] = {}
        self._make(ORIGIN, self.blocks * BLOCK)
        self.record: list[tuple[LunId, ...]] = [()]
        self.pictures = {ORIGIN: Picture.of([0] * self.blocks, [{0} for _ in range(self.blocks)])}
        self.leaving: set[LunId] = set()
        self.emptied: set[LunId] = set()
        self.changes: list[Change] = []
        self.looks: list[Look] = []
        self.holds: list[tuple[LunId, Hold, list[int] | None]] = []
        self.wrong: list[str] = []
        self._start()

    # --- what happens

    def luns(self) -> list[LunId]:
        """The views that are served."""
        return [
            lun for lun in self.chain.luns if lun in self.pictures and self.chain.node(lun).valid
        ]

    def write(self, lun: LunId, first: int, count: int) -> None:
        change = Change(lun, self.next_value, first, count)
        self.next_value += 1
        self._begin(change)

    def zero(self, lun: LunId, first: int, count: int) -> None:
        self._begin(Change(lun, 0, first, count))

    def read(self, lun: LunId, first: int, count: int) -> None:
        picture = self.pictures[lun]
        look = Look(lun, first, [picture.allowed(first + each) for each in range(count)])
        self.looks.append(look)
        room = aligned(count * BLOCK)
        epoch = self.worker

        def done(result: object) -> None:
            if epoch is not self.worker:
                return
            self.looks.remove(look)
            if isinstance(result, OSError):
                if lun in self.pictures and not self.pictures[lun].is_suspect:
                    self.wrong.append(f"read of {lun}: {result}")
                return
            for index, allowed in enumerate(look.allowed):
                value = value_of(bytes(room[index * BLOCK : (index + 1) * BLOCK]))
                if value not in allowed:
                    self.wrong.append(
                        f"read of {lun}, block {first + index}: {value}, not in {allowed}"
                    )

        self.worker.run(self.chain.view(lun).read(room, first * BLOCK), done)

    def flush(self, lun: LunId) -> None:
        picture, epoch = self.pictures[lun], self.worker
        kept, began = picture.kept(), self._began(lun)

        def done(result: object) -> None:
            if epoch is self.worker and not isinstance(result, OSError):
                for block in range(self.blocks):
                    picture.maybe[block] &= kept[block] | began[block]

        self.worker.run(self.chain.view(lun).flush(), done)

    def settle(self, lun: LunId) -> None:
        """Make a snapshot durable, with what it shows of others."""
        picture, epoch = self.pictures[lun], self.worker
        kept, began = [picture.allowed(block) for block in range(self.blocks)], self._began(lun)

        def done(result: object) -> None:
            if epoch is not self.worker or isinstance(result, OSError):
                return
            self.settle_record()
            for block in range(self.blocks):
                picture.maybe[block] &= kept[block] | began[block]
                picture.base[block] = picture.maybe[block]

        self.worker.run(self.chain.settle(lun), done)

    def _began(self, lun: LunId) -> list[set[int]]:
        """Return sets into which come the values of writes that begin from now on."""
        began = [set[int]() for _ in range(self.blocks)]
        self.flushes.append((lun, began))
        return began

    def snapshot(self, of: LunId, *, room: int | None = None) -> None:
        """Take a snapshot; room: exceptions that it may have."""
        name = LunId(f"snapshot{self.next_name}")
        self.next_name += 1
        chunks = self.blocks * BLOCK // self.chunk_size
        length = store_length(chunks + 1 if room is None else room, self.chunk_size)
        disk = self._make(name, length)
        epoch = self.worker

        def taking() -> Operation[None]:
            yield from prepare_store(disk, self.chunk_size)
            if of not in self.luns():
                return
            hold = self.chain.hold(of, 1000)
            yield from hold.quiet()
            if of in self.luns() and self.chain.node(of).ending is None:
                values = self.raw(of)
                self.chain.insert(name, disk, of)
                source = self.pictures[of]
                maybe = [source.maybe[b] | {values[b]} for b in range(self.blocks)]
                self.pictures[name] = Picture.of(values, maybe)
                self.pictures[name].is_suspect = room is not None
                self.note((*self.chain.luns[:-1],))
            hold.release()

        self.worker.start(taking(), self._raise if epoch is self.worker else print)

    def remove(self, lun: LunId) -> None:
        self.leaving.add(lun)
        self.pictures.pop(lun, None)
        epoch = self.worker

        def done(result: object) -> None:
            if epoch is not self.worker:
                return
            self._raise(result)
            self.leaving.discard(lun)
            self.emptied.discard(lun)
            self.note(tuple(each for each in self.record[-1] if each != lun))
            self.settle_record()
            self._unlink(lun)

        self.worker.start(self.chain.remove(lun), done)

    def empty(self, lun: LunId) -> None:
        self.emptied.add(lun)
        self.pictures.pop(lun, None)
        self.worker.start(self.chain.empty(lun), lambda result: None)

    def hold(self, lun: LunId) -> None:
        hold = self.chain.hold(lun, 1000)
        self.holds.append((lun, hold, None))
        index = len(self.holds) - 1
        holds = self.holds

        def done(result: object) -> None:
            if result is True and holds is self.holds and lun in self.luns():
                holds[index] = (lun, hold, self.raw(lun))

        self.worker.start(hold.quiet(), done)

    def release(self) -> None:
        for lun, hold, values in self.holds:
            if values is not None and lun in self.luns() and self.raw(lun) != values:
                self.wrong.append(f"{lun} changed while it was held")
            hold.release()
        self.holds = []

    def fail(self, lun: LunId, *, failures: int) -> None:
        """Have a store fail a few times, or be without room from now on (0)."""
        self.pictures[lun].is_suspect = True
        self.disks[lun].failures = failures
        self.disks[lun].is_full = not failures

    def step(self, order: random.Random) -> None:
        """Have one thing happen."""
        if order.random() < 0.5:
            self.chaos.let_go(order)
        else:
            self._turn()

    def _turn(self) -> bool:
        """Let the worker turn; what the kernel does meanwhile is done afterwards."""
        did = self.worker.turn()
        while self.worker._context.under_way:
            did |= self.worker.turn()
        return did

    def drain(self, order: random.Random) -> None:
        """Have all happen that was begun, and look at everything."""
        self.release()
        self._finish(order)
        assert not self.changes, f"{len(self.changes)} writes were never answered"
        assert not self.looks, "reads were never answered"
        self.check()
        for lun in self.luns():
            picture, values = self.pictures[lun], self.raw(lun)
            for block, value in enumerate(values):
                picture.blocks[block] = [
                    each for each in picture.blocks[block] if each.value == value
                ][-1:]
                picture.blocks[block][0].end = self.clock
            self.read(lun, 0, self.blocks)
        self._finish(order)
        self.check()
        self._check_rest()

    def _finish(self, order: random.Random) -> None:
        for _ in range(_STUCK):
            if not self._turn() and not self.chaos.let_go(order) and self.worker.idle:
                return
        raise AssertionError("it never ends")

    def kill(self, order: random.Random) -> None:
        """SIGKILL: what was submitted may be done, the rest is not; all is asked for again."""
        self._stop(order)
        again = self.changes
        self.changes = []
        self._start()
        self._come_back(order)
        order.shuffle(again)
        for change in again:
            if change.lun in self.luns():
                self._begin(change)

    def lose_power(self, order: random.Random) -> None:
        """Lose what was not flushed; what was asked for is forgotten."""
        self._stop(order)
        self.changes = []
        for disk in self.disks.values():
            disk.lose_power(order)
        chosen = order.choice(self.record)
        self.record = [chosen]
        for lun in [each for each in self.disks if each not in {ORIGIN, *chosen}]:
            self.pictures.pop(lun, None)
            self.leaving.discard(lun)
            self.emptied.discard(lun)
            self._unlink(lun)
        self._start()
        self._come_back(order, lost=True)

    # --- what must be so

    def check(self) -> None:
        """Compare all views with the model, as the files and tables are now."""
        for lun in self.chain.luns:
            picture = self.pictures.get(lun)
            if picture is None:
                continue
            if not self.chain.node(lun).valid:
                assert picture.is_suspect, f"{lun} is invalid, for no reason"
                continue
            for block, value in enumerate(self.raw(lun)):
                allowed = picture.allowed(block)
                assert value in allowed, f"{lun}, block {block}: {value}, not in {allowed}"
        assert not self.wrong, self.wrong

    def raw(self, lun: LunId) -> list[int]:
        """Return the values of a view, as the tables say it and the files have it."""
        node, values = self.chain.node(lun), []
        for run in runs_of(node, 0, node.size, self.chunk_size):
            data = self.disks[run.owner.lun].raw(run.place, run.length)
            values += [value_of(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]
        return values

    def note(self, luns: tuple[LunId, ...]) -> None:
        """Replace the record, not durably."""
        self.record.append(luns)

    def settle_record(self) -> None:
        del self.record[:-1]

    def close(self) -> None:
        self.worker.close()
        for disk in self.disks.values():
            disk.close()

    # --- inside

    def _make(self, lun: LunId, size: int) -> ChaosDisk:
        path = self.path / lun
        with path.open("wb") as file:
            file.truncate(size)
        self.disks[lun] = disk = ChaosDisk(path, self.chaos)
        return disk

    def _unlink(self, lun: LunId) -> None:
        self.disks.pop(lun).close()
        (self.path / lun).unlink()

    def _start(self) -> None:
        self.worker = Worker(depth=64)
        self.scratch = Scratch(rooms=2, size=self.batch * self.chunk_size + 4 * BLOCK)
        self.flushes: list[tuple[LunId, list[set[int]]]] = []
        self.chain = Chain(
            self.worker,
            self.scratch,
            ORIGIN,
            self.disks[ORIGIN],
            chunk_size=self.chunk_size,
            power=self.power,
            settle=self.settle_record,
        )

    def _stop(self, order: random.Random) -> None:
        for waiting in self.chaos.waiting:
            if order.random() < 0.5 and not waiting.disk.is_full:
                waiting.disk.do(waiting)
        self.chaos.waiting = []
        self.worker.close()
        self.looks = []
        self.holds = []
        for disk in self.disks.values():
            disk.failures = 0

    def _come_back(self, order: random.Random, *, lost: bool = False) -> None:
        """Load the chain, perhaps after being killed in the middle of it."""
        while True:
            loaded: list[object] = []
            size = self.blocks * BLOCK
            members = [(lun, self.disks[lun], size) for lun in self.record[-1]]
            self.worker.start(self.chain.load(members), loaded.append)
            patience = order.choice([3, 30, _STUCK])
            while not loaded and patience:
                patience -= 1
                self.step(order)
            if loaded:
                break
            self._stop(order)
            self._start()
        self._raise(loaded[0])
        for lun in [each for each in self.disks if each not in {ORIGIN, *self.record[-1]}]:
            self.pictures.pop(lun, None)
            self._unlink(lun)
        if lost:
            for lun in self.luns():
                picture, values = self.pictures[lun], self.raw(lun)
                for block, value in enumerate(values):
                    maybe = picture.maybe[block]
                    assert value in maybe, f"{lun}, block {block}: {value}, not in {maybe}"
                # It came from the disks, so it is there to stay.
                self.pictures[lun] = Picture.of(values, [{value} for value in values])
                self.pictures[lun].is_suspect = picture.is_suspect
        self.check()
        for lun in list(self.leaving):
            if lun in self.chain.luns:
                self.remove(lun)
        for lun in list(self.emptied - self.leaving):
            self.empty(lun)

    def _begin(self, change: Change) -> None:
        picture, epoch = self.pictures[change.lun], self.worker
        self.clock += 1
        start = self.clock
        if not change.candidates:
            change.candidates = [Candidate(change.value, start, None) for _ in range(change.count)]
            for index, candidate in enumerate(change.candidates):
                picture.blocks[change.first + index].append(candidate)
        for block in range(change.first, change.first + change.count):
            picture.maybe[block].add(change.value)
            for lun, began in self.flushes:
                if lun == change.lun:
                    began[block].add(change.value)
            for look in self.looks:
                if look.lun == change.lun and 0 <= block - look.first < len(look.allowed):
                    look.allowed[block - look.first].add(change.value)
        self.changes.append(change)

        def done(result: object) -> None:
            if epoch is not self.worker:
                return
            self.changes.remove(change)
            if change.lun not in self.pictures or self.pictures[change.lun] is not picture:
                return
            if isinstance(result, OSError):
                if not picture.is_suspect:
                    self.wrong.append(f"write to {change.lun}: {result}")
                return
            self.clock += 1
            for index, candidate in enumerate(change.candidates):
                candidate.end = self.clock
                block = change.first + index
                picture.blocks[block] = [
                    each
                    for each in picture.blocks[block]
                    if each.end is None or each.end >= candidate.start
                ]

        view, offset, length = self._view(change.lun), change.first * BLOCK, change.count * BLOCK
        if change.value:
            room = aligned(length)
            room[:] = block_of(change.value) * change.count
            self.worker.run(view.write(room, offset), done)
        else:
            self.worker.run(view.zero(offset, length), done)

    def _view(self, lun: LunId) -> Any:
        return self.chain.view(lun)

    def _raise(self, result: object) -> None:
        if isinstance(result, OSError):
            raise AssertionError("an operation failed") from result

    def _check_rest(self) -> None:
        """Nothing is left under way, and every store is one that others can read."""
        for lun in self.chain.luns:
            node: Node = self.chain.node(lun)
            assert not any((node.pending, node.gathered, node.through, node.holds)), lun
            assert not any((node.writes.count, node.reads.count, node.is_committing)), lun
            if node.younger is not None and node.valid:
                fd = os.open(self.path / lun, os.O_RDONLY)
                try:
                    store = read_store(fd, lun, origin_size=node.size)
                finally:
                    os.close(fd)
                table = dict(zip(store.old.tolist(), store.new.tolist(), strict=True))
                assert table == node.table, f"the store of {lun} says something else"
                assert store.valid
