"""A write log played onto an image, up to any of its entries.

    with Replay(log, image) as replay:
        replay.to(number)            # and further, as often as wanted

The image is what the LUN was when recording began; of a LUN that was new, an empty file will
do. Checksums are looked at before anything is written.
"""

import errno
import os
from pathlib import Path
from typing import Final

from vssemu.faults.writelog import Closable, EntryKind, LogEntry, LogReader
from vssemu.linux import fallocate
from vssemu.vss.errors import ObjectNotFound

_PIECE: Final = 1 << 20


class Replay(Closable):
    """A replay under way; goes forward only. Raises OSError, InvalidArgument.

    image: made, as long as the LUN, when it is not there; a shorter one is made longer.
    """

    def __init__(self, log: Path, image: Path) -> None:
        self.reader = LogReader(log)
        self.done = 0
        self._image = -1
        try:
            self._image = os.open(image, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._entries = self.reader.entries()
            self._grow(self.reader.header.size)
        except BaseException:
            self.close()
            raise

    def to(self, number: int) -> int:
        """Apply the entries up to a number, that one included; return how many were applied.

        It is on the disk then. Raises ObjectNotFound when the log ends before.
        """
        applied = 0
        while self.done < number:
            entry = next(self._entries, None)
            if entry is None:
                raise ObjectNotFound(
                    f"{self.reader.path} has {self.done} entries, not {number}", item=str(number)
                )
            self._apply(entry)
            self.done = entry.number
            applied += 1
        os.fsync(self._image)
        return applied

    def _apply(self, entry: LogEntry) -> None:
        if entry.kind is EntryKind.WRITE:
            data = self.reader.data(entry)
            os.pwrite(self._image, data, entry.offset)
        elif entry.kind is EntryKind.ZERO:
            self._grow(entry.offset + entry.length)
            self._zero(entry.offset, entry.length)

    def _zero(self, offset: int, length: int) -> None:
        try:
            fallocate.punch(self._image, offset, length)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            for place in range(offset, offset + length, _PIECE):
                os.pwrite(self._image, bytes(min(_PIECE, offset + length - place)), place)

    def _grow(self, size: int) -> None:
        if os.lseek(self._image, 0, os.SEEK_END) < size:
            os.ftruncate(self._image, size)

    def close(self) -> None:
        """Close log and image."""
        self.reader.close()
        if self._image >= 0:
            os.close(self._image)
            self._image = -1


def last_before(log: Path, *, seconds: float | None = None, mark: str | None = None) -> int:
    """Return the number of the last entry of a log, or of the last that a limit lets in.

    seconds: since 1970; entries of that moment count. mark: the first mark of that name.
    Raises OSError, InvalidArgument; ObjectNotFound without such a mark.
    """
    number = 0
    with LogReader(log) as reader:
        for entry in reader.entries():
            if seconds is not None and entry.time > seconds:
                return number
            number = entry.number
            if mark is not None and entry.name == mark:
                return number
    if mark is not None:
        raise ObjectNotFound(
            f"{log} has no mark {mark!r}", hint="vssemu array writes list shows all", item=mark
        )
    return number
