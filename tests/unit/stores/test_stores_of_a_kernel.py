"""Stores that a Linux 6.1 kernel wrote: read, and written once more, byte for byte."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.stores.kernelstores import SECTOR, digests, image, log, sha256, tagged, writes
from vssemu.stores.format import (
    capacity,
    chunks_used,
    exceptions_per_area,
    pack_header,
    store_length,
)
from vssemu.stores.reading import Store, read_store
from vssemu.stores.viewing import view_digest
from vssemu.stores.writing import write_store

CHUNK = 8 * SECTOR

Open = Callable[[bytes], int]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Return a function that gives a descriptor of bytes in a file."""
    descriptors: list[int] = []

    def open_(data: bytes) -> int:
        path = tmp_path / f"file{len(descriptors)}"
        path.write_bytes(data)
        descriptors.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return descriptors[-1]

    yield open_
    for descriptor in descriptors:
        os.close(descriptor)


def read(opened: Open, name: str) -> tuple[int, Store]:
    fd = opened(image(f"{name}-cow"))
    return fd, read_store(fd, name, origin_size=len(image(f"{name}-origin")))


def test_table_is_what_the_log_says(opened: Open) -> None:
    _, store = read(opened, "c8")
    assert (store.chunk_size, store.valid) == (CHUNK, True)
    assert store.old.tolist() == [5, 0, 100, 101, 102, 16383, 200, 300, 301]
    assert store.new.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert store.next_chunk == 11
    used = chunks_used(len(store), exceptions_per_area(CHUNK)) * CHUNK // SECTOR
    assert f"-> status {used}/32768 16\nsha256" in log("c8")


def test_view_has_the_digest_of_the_kernel(opened: Open) -> None:
    fd, store = read(opened, "c8")
    origin = image("c8-origin")
    assert sha256(origin) == digests("c8")["ORIGIN"]
    steps: list[int] = []
    found = view_digest(opened(origin), len(origin), fd, store, steps.append)
    assert found == digests("c8")["SNAPSHOT view"]
    assert steps[-1] == len(origin)


def test_overflowed_store_is_invalid_and_full(opened: Open) -> None:
    _, store = read(opened, "c8over")
    assert not store.valid
    assert len(store) == capacity(2048 * SECTOR, CHUNK) == 254
    assert store.old.tolist()[9:] == list(range(1000, 1000 + 254 - 9))


def copies(before: bytes, name: str) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return what the writes of a log make of a snapshot and its origin, by the rules alone."""
    origin, kept = bytearray(before), dict[int, bytearray]()
    for write in writes(name):
        start, end = write.sector * SECTOR, (write.sector + write.count) * SECTOR
        for chunk in range(start // CHUNK, -(-end // CHUNK)):
            first = chunk * CHUNK
            own = kept.setdefault(chunk, bytearray(origin[first : first + CHUNK]))
            if not write.to_origin:
                low, high = max(start, first), min(end, first + CHUNK)
                own[low - first : high - first] = write.data[low - start : high - start]
        if write.to_origin:
            origin[start:end] = write.data
    return [(chunk, bytes(data)) for chunk, data in kept.items()], bytes(origin)


def test_same_writes_make_the_same_store(tmp_path: Path) -> None:
    before = tagged("ORIG", 0, 131072)
    assert sha256(before) == digests("c8")["origin before"]
    assert len(writes("c8")) == 10
    chunks, after = copies(before, "c8")
    assert after == image("c8-origin")
    path = tmp_path / "store"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        assert write_store(fd, CHUNK, chunks) == 9
    finally:
        os.close(fd)
    ours, kernels = path.read_bytes(), image("c8-cow")
    assert len(ours) == store_length(9, CHUNK) == 11 * CHUNK
    for chunk in range(11):
        place = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        assert ours[place] == kernels[place], f"chunk {chunk}"


def test_header_of_an_overflowed_store_is_what_the_kernel_wrote() -> None:
    assert image("c8over-cow")[:CHUNK] == pack_header(CHUNK, valid=False).ljust(CHUNK, b"\0")
