"""A running arrayd, and the array's provider as the service starts it on two hosts."""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from tests.rig.array.arrayrig import MIB, ONE, TWO, ArrayProcess, Site, connected, running
from vssemu.api import provider as api
from vssemu.service.runner import Runner, spawn
from vssemu.vss.identity import Initiator
from vssemu.vss.provider import HostIdentity

SCRATCH = Path("/tmp/providers")
COMMAND = (
    sys.executable,
    "-m",
    "vssemu.daemons.provider_runner",
    "vssemu.providers.array:ArrayProvider",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this directory needs root."""
    if os.geteuid() != 0:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skipif(True, reason="needs root"))


@pytest.fixture
def directory() -> Iterator[Path]:
    made = SCRATCH / uuid4().hex[:8]
    made.mkdir(parents=True)
    yield made
    shutil.rmtree(made)
    if not any(SCRATCH.iterdir()):
        SCRATCH.rmdir()


@pytest.fixture
async def site(directory: Path) -> AsyncIterator[Site]:
    async with (
        running(ArrayProcess(directory, pool_size=1024 * MIB)) as process,
        connected(process) as made,
    ):
        yield made


@asynccontextmanager
async def started(site: Site, directory: Path, name: Initiator) -> AsyncIterator[Runner]:
    """The provider's program for a host, loaded."""
    environment = {
        "VSSEMU_RUN": str(directory / f"run-{name}"),
        "VSSEMU_ARRAY_SOCKET": str(site.process.run / "hosts" / name / "array.sock"),
    }
    program = spawn(COMMAND, directory / f"{name}.sock", environment, "array")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.watch)
        try:
            async with await program.connection() as client:
                host = HostIdentity(machine=name, initiators=(name,))
                await client.call(api.on_load, host, {})
            yield program
        finally:
            with trio.CancelScope(shield=True):
                await program.kill()


@pytest.fixture
async def one(site: Site, directory: Path) -> AsyncIterator[Runner]:
    async with started(site, directory, ONE) as program:
        yield program


@pytest.fixture
async def two(site: Site, directory: Path) -> AsyncIterator[Runner]:
    async with started(site, directory, TWO) as program:
        yield program
