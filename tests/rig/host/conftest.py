"""Fixtures of the host agent's rig; every test leaves the machine as it was."""

import os
import tempfile
from pathlib import Path

import pytest
from hostrig import Place

ROOT = Path("/tmp/host")


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skipif(True, reason="needs root"))


@pytest.fixture
def place():
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
def guard(place):
    return place.start_guard()


@pytest.fixture
async def array(place):
    async with place.array() as served:
        yield served


@pytest.fixture
async def host(place, array, guard):
    async with place.host(array) as running:
        yield running
