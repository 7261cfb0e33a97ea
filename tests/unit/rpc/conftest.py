import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.unit.rpc.example import Shop, decode_error, serve
from vssemu.rpc.client_trio import Client, connect


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def path(tmp_path: Path, shop: Shop) -> AsyncIterator[Path]:
    """The socket of a running service; 64 KiB a message keeps the tests small."""
    where = tmp_path / "s"
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, where, shop, max_message=65536))
            yield where
            nursery.cancel_scope.cancel()


@pytest.fixture
async def client(path: Path) -> AsyncIterator[Client]:
    async with await connect(path, decode_error=decode_error) as client:
        yield client


@pytest.fixture
def open_descriptors() -> Callable[[], set[str]]:
    """What /proc/self/fd points to, but for the directory's own descriptor."""

    def look() -> set[str]:
        found = set()
        for entry in Path("/proc/self/fd").iterdir():
            try:
                found.add(f"{entry.name} {entry.readlink()}")
            except FileNotFoundError:
                continue
        return found

    return look


@pytest.fixture
def null() -> Iterator[int]:
    """An open descriptor to pass around."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)
