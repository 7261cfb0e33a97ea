"""The transaction log of one SQLite database: its WAL, archived before SQLite overwrites it.

    orders.db                     the database
    orders.db-wal                 SQLite's own log; overwritten from its start again and again
    orders.db-log.000007          segments: one file for each generation of the WAL
    orders.db-log.000008

A generation is what SQLite writes between two restarts of the WAL; all of it has one header
(two random salts). A segment is a prefix of its generation, byte for byte, up to the end of a
committed transaction: laid beside a copy of the database as its `-wal`, SQLite itself rolls
the copy forward. Segments in order therefore hold every transaction since the last truncation.

Owns the segments. Refuses to open the database or its `-shm`: closing any descriptor of those
would drop the locks that SQLite holds in this process.
Source: https://www.sqlite.org/fileformat2.html#the_write_ahead_log,
https://www.sqlite.org/howtocorrupt.html (2.2).
"""

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct(">8I")
_FRAME_HEADER: Final = 24
_COPY_BYTES: Final = 1 << 20
_POINT: Final = re.compile(r"log:(\d{1,9}):(\d{1,18})")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class LogPoint:
    """A place in the log: a segment's number, and a length in it in bytes."""

    segment: int
    length: int

    def __str__(self) -> str:
        return f"log:{self.segment}:{self.length}"

    @classmethod
    def parse(cls, text: str | None) -> "LogPoint | None":
        """Return the point that a backup stamp names, None for any other text."""
        found = _POINT.fullmatch(text or "")
        return None if found is None else cls(segment=int(found[1]), length=int(found[2]))


class TransactionLog:
    """The archived segments of one database. database: its path on this host."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._wal = database.with_name(f"{database.name}-wal")
        self._prefix = f"{database.name}-log."
        self._truncated: tuple[bytes, int] | None = None

    @property
    def filespec(self) -> str:
        """The file specification of all segments."""
        return f"{self._prefix}*"

    def segments(self) -> list[Path]:
        """Return the segments, oldest first. Raises OSError."""
        found = self._database.parent.glob(f"{self._prefix}[0-9]*")
        return sorted((path for path in found if path.suffix[1:].isdigit()), key=_number)

    def size(self) -> int:
        """Return the bytes of all segments. Raises OSError."""
        return sum(path.stat().st_size for path in self.segments())

    def end(self) -> LogPoint:
        """Return the point up to which the log reaches; segment 0 when it is empty."""
        segments = self.segments()
        if not segments:
            return LogPoint(segment=0, length=0)
        return LogPoint(segment=_number(segments[-1]), length=segments[-1].stat().st_size)

    def archive(self, frames: int) -> LogPoint:
        """Append what the WAL has of its first `frames` frames, and return the new end.

        frames: committed frames, as wal_checkpoint counts them; the caller holds SQLite's
        write lock, so nobody overwrites the WAL meanwhile. The segment is on disk afterwards.
        Raises OSError.
        """
        if frames <= 0:
            return self.end()
        with self._wal.open("rb", buffering=0) as wal:
            header = wal.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return self.end()
            page_size = _HEADER.unpack(header)[2]
            length = _HEADER.size + frames * (_FRAME_HEADER + page_size)
            if self._truncated == (header, length):
                return self.end()
            target, start = self._target(header)
            if start < length:
                _append(wal.fileno(), target, start, length)
                self._drop_empty(before=target)
                _sync_directory(target.parent)
        return LogPoint(segment=_number(target), length=length)

    def _target(self, header: bytes) -> tuple[Path, int]:
        """Return the segment that a generation goes to, and the bytes of it that are there."""
        segments = self.segments()
        if segments:
            with segments[-1].open("rb") as last:
                if last.read(_HEADER.size) == header:
                    return segments[-1], segments[-1].stat().st_size
        number = _number(segments[-1]) + 1 if segments else 1
        return self._database.with_name(f"{self._prefix}{number:06d}"), 0

    def _drop_empty(self, *, before: Path) -> None:
        """Remove the empty file that a truncation left; the number lives on in its successor."""
        for path in self.segments():
            if path != before and path.stat().st_size == 0:
                path.unlink()

    def truncate(self, through: LogPoint) -> int:
        """Remove what lies before a point, and return the bytes removed.

        A segment that has grown since the point was taken stays whole. The last segment stays
        as an empty file: its number must not come again, or an old stamp would name it.
        Idempotent. Raises OSError.
        """
        removed = 0
        segments = self.segments()
        for path in segments:
            size = path.stat().st_size
            if LogPoint(segment=_number(path), length=size) > through:
                break
            with path.open("rb") as segment:
                header = segment.read(_HEADER.size)
            if size:
                self._truncated = (header, size)
            if path == segments[-1]:
                os.truncate(path, 0)
            else:
                path.unlink()
            removed += size
        _sync_directory(self._database.parent)
        return removed


def _number(path: Path) -> int:
    return int(path.suffix[1:])


def _append(source: int, target: Path, start: int, end: int) -> None:
    """Copy the bytes from start to end to the same place of the target, and sync it."""
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        at = start
        while at < end:
            data = os.pread(source, min(_COPY_BYTES, end - at), at)
            if not data:
                raise EOFError(f"{target}: the WAL is shorter than SQLite says")
            at += os.pwrite(fd, data, at)
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
