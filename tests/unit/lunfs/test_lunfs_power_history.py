"""What a power loss may leave of a disk: per block, a content since the flush that covered it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vssemu_fuse.lunfs.faults.history import BLOCK, History

BLOCKS = 6

writes = st.tuples(
    st.just("write"), st.integers(0, BLOCKS - 2), st.integers(1, 2), st.integers(0, 255)
)
flushes = st.tuples(st.just("flush"))
steps = st.lists(st.one_of(writes, flushes), max_size=30)


class Disk:
    """A disk of six blocks, each a number, and all it could have after a power loss."""

    def __init__(self) -> None:
        self.history = History()
        self.now = [0] * BLOCKS
        self.possible = [{0} for _ in range(BLOCKS)]

    def write(self, block: int, count: int, value: int) -> None:
        before = b"".join(bytes([old]) * BLOCK for old in self.now[block : block + count])
        change = self.history.begin(block, before, count)
        for each in range(block, block + count):
            self.now[each] = value
            self.possible[each].add(value)
        self.history.done(change)

    def flush(self) -> None:
        self.history.flushed(self.history.now)
        self.possible = [{value} for value in self.now]

    def lose(self, seed: int) -> None:
        for one in self.history.lose(seed):
            content = bytes(BLOCK) if one.content is None else one.content
            assert len(set(content)) == 1
            self.now[one.block] = content[0]

    def run(self, todo: list[Any]) -> None:
        for step in todo:
            if step[0] == "flush":
                self.flush()
            else:
                self.write(*step[1:])


@given(todo=steps, seed=st.integers(0, 1 << 62))
def test_a_loss_leaves_what_was_flushed_or_written_later(todo: list[Any], seed: int) -> None:
    disk = Disk()
    disk.run(todo)
    disk.lose(seed)
    assert all(value in could for value, could in zip(disk.now, disk.possible, strict=True))
    assert (disk.history.pending, disk.history.remembered) == (0, 0)


def test_every_content_since_the_flush_is_left_by_some_loss() -> None:
    seen = set()
    for seed in range(400):
        disk = Disk()
        disk.write(0, 2, 1)
        disk.flush()
        disk.write(0, 1, 2)
        disk.write(0, 2, 3)
        disk.lose(seed)
        seen.add((disk.now[0], disk.now[1]))
    # Two blocks of one write tear.
    assert seen == {(first, second) for first in (1, 2, 3) for second in (1, 3)}


def test_a_flush_covers_what_was_done_when_it_was_asked_for() -> None:
    history = History()
    early = history.begin(0, bytes([1]) * BLOCK)
    history.done(early)
    under_way = history.begin(1, bytes([1]) * BLOCK)
    covered = history.now
    history.done(under_way)
    late = history.begin(0, bytes([2]) * BLOCK)
    history.done(late)
    history.flushed(covered)
    left = {(one.block, one.content) for seed in range(50) for one in history_copy(history, seed)}
    assert left == {(0, bytes([2]) * BLOCK), (1, bytes([1]) * BLOCK)}


def history_copy(history: History, seed: int) -> Any:
    copy = History()
    copy._blocks = {block: list(versions) for block, versions in history._blocks.items()}
    return copy.lose(seed)


def test_the_same_seed_loses_the_same_in_any_order_of_writes() -> None:
    def lost(order: list[int], seed: int) -> list[int]:
        history = History()
        for block in order:
            history.done(history.begin(block, bytes([7]) * BLOCK))
        return [one.block for one in history.lose(seed)]

    assert lost([1, 2, 3, 4, 5], 5) == lost([5, 4, 3, 2, 1], 5)
    assert len({tuple(lost(list(range(40)), seed)) for seed in range(20)}) > 10


def test_more_than_the_limit_counts_as_written_back() -> None:
    history = History(limit=3 * BLOCK)
    for block in range(5):
        history.done(history.begin(block, bytes([7]) * BLOCK))
    assert history.remembered <= 3 * BLOCK
    blocks = {one.block for seed in range(50) for one in history_copy(history, seed)}
    assert blocks == {2, 3, 4}
