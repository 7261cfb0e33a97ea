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
class Measure:
    """A cap's size and what it should be, in bytes. step: what it is made larger at once."""

    held: int
    wanted: int
    step: int

    @property
    def missing(self) -> int:
        """The bytes by which it is too small."""
        return max(self.wanted - self.held, 0)

    @property
    def is_misfit(self) -> bool:
        """Whether it is too small, or much larger than need be."""
        return self.missing > 0 or self.held - self.wanted > 3 * self.step


@dataclass(frozen=True, kw_only=True, slots=True)
class Cap:
    """The cap of one image. path: its file in the pool, which is mounted."""

    path: Path
    image: Path

    def measure(self) -> Measure:
        """Return its size and what it should be; costs microseconds. Raises OSError."""
        facts, disk = self.image.stat(), os.statvfs(self.image.parent)
        disk_size, disk_free = (n * disk.f_frsize for n in (disk.f_blocks, disk.f_bavail))
        margin = _share(disk_size, _MARGIN_SHARE, _SMALLEST_MARGIN, _LARGEST_MARGIN)
        backed = facts.st_blocks * 512 + max(disk_free - margin, 0)
        return Measure(
            held=fallocate.allocated(self.path),
            wanted=max(facts.st_size - backed, 0),
            step=_share(facts.st_size, _STEP_SHARE, _SMALLEST_STEP, _LARGEST_STEP),
        )

    def fit(self) -> None:
        """Make it as large as is wanted, and a step more; as far as the pool has free blocks.

        Takes milliseconds. Raises OSError.
        """
        found = self.measure()
        held = found.held
        size = (found.wanted + found.step if found.wanted else 0) // _BLOCK * _BLOCK
        if size < held:
            os.truncate(self.path, size)
        elif found.missing:
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


def _share(size: int, share: int, least: int, most: int) -> int:
    return min(max(size // share, least), most)
