"""The converging clone: most of a clone is made before writes are held.

A clone of N extents takes 10 us and more an extent, and nobody writes to the source meanwhile.
Cloned once more onto the same target, an extent that both have at the same address is passed
over (xfs since Linux 5.9), which takes a tenth of that or less. So the source is cloned

    1. in slices, with pauses in which its writers go on;
    2. again in slices, for what was written meanwhile: a rehearsal, whose time is what the
       hold would take now, and which leaves less to do;
    3. whole, in one call, while writes are held.

The last call alone decides what the copy is: every byte as the source had it then, whatever
became of the source before (discards, write-zeroes, a new size, older clones that came or
went). Where a file system passes nothing over, it is as right, and only as slow as ever.
"""

import os
import time
from collections.abc import Callable
from typing import Final

from vssemu.array.engines.reflink.maps import slices
from vssemu.linux import fiemap, reflink

SLICE_EXTENTS: Final = 250
"""A slice takes some 5 ms then, for which writers wait."""

SLICE_BYTES: Final = 64 << 20
"""Of extents: they may be in many pieces by the time that they are cloned again."""

Breathe = Callable[[float], None]
"""Called between two slices with the seconds that the last one took; what it raises ends it."""


class ConvergingClone:
    """A clone in the making. source, target: open files, closed by `close`."""

    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._target = target
        self._slices: list[tuple[int, int]] = []

    def begin(self, breathe: Breathe) -> None:
        """Clone the source for the first time. Raises OSError: ENOSPC."""
        size = os.fstat(self._source).st_size
        found = fiemap.extents(self._source)
        cut = slices(found, size, extents=SLICE_EXTENTS, mapped=SLICE_BYTES)
        self._slices = list(cut)
        self.rehearse(breathe)

    def rehearse(self, breathe: Breathe) -> float:
        """Clone what was written since; return the seconds that it took. Raises OSError."""
        seconds = 0.0
        last = len(self._slices) - 1
        for number, (offset, length) in enumerate(self._slices):
            begin = time.perf_counter()
            reflink.clone_range(
                self._source,
                self._target,
                source_offset=offset,
                # 0 stands for all that follows: the source may have grown.
                length=0 if number == last else length,
                offset=offset,
            )
            took = time.perf_counter() - begin
            seconds += took
            breathe(took)
        return seconds

    def finish(self) -> int:
        """Make the target what the source is now, for good; return its size in bytes.

        No rehearsal may be under way; a later one does nothing. Raises OSError.
        """
        self._slices = []
        reflink.clone(self._source, self._target)
        return os.fstat(self._target).st_size

    def close(self) -> None:
        """Close both files."""
        os.close(self._source)
        os.close(self._target)
