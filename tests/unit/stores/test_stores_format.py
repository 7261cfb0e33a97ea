"""Where things lie in a store, and how they are packed, against a plain model."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.stores import format as layout

CHUNKS = st.sampled_from([1 << bits for bits in range(12, 21)])
NUMBERS = st.integers(0, 2**64 - 1)
SMALL = st.integers(0, 40)
PER = st.integers(1, 9)


@given(CHUNKS, st.booleans())
def test_header_comes_back(chunk_size: int, valid: bool) -> None:
    packed = layout.pack_header(chunk_size, valid=valid)
    assert layout.unpack_header(packed + bytes(100)) == (valid, chunk_size)


def test_header_is_as_the_kernel_has_it() -> None:
    assert layout.pack_header(4096) == bytes.fromhex("536e4170 01000000 01000000 08000000")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((0x70416E54, 1, 1, 8), "magic number is 0x70416e54, not 0x70416e53"),
        ((0x70416E53, 2, 1, 8), "mark of validity is 2"),
        ((0x70416E53, 1, 2, 8), "version is 2, not 1"),
        ((0x70416E53, 1, 1, 0), "chunks of 0 bytes"),
        ((0x70416E53, 1, 1, 4), "chunks of 2048 bytes"),
        ((0x70416E53, 1, 1, 24), "chunks of 12288 bytes"),
        ((0x70416E53, 1, 1, 4096), "chunks of 2097152 bytes"),
    ],
)
def test_other_headers_are_refused(fields: tuple[int, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        layout.unpack_header(struct.pack("<4I", *fields))


@given(st.lists(st.tuples(NUMBERS, st.integers(1, 2**64 - 1)), max_size=20))
def test_exceptions_come_back(exceptions: list[tuple[int, int]]) -> None:
    packed = layout.pack_exceptions(exceptions)
    assert list(layout.unpack_exceptions(packed)) == exceptions


@given(
    st.lists(st.tuples(NUMBERS, st.integers(1, 2**64 - 1)), max_size=9),
    NUMBERS,
    st.lists(st.tuples(NUMBERS, NUMBERS), max_size=9),
)
def test_reading_stops_at_the_first_new_chunk_0(
    exceptions: list[tuple[int, int]], old: int, rest: list[tuple[int, int]]
) -> None:
    packed = layout.pack_exceptions([*exceptions, (old, 0), *rest])
    assert list(layout.unpack_exceptions(packed)) == exceptions


def chunks_of_a_store(exceptions: int, per: int) -> list[str]:
    """Return what each chunk is, laid out one after another as the format's picture has it."""
    chunks = ["header", "area"]
    for number in range(exceptions):
        chunks.append("data")
        if (number + 1) % per == 0:
            chunks.append("area")
    return chunks


@given(SMALL, PER)
def test_layout_is_that_of_the_picture(exceptions: int, per: int) -> None:
    picture = chunks_of_a_store(exceptions, per)
    data = [chunk for chunk, what in enumerate(picture) if what == "data"]
    areas = [chunk for chunk, what in enumerate(picture) if what == "area"]
    assert layout.chunks_used(exceptions, per) == len(picture)
    assert [layout.data_chunk(number, per) for number in range(exceptions)] == data
    assert [layout.area_chunk(area, per) for area in range(len(areas))] == areas
    for chunk, what in enumerate(picture):
        assert layout.is_metadata(chunk, per) == (what != "data")


@given(SMALL, PER)
def test_chunks_are_handed_out_in_order_and_never_metadata(exceptions: int, per: int) -> None:
    handed, last = [], 0
    for _ in range(exceptions):
        last = layout.next_data_chunk(last, per)
        handed.append(last)
    assert handed == [layout.data_chunk(number, per) for number in range(exceptions)]
    assert not any(layout.is_metadata(chunk, per) for chunk in handed)


@given(st.integers(0, 3000), CHUNKS)
def test_exceptions_stand_in_their_areas(number: int, chunk_size: int) -> None:
    per = layout.exceptions_per_area(chunk_size)
    chunk, offset = divmod(layout.exception_offset(number, chunk_size), chunk_size)
    assert chunk == layout.area_chunk(number // per, per)
    assert offset == number % per * 16


@given(st.integers(0, 3000), st.sampled_from([4096, 8192]))
def test_capacity_is_what_fits(chunks: int, chunk_size: int) -> None:
    most = layout.capacity(chunks * chunk_size + 5, chunk_size)
    if chunks >= 2:
        assert layout.store_length(most, chunk_size) <= chunks * chunk_size
        assert layout.store_length(most + 1, chunk_size) > chunks * chunk_size
    else:
        assert most == 0
