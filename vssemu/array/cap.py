"""The cap of a sparse pool image: what the disk below could not back is not there to be had.

The image may be larger than its disk, and the disk fills with anybody's files. A write for
which the disk has no block would end the pool's file system, so the pool is kept from giving
out more than there is:

    image size - cap  <=  bytes that the image has on the disk + bytes free there - a margin

The cap is a file in the pool that holds the rest: allocated, never written, and with no bytes
below, for the image is punched where the cap lies. The pool's own writes move bytes from one
side of the right to the other, so they never make the cap too small; only others do, who use
the disk. It is fitted at every look then, by taking free blocks of the pool: when there are
none, room is scarce, and snapshots end as in any full pool.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vssemu.linux import fallocate, fiemap

_BLOCK: Final = 4096
_LEAST: Final = 1 << 20
_STEP_SHARE: Final = 512
_SMALLEST_STEP: Final = 4 << 20
_LARGEST_STEP: Final = 256 << 20
_MARGIN_SHARE: Final = 32
_SMALLEST_MARGIN: Final = 16 << 20
_LARGEST_MARGIN: Final = 256 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Cap:
    """The cap of one image. path: its file in the pool, which is mounted."""

    path: Path
    image: Path

    def held(self) -> int:
        """Return the bytes that it takes from the pool. Raises OSError."""
        try:
            return self.path.stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def missing(self) -> int:
        """Return the bytes by which it is too small, 0 or less when it is not.

        Costs microseconds. Raises OSError.
        """
        facts, disk = self.image.stat(), os.statvfs(self.image.parent)
        margin = _share(disk.f_blocks * disk.f_frsize, _MARGIN_SHARE, _SMALLEST_MARGIN)
        free = max(disk.f_bavail * disk.f_frsize - min(margin, _LARGEST_MARGIN), 0)
        wanted = facts.st_size - facts.st_blocks * 512 - free
        return max(wanted, 0) - self.held()

    def is_misfit(self) -> bool:
        """Tell whether it is too small, or much larger than need be. Raises OSError."""
        missing = self.missing()
        return missing > 0 or missing < -3 * self._step()

    def fit(self) -> None:
        """Make it as large as is wanted, and a step more; as far as the pool has free blocks.

        Takes milliseconds. Raises OSError.
        """
        missing = self.missing()
        held = self.held()
        wanted = held + missing
        size = (wanted + self._step() if wanted else 0) // _BLOCK * _BLOCK
        if size < held:
            os.truncate(self.path, size)
        elif missing > 0:
            self._grow(held, size)

    def _grow(self, held: int, size: int) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while (more := min(size - held, self._left())) >= _LEAST:
                try:
                    fallocate.allocate(descriptor, more, offset=held)
                    break
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    # It takes all or nothing, and others take some meanwhile.
                    size = held + more // 2 // _BLOCK * _BLOCK
            self._punch_below(descriptor)
        finally:
            os.close(descriptor)

    def _left(self) -> int:
        facts = os.statvfs(self.path.parent)
        return facts.f_bavail * facts.f_frsize

    def _punch_below(self, descriptor: int) -> None:
        """Give the disk what the image has under the cap's blocks."""
        image = os.open(self.image, os.O_RDWR | os.O_CLOEXEC)
        try:
            found = fiemap.extents(descriptor)
            for place, length in zip(found.physical.tolist(), found.length.tolist(), strict=True):
                fallocate.punch(image, place, length)
        finally:
            os.close(image)

    def _step(self) -> int:
        step = _share(self.image.stat().st_size, _STEP_SHARE, _SMALLEST_STEP)
        return min(step, _LARGEST_STEP)


def _share(size: int, share: int, least: int) -> int:
    return max(size // share, least)
