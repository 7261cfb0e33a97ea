"""What a disk could lose: earlier contents of blocks that were written and not flushed since.

Pure. A power loss leaves each 4 KiB block with any of the contents it had since the last
flush that covered it: the one of that flush, each that was written later, the present one. So
writes of several blocks tear, and later writes survive where earlier ones do not, as with
the cache of a disk that writes back in any order.
"""

from dataclasses import dataclass
from typing import Final

BLOCK: Final = 4096
LIMIT: Final = 64 << 20
"""Bytes of earlier contents that are remembered. With more, the oldest blocks count as
written back: a disk's cache is full at some time too."""

_ZEROES: Final = bytes(BLOCK)
_HALF: Final = (1 << 32) - 1
_WHOLE: Final = (1 << 64) - 1


class Change:
    """A write, from before it is done. done: its place among those that were; 0: it is not."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What has to be done to a disk: a block gets an earlier content; None: it is a hole."""

    block: int
    content: bytes | None


class History:
    """The earlier contents of one disk's blocks, from nothing on."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._blocks: dict[int, list[tuple[Change, bytes | None]]] = {}
        self._clock = 0
        self.remembered = 0

    @property
    def pending(self) -> int:
        """How many bytes a power loss could take back."""
        return len(self._blocks) * BLOCK

    @property
    def now(self) -> int:
        """What a flush that is asked for now covers; for `flushed`."""
        return self._clock

    def begin(self, block: int, before: bytes | memoryview | None, count: int = 1) -> Change:
        """Remember what blocks contain that are about to be written.

        before: `count` blocks of content; None for holes.
        """
        change = Change()
        for number in range(count):
            content = None
            if before is not None:
                content = bytes(before[number * BLOCK : (number + 1) * BLOCK])
                if content == _ZEROES:
                    content = None
            self._blocks.setdefault(block + number, []).append((change, content))
            self.remembered += _cost(content)
        while self.remembered > self._limit and self._blocks:
            self._forget(next(iter(self._blocks)))
        return change

    def done(self, change: Change) -> None:
        """Note that a write was done: flushes asked for from now on cover it."""
        self._clock += 1
        change.done = self._clock

    def flushed(self, covered: int) -> None:
        """Forget what a flush has made durable. covered: `now` as it was asked for."""
        for block in tuple(self._blocks):
            versions = self._blocks[block]
            durable = 0
            while durable < len(versions) and 0 < versions[durable][0].done <= covered:
                durable += 1
            if durable == len(versions):
                self._forget(block)
            elif durable:
                self.remembered -= sum(_cost(content) for _, content in versions[:durable])
                del versions[:durable]

    def lose(self, seed: int) -> list[Restored]:
        """Choose what a power loss leaves; return what has to be put back. Nothing pends then.

        seed: says with a block's number what becomes of it, whatever becomes of others.
        Whether little or much is lost is drawn first, so that both happen.
        """
        share = _drawn(seed, -1) >> 32
        lost = []
        for block, versions in sorted(self._blocks.items()):
            drawn = _drawn(seed, block)
            if drawn >> 32 < share:
                content = versions[(drawn & _HALF) % len(versions)][1]
                lost.append(Restored(block=block, content=content))
        self.forget_all()
        return lost

    def forget(self, block: int, count: int) -> None:
        """Take some blocks for durable."""
        for each in [each for each in self._blocks if block <= each < block + count]:
            self._forget(each)

    def forget_all(self) -> None:
        """Take everything for durable."""
        self._blocks.clear()
        self.remembered = 0

    def _forget(self, block: int) -> None:
        self.remembered -= sum(_cost(content) for _, content in self._blocks.pop(block))


def _cost(content: bytes | None) -> int:
    # A hole costs little, but not nothing: a discard of a whole LUN is many of them.
    return 128 if content is None else BLOCK


def _drawn(seed: int, block: int) -> int:
    """Return 64 random bits of a block: a step of the generator splitmix64."""
    bits = (seed + (block + 2) * 0x9E3779B97F4A7C15) & _WHOLE
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & _WHOLE
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & _WHOLE
    return bits ^ bits >> 31
