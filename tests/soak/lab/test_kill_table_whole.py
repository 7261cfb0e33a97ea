"""The whole kill table: every victim at every row of every sequence, and some that hang.

A quarter of an hour on two cores. `VSSEMU_KILL_POINTS=import,delete` plays some sequences alone.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.rig.lab.conftest import Labs
from tests.rig.lab.killrig import KillRig
from tests.rig.lab.killtable import HANGS, WHOLE, Point, Victim, name_of, seen

SEQUENCES = os.environ.get("VSSEMU_KILL_POINTS", "creation,import,delete,break").split(",")


@pytest.fixture(scope="module")
def kill_rig(labs: Labs) -> Iterator[KillRig]:
    rig = KillRig(labs)
    yield rig
    rig.close()


@pytest.mark.parametrize("cell", [c for c in WHOLE if c[1].sequence in SEQUENCES], ids=name_of)
def test_a_kill_leaves_what_the_table_says(kill_rig: KillRig, cell: tuple[Victim, Point]) -> None:
    wanted = seen(*cell)
    assert kill_rig.play(*cell, wanted, signal.SIGKILL) == wanted


@pytest.mark.timeout(400)
@pytest.mark.parametrize("cell", HANGS, ids=name_of)
def test_who_hangs_is_not_waited_for_for_ever(
    kill_rig: KillRig, cell: tuple[Victim, Point]
) -> None:
    wanted = HANGS[cell]
    assert kill_rig.play(*cell, wanted, signal.SIGSTOP) == wanted
