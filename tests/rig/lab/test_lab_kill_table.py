"""A diagonal of the kill table; `tests/soak/lab/test_kill_table_whole.py` plays all of it."""

import signal
from collections.abc import Iterator

import pytest

from tests.rig.lab.conftest import Labs
from tests.rig.lab.killrig import KillRig
from tests.rig.lab.killtable import DIAGONAL, Point, Victim, name_of, seen


@pytest.fixture(scope="module")
def kill_rig(labs: Labs) -> Iterator[KillRig]:
    rig = KillRig(labs)
    yield rig
    rig.close()


@pytest.mark.parametrize("cell", DIAGONAL, ids=name_of)
def test_a_kill_leaves_what_the_table_says(kill_rig: KillRig, cell: tuple[Victim, Point]) -> None:
    wanted = seen(*cell)
    assert kill_rig.play(*cell, wanted, signal.SIGKILL) == wanted
