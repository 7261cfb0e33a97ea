"""A load of stamped blocks on devices or files, many writes in flight, and reading views back.

Each thread takes a LUN and a range of chance, claims its blocks, writes and notes the answer. All
LUNs of a load share one clock, so a thread's next write depends on the one before it.
"""

import contextlib
import hashlib
import mmap
import os
import random
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.rig.lunfs.stamps import BLOCK, WORDS, Clock, Cut, History, Words, stamp
from vssemu.linux import blockdev, libc

LONGEST = 256
PIECE = 1 << 20
_PUNCH = 3
LENGTHS = (1, 1, 1, 1, 1, 2, 3, 4, 8, 16, 17, 64, LONGEST)
"""Blocks of a write, one as likely as the other."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a history's LUN is written: a block device, or a file of the mount."""

    history: History
    path: Path


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Open past every cache during the block."""
    descriptor = os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def room_for(blocks: int) -> Iterator[tuple[memoryview, Words]]:
    """Give aligned memory of so many blocks, as bytes and as words."""
    room = mmap.mmap(-1, blocks * BLOCK)
    words = np.frombuffer(room, dtype=np.uint64).reshape(-1, WORDS)
    view = memoryview(room)
    try:
        yield view, words
    finally:
        view.release()
        del words
        with contextlib.suppress(BufferError):
            room.close()


class StampLoad:
    """Threads that write to some LUNs until told to stop."""

    def __init__(
        self,
        clock: Clock,
        targets: Sequence[Target],
        *,
        depth: int = 8,
        seed: int = 1,
        zeroes: float = 0.05,
        flushes: float = 0.02,
        may_fail: bool = False,
    ) -> None:
        """depth: writes in flight. zeroes, flushes: the share of discards and of flushes.

        may_fail: a write may be answered by an error; else that is an error of the load.
        """
        self.clock = clock
        self._targets = targets
        self._zeroes, self._flushes, self._may_fail = zeroes, flushes, may_fail
        self._over = threading.Event()
        self._seeds = [f"{seed}.{number}" for number in range(depth)]
        self._threads: list[threading.Thread] = []
        self.errors: list[str] = []
        self.writes = 0
        self.failed = 0
        self.flushed: dict[str, int] = {each.history.name: 0 for each in targets}
        """The moment at which the last flush that was acknowledged began, by LUN."""

    def start(self) -> None:
        for seed in self._seeds:
            thread = threading.Thread(target=self._work, args=(random.Random(seed),), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, seconds: float = 60.0) -> None:
        """End the load and see that every write was answered, and none by an error."""
        self._over.set()
        for thread in self._threads:
            thread.join(seconds)
            assert not thread.is_alive(), "a write was not answered"
        self._threads.clear()
        assert not self.errors, self.errors[:5]

    @contextmanager
    def running(self) -> Iterator["StampLoad"]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def _work(self, chance: random.Random) -> None:
        try:
            with contextlib.ExitStack() as stack:
                files = [
                    stack.enter_context(opened(each.path, os.O_RDWR)) for each in self._targets
                ]
                view, words = stack.enter_context(room_for(LONGEST))
                while not self._over.is_set():
                    number = chance.randrange(len(files))
                    self._once(chance, self._targets[number].history, files[number], view, words)
        except BaseException as error:  # noqa: BLE001
            self.errors.append(repr(error))

    def _once(
        self, chance: random.Random, history: History, file: int, view: memoryview, words: Words
    ) -> None:
        what = chance.random()
        if what < self._flushes:
            begun = self.clock.now()
            with self._failing():
                os.fdatasync(file)
                self.flushed[history.name] = max(begun, self.flushed[history.name])
            return
        count = min(chance.choice(LENGTHS), history.blocks)
        first = chance.randrange(history.blocks - count + 1)
        if not history.claim(first, count):
            return
        zeroes = what < self._flushes + self._zeroes
        write = history.begin(self.clock, first, count, zeroes=zeroes)
        failed = True
        try:
            with self._failing():
                if zeroes:
                    zero(file, first * BLOCK, count * BLOCK)
                else:
                    stamp(words[:count], write, first)
                    done = os.pwritev(file, [view[: count * BLOCK]], first * BLOCK)
                    assert done == count * BLOCK, f"{done} of {count * BLOCK} bytes written"
                failed = False
                self.writes += 1
        finally:
            history.end(self.clock, first, count, failed=failed)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            if not self._may_fail:
                raise
            self.failed += 1


def zero(file: int, offset: int, length: int) -> None:
    """Discard a range of a block device or a file."""
    if stat.S_ISBLK(os.fstat(file).st_mode):
        blockdev.discard(file, offset, length)
    else:
        libc.fallocate(file, _PUNCH, offset, length)


def read_view(path: Path | int) -> Words:
    """Return all blocks of a view, read past every cache; shape (blocks, WORDS)."""
    with contextlib.ExitStack() as stack:
        file = path if isinstance(path, int) else stack.enter_context(opened(path, os.O_RDONLY))
        size = os.lseek(file, 0, os.SEEK_END)
        taken = np.empty((size // BLOCK, WORDS), dtype=np.uint64)
        into = taken.data.cast("B")
        view, _ = stack.enter_context(room_for(PIECE // BLOCK))
        for offset in range(0, size, PIECE):
            wanted = min(PIECE, size - offset)
            done = os.preadv(file, [view[:wanted]], offset)
            assert done == wanted, f"{done} of {wanted} bytes read at {offset}"
            into[offset : offset + wanted] = view[:wanted]
    return taken


def digest(view: Words) -> str:
    """Return the SHA-256 of a view."""
    return hashlib.sha256(view.data.cast("B")).hexdigest()


def at_rest(clock: Clock) -> Cut:
    """Return the cut of a view that nobody is writing to: all that was acknowledged is in it."""
    return Cut(asked=clock.now(), made=clock.now())
