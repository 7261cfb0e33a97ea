"""Blocks that say what they are, and the history that tells which of them a view may hold.

A writer stamps every 4 KiB block that it writes; a history knows of each block which writes were
begun and which acknowledged, in the order of one clock for all LUNs. From that it judges the view
of a snapshot without knowing how it was made:

- every write that was acknowledged before the snapshot was asked for is in it;
- no write that was begun after the snapshot was there is in it;
- if a write is in it, so is every write that was acknowledged before that one was begun, on
  whatever LUN of the set: applications that wait for one write before the next one rely on that.

A stamped block, in words of 8 bytes, little-endian: MAGIC, the write's number, the block's
number, then 509 times a mixture of both: a block of two writes is no block of either. The number
of a write is the moment of its begin, so no two writes on any LUN have the same. A zeroed block is
all zeroes.

Nothing here writes or reads a device, and nothing knows of chains or stores.
"""

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 4096
WORDS: Final = BLOCK // 8
MAGIC: Final = 0x706D617473736576
NEVER: Final = 1 << 62
"""The moment of an acknowledgement that did not come."""

Words = NDArray[np.uint64]


class Clock:
    """Moments in the order in which they were asked for, whichever thread asks."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def now(self) -> int:
        """Return a moment after all that were returned before."""
        return next(self._count)


def _mixed(write: Any, block: Any) -> Any:
    with np.errstate(over="ignore"):
        mixed = np.asarray(write, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = mixed ^ np.asarray(block, dtype=np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
        return mixed ^ (mixed >> np.uint64(29)) | np.uint64(1)


def stamp(room: Words, write: int, first: int) -> None:
    """Fill blocks from block number `first` on; room: shape (blocks, WORDS)."""
    blocks = np.arange(first, first + len(room), dtype=np.uint64)
    room[:] = _mixed(write, blocks)[:, None]
    room[:, 0] = MAGIC
    room[:, 1] = write
    room[:, 2] = blocks


def writes_of(view: Words, first: int = 0) -> NDArray[np.int64]:
    """Return the number of the write that each block is of: 0 if zeroed, -1 if damaged.

    view: shape (blocks, WORDS), from block number `first` on.
    """
    blocks = np.arange(first, first + len(view), dtype=np.uint64)
    writes = view[:, 1]
    whole = (view[:, 0] == MAGIC) & (view[:, 2] == blocks)
    whole &= (view[:, 3:] == _mixed(writes, blocks)[:, None]).all(axis=1)
    empty = ~view.any(axis=1)
    return np.where(whole, writes.astype(np.int64), np.where(empty, 0, -1))


@dataclass(slots=True)
class _Write:
    """One write to one block. number: 0 in a zeroing, like the blocks that it leaves."""

    number: int
    begun: int
    ended: int = NEVER


@dataclass(frozen=True, slots=True)
class Cut:
    """When a view was taken: asked for, and there, as moments of the clock."""

    asked: int
    made: int


class History:
    """What was written to one LUN. Writes to one block never overlap: blocks are claimed."""

    def __init__(self, name: str, size: int, base: Iterable[int] | None = None) -> None:
        """size: bytes. base: the write that each block is of at first; all zeroes by default."""
        self.name = name
        self.blocks = size // BLOCK
        first = [0] * self.blocks if base is None else base
        self._writes = [[_Write(number, 0, 0)] for number in first]
        self._claimed = bytearray(self.blocks)
        self._lock = threading.Lock()

    def claim(self, first: int, count: int) -> bool:
        """Take blocks for one write; False when one of them is taken."""
        with self._lock:
            if any(self._claimed[first : first + count]):
                return False
            self._claimed[first : first + count] = b"\1" * count
            return True

    def begin(self, clock: Clock, first: int, count: int, *, zeroes: bool = False) -> int:
        """Note that claimed blocks are about to be written; returns the write's number."""
        begun = clock.now()
        for block in range(first, first + count):
            self._writes[block].append(_Write(0 if zeroes else begun, begun))
        return begun

    def end(self, clock: Clock, first: int, count: int, *, failed: bool = False) -> None:
        """Note how the write to claimed blocks ended, and give them back."""
        ended = NEVER if failed else clock.now()
        for block in range(first, first + count):
            self._writes[block][-1].ended = ended
        with self._lock:
            self._claimed[first : first + count] = bytes(count)

    def possible(self, block: int, cut: Cut) -> Iterator[_Write]:
        """Give the writes of which the block may be at that cut, eldest first."""
        writes = self._writes[block]
        least = max(i for i, each in enumerate(writes) if each.ended < cut.asked)
        return (each for each in writes[least:] if each.begun < cut.made)

    def missing(self, block: int, held: _Write, moment: int) -> "_Write | None":
        """Return a younger write to the block that was acknowledged before a moment, if any."""
        later = (each for each in self._writes[block] if each.begun > held.begun)
        return next((each for each in later if each.ended < moment), None)

    def written(self) -> int:
        """Return how many writes of a block are remembered."""
        return sum(map(len, self._writes)) - self.blocks

    def forget(self, moment: int) -> None:
        """Drop what no cut that is asked for after a moment can hold."""
        for writes in self._writes:
            least = max(i for i, each in enumerate(writes) if each.ended < moment)
            del writes[:least]


@dataclass(slots=True)
class Verdict:
    """What is wrong with the views of one cut: a sentence a block; and what they hold."""

    wrong: list[str] = field(default_factory=list)
    held: dict[str, NDArray[np.int64]] = field(default_factory=dict)


def judge(
    views: Sequence[tuple[History, Words]], cut: Cut, *, first: int = 0, ordered: bool = True
) -> Verdict:
    """Return what is wrong with the views of LUNs that were taken at one moment.

    first: the number of the first block of each, for views of a part. ordered: False after a
    loss of power, which keeps no order among what was not flushed (the cut's `asked` is then the
    begin of the last flush that was acknowledged), and for reads, which take their time.
    """
    verdict = Verdict()
    held: list[tuple[History, int, list[_Write]]] = []
    for history, view in views:
        found = writes_of(view, first)
        verdict.held[history.name] = found
        for block, number in enumerate(found.tolist(), first):
            possible = list(history.possible(block, cut))
            matching = [each for each in possible if each.number == number]
            if matching:
                held.append((history, block, matching))
            else:
                wanted = [each.number for each in possible]
                verdict.wrong.append(
                    f"{history.name} block {block}: {_what(number)}; possible: {wanted} "
                    f"(asked {cut.asked}, made {cut.made})"
                )
    if ordered:
        verdict.wrong += _disorder(held)
    return verdict


def _disorder(held: Sequence[tuple[History, int, list[_Write]]]) -> Iterator[str]:
    """Give the writes that are not held although one is that was begun after their end."""
    sure = [(each[-1][0].begun, each) for each in held if len(each[-1]) == 1]
    latest, (by, at, _) = max(sure, key=lambda pair: pair[0])
    for history, block, matching in held:
        if lost := history.missing(block, matching[-1], latest):
            yield (
                f"{history.name} block {block}: write {lost.number} of {lost.begun} was "
                f"acknowledged at {lost.ended} and is not held, but write {latest} of "
                f"{by.name} block {at} is, which was begun later"
            )


def _what(number: int) -> str:
    return {0: "zeroes", -1: "damaged"}.get(number, f"write {number}")
