"""What every rig test stands on: a machine that can do it, and nothing left at the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vssemu.conformance.machine import lacks
from vssemu.linux import loop

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the rig where the machine cannot carry it."""
    mine = [item for item in items if HERE in item.path.parents]
    if mine and (why := lacks()):
        for item in mine:
            item.add_marker(pytest.mark.skipif(True, reason=why))


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """At the end of the run no loop device and no mount lies on a directory of the run."""
    yield
    base = f"{tmp_path_factory.getbasetemp()}/"
    left = [
        f"loop{bound.number} is bound to {bound.backing_file}"
        for bound in loop.bound_loops()
        if base in bound.backing_file
    ]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    left += [f"mounted: {line}" for line in mounts if base in line]
    assert not left, "the run left: " + "; ".join(left)
