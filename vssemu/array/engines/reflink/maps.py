"""What follows from extent maps: where two files differ, and slices for work in steps.

Pure. Two files of one file system have the same bytes where they have the same blocks, as long
as neither lets go of them: a block that two files share is never written in place. The converse
does not hold, so "differ" here means "may differ". That a block is shared says nothing of with
whom; only the addresses do.

Costs go with the number of extents, not with the files' sizes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vssemu.linux.fiemap import ExtentFlag, Extents

_HOLE: Final = -1
_UNSURE: Final = (
    ExtentFlag.UNKNOWN
    | ExtentFlag.DELAYED
    | ExtentFlag.ENCODED
    | ExtentFlag.NOT_ALIGNED
    | ExtentFlag.INLINE
)


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a file from `offset` on. is_hole: nothing is written there."""

    offset: int
    length: int
    is_hole: bool = False


def differing(old: Extents, new: Extents) -> list[Range]:
    """Return where `new` may differ from `old`, in order, each range all hole in `new` or not.

    Unwritten extents are holes. An extent whose address does not say where its bytes are
    (compressed, not allocated yet, inline) differs from everything.
    """
    old, new = _unmatched(_written(old), _written(new))
    cuts = np.unique(
        np.concatenate(
            (old.logical, old.logical + old.length, new.logical, new.logical + new.length)
        )
    )
    if len(cuts) < 2:
        return []
    starts, ends = cuts[:-1], cuts[1:]
    before, was_unsure = _at(old, starts)
    after, is_unsure = _at(new, starts)
    differs = (before != after) | was_unsure | is_unsure
    return _joined(starts[differs], ends[differs], after[differs] == _HOLE)


def _written(given: Extents) -> Extents:
    return _chosen(given, (given.flags & ExtentFlag.UNWRITTEN) == 0)


def _chosen(given: Extents, mask: NDArray[np.bool_]) -> Extents:
    return Extents(
        logical=given.logical[mask],
        physical=given.physical[mask],
        length=given.length[mask],
        flags=given.flags[mask],
    )


def _unmatched(old: Extents, new: Extents) -> tuple[Extents, Extents]:
    """Leave out the extents that both maps have alike, which mostly are nearly all."""
    if not len(old) or not len(new):
        return old, new
    index = np.minimum(np.searchsorted(old.logical, new.logical), len(old) - 1)
    same = (
        (old.logical[index] == new.logical)
        & (old.physical[index] == new.physical)
        & (old.length[index] == new.length)
        & (((old.flags[index] | new.flags) & _UNSURE) == 0)
    )
    kept = np.ones(len(old), dtype=np.bool_)
    kept[index[same]] = False
    return _chosen(old, kept), _chosen(new, ~same)


def _at(given: Extents, offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the address of the byte at each offset, and whether it says nothing."""
    if not len(given):
        return np.full(len(offsets), _HOLE), np.zeros(len(offsets), dtype=np.bool_)
    index = np.searchsorted(given.logical, offsets, side="right") - 1
    into = offsets - given.logical[index]
    inside = (index >= 0) & (into < given.length[index])
    unsure = inside & ((given.flags[index] & _UNSURE) != 0)
    return np.where(inside, given.physical[index] + into, _HOLE), unsure


def _joined(
    starts: NDArray[np.int64], ends: NDArray[np.int64], holes: NDArray[np.bool_]
) -> list[Range]:
    """Return ranges with neighbours of one kind joined."""
    if not len(starts):
        return []
    breaks = np.flatnonzero((starts[1:] != ends[:-1]) | (holes[1:] != holes[:-1])) + 1
    firsts = np.concatenate(([0], breaks))
    lasts = np.concatenate((breaks, [len(starts)])) - 1
    return [
        Range(int(starts[first]), int(ends[last] - starts[first]), bool(holes[first]))
        for first, last in zip(firsts, lasts, strict=True)
    ]


def slices(given: Extents, size: int, *, extents: int, mapped: int) -> Iterator[tuple[int, int]]:
    """Yield offset and length of slices that together are the whole of a file.

    size: of the file in bytes. extents: in a slice at most. mapped: bytes of extents in a
    slice at most; a longer extent is cut, and holes count for nothing.
    """
    begin = 0
    for cut in _cuts(given, extents=extents, mapped=mapped):
        if begin < cut < size:
            yield begin, cut - begin
            begin = cut
    if begin < size:
        yield begin, size - begin


def _cuts(given: Extents, *, extents: int, mapped: int) -> Iterator[int]:
    """Yield the offsets at which a slice is full, in order."""
    if not len(given):
        return
    ends = np.cumsum(given.length)
    starts = ends - given.length
    full = np.arange(mapped, int(ends[-1]), mapped)
    index = np.searchsorted(ends, full, side="right")
    by_bytes = given.logical[index] + (full - starts[index])
    by_number = given.logical[extents::extents]
    yield from np.unique(np.concatenate((by_bytes, by_number))).tolist()
