"""A chain keeps what the kernel's dm-snapshot keeps, byte for byte."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.lunfs.chains import Driver, directory
from tests.unit.stores import kernelstores

SECTOR = 512
BLOCK = 4096
SIZE = 131072 * SECTOR
STORES = {"c8": 32768 * SECTOR, "c8over": 2048 * SECTOR}


@pytest.fixture(params=[True, False], ids=["power", "process"])
def power(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def driver(power: bool) -> Iterator[Driver]:
    with directory() as path:
        driver = Driver(path, SIZE, chunk_size=8 * SECTOR, power=power)
        driver.write("origin", kernelstores.tagged("ORIG", 0, SIZE // SECTOR), 0)
        yield driver
        driver.close()


def _patch(driver: Driver, name: str, data: bytes, sector: int) -> None:
    """Write sectors the way whoever sits on 4 KiB blocks does it: whole blocks."""
    offset = sector * SECTOR
    start = offset - offset % BLOCK
    end = -(-(offset + len(data)) // BLOCK) * BLOCK
    blocks = bytearray(driver.read(name, end - start, start))
    blocks[offset - start : offset - start + len(data)] = data
    driver.write(name, bytes(blocks), start)


def _replay(driver: Driver, name: str) -> None:
    driver.snapshot("snapshot", store=STORES[name])
    for write in kernelstores.writes(name):
        _patch(driver, "origin" if write.to_origin else "snapshot", write.data, write.sector)


def _store(path: Path) -> bytes:
    return (path / "snapshot").read_bytes()


def test_the_store_is_the_kernels(driver: Driver) -> None:
    _replay(driver, "c8")
    digests = kernelstores.digests("c8")
    assert kernelstores.sha256(driver.whole("snapshot")) == digests["SNAPSHOT view"]
    assert kernelstores.sha256(driver.whole("origin")) == digests["ORIGIN"]
    assert _store(driver.path) == kernelstores.image("c8-cow")


def test_the_store_is_the_kernels_when_it_has_overflowed(driver: Driver) -> None:
    _replay(driver, "c8over")
    expected = kernelstores.image("c8over-origin")
    for chunk in range(1000, SIZE // BLOCK):
        data = expected[chunk * BLOCK : (chunk + 1) * BLOCK]
        if data == kernelstores.tagged("ORIG", chunk * 8, 8):
            break
        driver.write("origin", data, chunk * BLOCK)
    with pytest.raises(OSError, match="Input/output error") as raised:
        driver.whole("snapshot")
    assert raised.value.errno == errno.EIO
    assert kernelstores.sha256(driver.whole("origin")) == kernelstores.digests("c8over")["ORIGIN"]
    assert _store(driver.path) == kernelstores.image("c8over-cow")
