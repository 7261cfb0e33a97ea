"""The checker of the other tests finds what is wrong with a view, each kind of it."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.rig.lunfs.stampload import StampLoad, Target, at_rest, read_view
from tests.rig.lunfs.stamps import BLOCK, WORDS, Clock, Cut, History, Words, judge, stamp

MIB = 1 << 20


class Scene:
    """Two LUNs of four blocks in memory, and writes to them by hand."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.luns = [History(name, 4 * BLOCK) for name in "AB"]
        self.views = [np.zeros((4, WORDS), dtype=np.uint64) for _ in self.luns]

    def write(self, lun: int, block: int, count: int = 1, *, answered: bool = True) -> int:
        history = self.luns[lun]
        assert history.claim(block, count)
        number = history.begin(self.clock, block, count)
        stamp(self.views[lun][block : block + count], number, block)
        if answered:
            history.end(self.clock, block, count)
        return number

    def zero(self, lun: int, block: int) -> None:
        assert self.luns[lun].claim(block, 1)
        self.luns[lun].begin(self.clock, block, 1, zeroes=True)
        self.views[lun][block] = 0
        self.luns[lun].end(self.clock, block, 1)

    def copy(self) -> list[Words]:
        return [view.copy() for view in self.views]

    def cut(self, between: Callable[[], object] = lambda: None) -> Cut:
        asked = self.clock.now()
        between()
        return Cut(asked=asked, made=self.clock.now())

    def wrong(self, views: list[Words], cut: Cut, *, ordered: bool = True) -> list[str]:
        return judge(list(zip(self.luns, views, strict=True)), cut, ordered=ordered).wrong


@pytest.fixture
def scene() -> Scene:
    made = Scene()
    made.write(0, 0, 3)
    made.write(1, 2)
    return made


def test_a_true_copy_is_right(scene: Scene) -> None:
    scene.zero(0, 1)
    cut = scene.cut(lambda: scene.write(0, 1))
    assert scene.wrong(scene.copy(), cut) == []


def test_an_acknowledged_write_that_is_not_there_is_seen(scene: Scene) -> None:
    old = scene.copy()
    number = scene.write(1, 3)
    (wrong,) = scene.wrong(old, scene.cut())
    assert f"B block 3: zeroes; possible: [{number}]" in wrong


def test_a_write_begun_after_the_snapshot_was_made_is_seen(scene: Scene) -> None:
    cut = scene.cut()
    number = scene.write(0, 2)
    (wrong,) = scene.wrong(scene.copy(), cut)
    assert f"A block 2: write {number};" in wrong


def test_a_block_of_two_writes_is_seen(scene: Scene) -> None:
    mixed = scene.copy()
    scene.write(0, 2)
    mixed[0][2, 100:] = scene.views[0][2, 100:]
    (wrong,) = scene.wrong(mixed, scene.cut())
    assert "A block 2: damaged" in wrong


def test_a_block_in_the_wrong_place_is_seen(scene: Scene) -> None:
    views = scene.copy()
    views[0][1] = views[0][2]
    assert "A block 1: damaged" in scene.wrong(views, scene.cut())[0]


def test_a_discard_that_came_too_early_is_seen(scene: Scene) -> None:
    cut = scene.cut()
    scene.zero(0, 0)
    assert "A block 0: zeroes" in scene.wrong(scene.copy(), cut)[0]


def test_a_write_under_way_may_be_held_or_not(scene: Scene) -> None:
    old = scene.copy()
    scene.write(0, 1, answered=False)
    cut = scene.cut()
    assert scene.wrong(old, cut) == scene.wrong(scene.copy(), cut) == []


def test_a_write_without_the_one_that_it_depends_on_is_seen(scene: Scene) -> None:
    """Both were under way while the snapshot was made, so each alone could be held or not."""
    old = scene.copy()

    def dependent() -> None:
        scene.write(0, 3)
        scene.write(1, 3)

    cut = scene.cut(dependent)
    new = scene.copy()
    assert scene.wrong([new[0], old[1]], cut) == []
    (wrong,) = scene.wrong([old[0], new[1]], cut)
    assert "was acknowledged" in wrong
    assert scene.wrong([old[0], new[1]], cut, ordered=False) == []


@pytest.mark.parametrize("zeroes", [0.0, 0.3])
def test_a_load_on_a_plain_file_leaves_what_its_history_says(
    tmp_path: Path, zeroes: float
) -> None:
    file = tmp_path / "lun"
    file.touch()
    os.truncate(file, 2 * MIB)
    clock, history = Clock(), History("A", 2 * MIB)
    load = StampLoad(clock, [Target(history, file)], zeroes=zeroes)
    with load.running():
        while load.writes < 300:
            pass
    view = read_view(file)
    assert judge([(history, view)], at_rest(clock)).wrong == []
    history.forget(clock.now())
    assert history.written() == 0
    assert judge([(history, view)], at_rest(clock)).wrong == []
    with file.open("r+b") as spoilt:
        spoilt.seek(17 * BLOCK)
        spoilt.write(b"spoilt")
    (wrong,) = judge([(history, read_view(file))], at_rest(clock)).wrong
    assert "A block 17: damaged" in wrong
