"""Differences and slices of extent maps, against a plain model block by block."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vssemu.array.engines.reflink.maps import Range, differing, slices
from vssemu.linux.fiemap import ExtentFlag, Extents

BLOCK = 4096
UNWRITTEN, UNSURE = int(ExtentFlag.UNWRITTEN), int(ExtentFlag.ENCODED)

Piece = tuple[int, int, int, int]
"""Blocks of hole before it, its length in blocks, its physical block, its flags."""


def extents(*pieces: tuple[int, int, int, int]) -> Extents:
    """Return a map; pieces: logical, physical, length in blocks, flags."""
    columns = list(zip(*pieces, strict=True)) if pieces else [(), (), (), ()]
    logical, physical, length = (np.array(column, dtype=np.int64) for column in columns[:3])
    return Extents(
        logical=logical * BLOCK,
        physical=physical * BLOCK,
        length=length * BLOCK,
        flags=np.array(columns[3], dtype=np.uint32),
    )


def laid_out(pieces: list[Piece]) -> Extents:
    at, placed = 0, []
    for hole, length, physical, flags in pieces:
        placed.append((at + hole, physical, length, flags))
        at += hole + length
    return extents(*placed)


def blocks(given_map: Extents) -> dict[int, int | None]:
    """Return the physical block of each written block; None for one that is not told."""
    model: dict[int, int | None] = {}
    columns = (given_map.logical, given_map.physical, given_map.length, given_map.flags)
    for logical, physical, length, flags in zip(*columns, strict=True):
        for number in range(int(length) // BLOCK):
            if not flags & UNWRITTEN:
                place = None if flags & UNSURE else int(physical) // BLOCK + number
                model[int(logical) // BLOCK + number] = place
    return model


FLAGS = st.sampled_from([0, 0, 0, int(ExtentFlag.SHARED), UNWRITTEN, UNSURE])
# Few places, so that pieces of two maps often are the same.
PIECES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 12), FLAGS), max_size=12
)


@given(PIECES, PIECES, st.integers(0, 12))
def test_differing_blocks_are_those_of_a_model(
    one: list[Piece], other: list[Piece], common: int
) -> None:
    old, new = laid_out(one), laid_out(one[:common] + other)
    before, after = blocks(old), blocks(new)
    expected = {
        number
        for number in before.keys() | after.keys()
        if before.get(number, -1) != after.get(number, -1) or before.get(number, -1) is None
    }
    found = differing(old, new)
    covered = [
        number
        for each in found
        for number in range(each.offset // BLOCK, (each.offset + each.length) // BLOCK)
    ]
    assert covered == sorted(expected)
    for each in found:
        inside = range(each.offset // BLOCK, (each.offset + each.length) // BLOCK)
        assert {number not in after for number in inside} == {each.is_hole}


@given(PIECES, PIECES)
def test_neighbours_of_one_kind_are_one_range(one: list[Piece], other: list[Piece]) -> None:
    for left, right in pairwise(differing(laid_out(one), laid_out(other))):
        touching = left.offset + left.length == right.offset
        assert left.offset + left.length <= right.offset
        assert not touching or left.is_hole != right.is_hole


def test_a_shared_block_of_another_address_differs() -> None:
    shared = int(ExtentFlag.SHARED)
    assert differing(extents((0, 7, 1, shared)), extents((0, 8, 1, shared))) == [Range(0, BLOCK)]
    assert differing(extents((0, 7, 1, shared)), extents((0, 7, 1, 0))) == []


def test_a_discarded_range_differs_as_a_hole() -> None:
    old, new = extents((0, 10, 8, 0)), extents((0, 10, 2, 0), (5, 15, 3, 0))
    assert differing(old, new) == [Range(2 * BLOCK, 3 * BLOCK, is_hole=True)]


def test_an_extent_in_pieces_equals_itself_whole() -> None:
    whole, pieces = extents((4, 20, 6, 0)), extents((4, 20, 2, 0), (6, 22, 1, 0), (7, 23, 3, 0))
    assert differing(whole, pieces) == differing(pieces, whole) == []


@given(PIECES, st.integers(1, 4), st.integers(1, 40))
def test_slices_are_the_whole_file_in_order_and_not_too_large(
    pieces: list[Piece], most_extents: int, most_blocks: int
) -> None:
    given_map = laid_out(pieces)
    last = int(given_map.logical[-1] + given_map.length[-1]) if pieces else 0
    size = last + 7 * BLOCK
    cut = list(slices(given_map, size, extents=most_extents, mapped=most_blocks * BLOCK))
    assert [offset for offset, _ in cut] == [0, *(offset + length for offset, length in cut[:-1])]
    assert sum(length for _, length in cut) == size
    for offset, length in cut:
        begins = np.maximum(given_map.logical, offset)
        ends = np.minimum(given_map.logical + given_map.length, offset + length)
        inside = np.maximum(ends - begins, 0)
        assert inside.sum() <= most_blocks * BLOCK
        assert (inside > 0).sum() <= most_extents


def test_a_file_that_shrank_under_its_map_is_cut_at_its_end() -> None:
    given_map = extents((0, 5, 100, 0))
    assert list(slices(given_map, 8 * BLOCK, extents=250, mapped=6 * BLOCK)) == [
        (0, 6 * BLOCK),
        (6 * BLOCK, 2 * BLOCK),
    ]
