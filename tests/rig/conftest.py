"""What every rig test stands on: a machine that can do it, and nothing left at the end."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from vssemu.linux import cgroup, loop

HERE = Path(__file__).parent


@cache
def lacks() -> str | None:
    """Return what this machine lacks for the rig, found by trying; None: nothing."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        number = loop.free_number()
        os.close(loop.open_device(number))
    except OSError as error:
        return f"no loop device can be had: {error}"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"no FUSE: {error}"
    base = cgroup.find_cgroup2()
    if base is None:
        return "no control groups of version 2 are mounted"
    probe = base / f"vssemu-probe-{os.getpid()}"
    try:
        cgroup.create(probe)
    except OSError as error:
        return f"no control group can be made: {error}"
    cgroup.remove(probe)
    return None


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
