"""Whole stores in files: written, read, seen through, and refused when they are damaged."""

import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.stores.format import (
    data_chunk,
    exception_offset,
    exceptions_per_area,
    pack_header,
    store_length,
)
from vssemu.stores.reading import read_header, read_store
from vssemu.stores.viewing import view_pieces
from vssemu.stores.writing import write_store
from vssemu.vss.errors import InvalidArgument

CHUNK = 4096
PER = 256


@pytest.fixture
def fd() -> Iterator[int]:
    """Return a descriptor of an empty file in memory."""
    descriptor = os.memfd_create("store")
    yield descriptor
    os.close(descriptor)


def filled(number: int, size: int = CHUNK) -> bytes:
    return struct.pack("<Q", number * 2654435761 + 1) * (size // 8)


@pytest.mark.parametrize("count", [0, 1, PER - 1, PER, PER + 1, 2 * PER])
def test_store_comes_back(fd: int, count: int) -> None:
    chunks = [(1_000_000 - number, filled(number)) for number in range(count)]
    assert write_store(fd, CHUNK, chunks) == count
    assert os.fstat(fd).st_size == store_length(count, CHUNK)
    store = read_store(fd, "store")
    assert store.valid
    assert store.old.tolist() == [old for old, _ in chunks]
    assert store.new.tolist() == [data_chunk(number, PER) for number in range(count)]
    assert store.next_chunk == data_chunk(count, PER)
    for (_, data), new in zip(chunks, store.new.tolist(), strict=True):
        assert os.pread(fd, CHUNK, new * CHUNK) == data


def test_zeroes_are_holes(fd: int) -> None:
    chunks = [(number, bytes(CHUNK) if number % 2 else filled(number)) for number in range(64)]
    write_store(fd, CHUNK, chunks)
    assert os.fstat(fd).st_blocks * 512 <= 34 * CHUNK
    for (_, data), new in zip(chunks, read_store(fd, "store").new.tolist(), strict=True):
        assert os.pread(fd, CHUNK, new * CHUNK) == data


def test_store_that_was_given_up_is_none(fd: int) -> None:
    def broken() -> Iterator[tuple[int, bytes]]:
        for number in range(PER + 5):
            yield number, filled(number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(fd, CHUNK, broken())
    with pytest.raises(InvalidArgument, match="magic number is 0x00000000"):
        read_header(fd, "store")


def test_chunk_of_another_length_is_refused(fd: int) -> None:
    with pytest.raises(ValueError, match="chunk 7 has 5 bytes, not 4096"):
        write_store(fd, CHUNK, [(7, b"short")])


def test_million_exceptions_come_back_in_their_order(tmp_path: Path) -> None:
    """The table alone, sparse: no data chunk is written. O_DIRECT, as a server has it."""
    count, per = 1_000_000, exceptions_per_area(CHUNK)
    old = np.arange(count, dtype="<u8")
    np.random.default_rng(1).shuffle(old)
    number = np.arange(count, dtype="<u8")
    table = np.stack([old, 2 + number + number // per], axis=1)
    path = tmp_path / "store"
    with path.open("wb") as file:
        file.truncate(store_length(count, CHUNK))
        file.write(pack_header(CHUNK))
        for first in range(0, count, per):
            file.seek(exception_offset(first, CHUNK))
            file.write(table[first : first + per].tobytes())
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        store = read_store(fd, "store", origin_size=count * CHUNK)
    finally:
        os.close(fd)
    assert len(store) == count
    assert (store.old == old).all()
    assert store.next_chunk == data_chunk(count, per)


def put(fd: int, number: int, old: int, new: int) -> None:
    os.pwrite(fd, struct.pack("<QQ", old, new), exception_offset(number, CHUNK))


@pytest.mark.parametrize(
    ("number", "old", "new", "text"),
    [
        (2, 2, 300, r"exception 2 \(chunk 2, kept in 300\) names data beyond the end"),
        (3, 3, 1, "exception 3 .* names data in a chunk of the table"),
        (3, 3, 258, "exception 3 .* names data in a chunk of the table"),
        (4, 4, 3, "exception 4 .* names data that another exception has"),
        (4, 1, 6, "exception 4 .* names a chunk that another exception has"),
        (5, 16, 7, "exception 5 .* names a chunk that an origin of 65536 bytes lacks"),
    ],
)
def test_exceptions_that_cannot_be_are_refused(
    fd: int, number: int, old: int, new: int, text: str
) -> None:
    write_store(fd, CHUNK, [(chunk, filled(chunk)) for chunk in range(10)])
    os.ftruncate(fd, 280 * CHUNK)
    put(fd, number, old, new)
    with pytest.raises(InvalidArgument, match=text) as refused:
        read_store(fd, "/some/store", origin_size=16 * CHUNK)
    assert refused.value.item == "/some/store"
    assert "give a store that dm-snapshot wrote" in str(refused.value)


def test_table_that_ends_with_the_file_is_refused(fd: int) -> None:
    write_store(fd, CHUNK, [(chunk, filled(chunk)) for chunk in range(PER)])
    os.ftruncate(fd, store_length(PER, CHUNK) - CHUNK)
    with pytest.raises(InvalidArgument, match="it ends before area 1 of its table"):
        read_store(fd, "store")


def test_file_without_a_header_is_refused(fd: int) -> None:
    with pytest.raises(InvalidArgument, match="it has 0 bytes, too few for a header"):
        read_store(fd, "store")


@given(
    st.integers(0, 2**32),
    st.sampled_from([4096, 65536, 1 << 20]),
    st.integers(0, 40),
    st.integers(1, 3 * 256),
)
def test_view_is_the_origin_with_the_chunks_of_the_store(
    seed: int, chunk_size: int, count: int, sectors_short: int
) -> None:
    """Sizes of origins are no multiple of the chunk size, most times."""
    dice = random.Random(seed)
    origin = bytearray(dice.randbytes(4 << 20)[: (4 << 20) - sectors_short * 512])
    size = len(origin)
    every = -(-size // chunk_size)
    chosen = dice.sample(range(every), min(count, every))
    chunks = [(chunk, dice.randbytes(chunk_size)) for chunk in chosen]
    first, second = os.memfd_create("origin"), os.memfd_create("store")
    try:
        os.pwrite(first, origin, 0)
        write_store(second, chunk_size, chunks)
        store = read_store(second, "store", origin_size=size)
        view = b"".join(view_pieces(first, size, second, store))
    finally:
        os.close(first)
        os.close(second)
    for chunk, data in chunks:
        origin[chunk * chunk_size : (chunk + 1) * chunk_size] = data
    assert view == origin[:size]
