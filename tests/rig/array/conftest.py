"""Fixtures: a running arrayd with three hosts, over a directory that is removed afterwards."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.rig.array.arrayrig import ENGINE, MIB, SCRATCH, ArrayProcess, Site, connected, running
from tests.rig.array.convergingrig import Bench, pool


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
def engine() -> str:
    return ENGINE


@pytest.fixture
async def process(directory: Path, pool_size: int, engine: str) -> AsyncIterator[ArrayProcess]:
    made = ArrayProcess(directory, pool_size=pool_size, engine=engine)
    async with running(made) as started:
        yield started


@pytest.fixture(scope="module")
def pool_directory() -> Iterator[Path]:
    """A mounted pool's directory of LUNs, without an array, for all tests of a module."""
    made = SCRATCH / uuid4().hex[:8]
    made.mkdir(parents=True)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, made)
        yield stack.enter_context(pool(made))


@pytest.fixture
def bench(pool_directory: Path) -> Iterator[Bench]:
    """An engine over that pool."""
    made = Bench(pool_directory)
    yield made
    made.engine.close()


@pytest.fixture
async def site(process: ArrayProcess) -> AsyncIterator[Site]:
    async with connected(process) as made:
        yield made
