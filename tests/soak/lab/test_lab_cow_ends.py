"""Labs of the cow engine that end in other orders than those that `make test` has time for."""

from collections.abc import Callable

import pytest

from tests.rig.lab.labrig import Rig, sigkill_everything
from tests.rig.lab.test_lab_cow import kill_supervisor_then_shards, take_away_after


@pytest.mark.parametrize("end", [kill_supervisor_then_shards, sigkill_everything])
def test_a_lab_is_taken_away_whatever_of_it_is_dead(
    own_lab: Callable[..., Rig], end: Callable[[Rig], None]
) -> None:
    take_away_after(end, own_lab)
