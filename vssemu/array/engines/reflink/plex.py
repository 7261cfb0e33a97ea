"""Full copies (plexes): a LUN with blocks of its own, which shares none with its origin.

    image     the copy; equals `copied`, but for what is being written to it
    copied    a clone that keeps the blocks of which `image` has the bytes
    point     the converging clone of the origin; at last, the origin at the instant

What differs between `copied` and `point` by address is copied from `point` to `image`. Since
`copied` keeps its blocks, none of them is used again under the same address with other bytes.
The last of it is copied after the hold; before, the copy's truth is `point`. It all follows
from the files: when it was interrupted after the instant, it is done again.
"""

import mmap
import os
from typing import Final

from vssemu.array.engines.files import IMAGE, LunFiles, opened
from vssemu.array.engines.reflink.converging import Breathe, ConvergingClone
from vssemu.array.engines.reflink.maps import Range, differing
from vssemu.linux import fiemap, reflink
from vssemu.vss.identity import LunId

POINT: Final = "point"
COPIED: Final = "copied"
CHUNK: Final = 1 << 20

_ENOUGH: Final = 16 << 20
"""Bytes that may be left to be copied after the hold."""

_ROUNDS: Final = 5


class FullCopy:
    """A full copy in the making; its point in time is a converging clone."""

    def __init__(self, files: LunFiles, lun: LunId, source: int) -> None:
        os.close(files.make(lun, IMAGE))
        os.close(files.make(lun, COPIED))
        self._files = files
        self._lun = lun
        self.point = ConvergingClone(source, files.make(lun, POINT))

    def copy_first(self, breathe: Breathe) -> None:
        """Copy all that the point in time has; it must have begun. Raises OSError: ENOSPC."""
        _catch_up(self._files, self._lun, breathe)

    def catch_up(self, breathe: Breathe) -> None:
        """Copy what was written since, until little is left or it gets no less."""
        last = None
        for _ in range(_ROUNDS):
            self.point.rehearse(breathe)
            left = sum(each.length for each in _left(self._files, self._lun))
            if left <= _ENOUGH or (last is not None and left > last // 2):
                return
            _catch_up(self._files, self._lun, breathe)
            last = left


def complete(files: LunFiles, lun: LunId) -> None:
    """Copy what is left after the hold, durably, and drop what only the copying needed.

    Again, or for a copy that is complete, is no error. Raises OSError: ENOSPC.
    """
    if files.path(lun, POINT).exists():
        _catch_up(files, lun, lambda took: None)
        with opened(files.path(lun, IMAGE), os.O_RDONLY) as image:
            os.fsync(image)
        files.path(lun, POINT).unlink()
    files.path(lun, COPIED).unlink(missing_ok=True)


def _left(files: LunFiles, lun: LunId) -> list[Range]:
    with (
        opened(files.path(lun, POINT), os.O_RDONLY) as point,
        opened(files.path(lun, COPIED), os.O_RDONLY) as copied,
    ):
        return differing(fiemap.extents(copied), fiemap.extents(point))


def _catch_up(files: LunFiles, lun: LunId, breathe: Breathe) -> None:
    """Make the image what the point in time is, and note what it has."""
    with (
        opened(files.path(lun, POINT), os.O_RDONLY | os.O_DIRECT) as point,
        opened(files.path(lun, IMAGE), os.O_RDWR | os.O_DIRECT) as image,
        opened(files.path(lun, COPIED), os.O_RDWR) as copied,
        mmap.mmap(-1, CHUNK) as room,
    ):
        os.ftruncate(image, os.fstat(point).st_size)
        for each in _left(files, lun):
            if each.is_hole:
                # A hole is cloned as a hole: no block comes to be shared.
                reflink.clone_range(
                    point, image, source_offset=each.offset, length=each.length, offset=each.offset
                )
            else:
                _copy(point, image, each, room, breathe)
        reflink.clone(point, copied)


def _copy(source: int, target: int, what: Range, room: mmap.mmap, breathe: Breathe) -> None:
    offset, end = what.offset, what.offset + what.length
    while offset < end:
        with memoryview(room)[: min(CHUNK, end - offset)] as piece:
            count = os.preadv(source, [piece], offset)
            assert count, "a file has no bytes where its map has an extent"
            written = os.pwritev(target, [piece[:count]], offset)
        offset += written
        breathe(0.0)
