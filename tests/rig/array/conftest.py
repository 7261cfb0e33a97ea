"""Fixtures: a running arrayd with three hosts, over a directory that is removed afterwards."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.rig.array.arrayrig import MIB, SCRATCH, ArrayProcess, Site, connected, running


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything below this directory needs root."""
    if os.geteuid() != 0:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skipif(True, reason="needs root"))


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory; whatever is in it is removed."""
    made = SCRATCH / uuid4().hex[:8]
    made.mkdir(parents=True)
    yield made
    shutil.rmtree(made)
    if not any(SCRATCH.iterdir()):
        SCRATCH.rmdir()


@pytest.fixture
def pool_size() -> int:
    return 1024 * MIB


@pytest.fixture
async def process(directory: Path, pool_size: int) -> AsyncIterator[ArrayProcess]:
    async with running(ArrayProcess(directory, pool_size=pool_size)) as started:
        yield started


@pytest.fixture
async def site(process: ArrayProcess) -> AsyncIterator[Site]:
    async with connected(process) as made:
        yield made
