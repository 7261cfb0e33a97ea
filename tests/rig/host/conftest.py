"""Fixtures of the host agent's rig; every test leaves the machine as it was."""

import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.rig.host.hostrig import FileArray, Host, Place

ROOT = Path("/tmp/host")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skipif(True, reason="needs root"))


@pytest.fixture
def place() -> Iterator[Place]:
    """Directories for one host and one array, and what is left in them is an error."""
    ROOT.mkdir(exist_ok=True)
    made = Place(Path(tempfile.mkdtemp(dir=ROOT)))
    made.make()
    yield made
    left = made.clean_up()
    if not any(ROOT.iterdir()):
        ROOT.rmdir()
    assert not left


@pytest.fixture
def guard(place: Place) -> subprocess.Popen[bytes]:
    return place.start_guard()


@pytest.fixture
async def array(place: Place) -> AsyncIterator[FileArray]:
    async with place.array() as served:
        yield served


@pytest.fixture
async def host(
    place: Place, array: FileArray, guard: subprocess.Popen[bytes]
) -> AsyncIterator[Host]:
    async with place.host() as running:
        yield running
