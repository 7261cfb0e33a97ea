"""The write log of a LUN: all that changed it, in the order in which it was done.

    header, 64 bytes     magic "vssemuWL", u32 version 1, u32 length of this header,
                         u64 size of the LUN in bytes as recording began, its id (36 bytes),
                         u32 crc32 of the 60 bytes before
    entry, 48 bytes      u32 magic "WLE1", u32 kind, u64 number (from 1 on),
                         u64 time (ns since 1970), u64 offset, u64 length,
                         u32 crc32 of what follows, u32 crc32 of the 44 bytes before
        write  1         `length` bytes follow: what was written at `offset`
        zero   2         `length` bytes at `offset` read as zeroes from then on
        flush  3         offset: the number of the last entry that it covers; length 0
        mark   4         `length` bytes follow: the name, UTF-8

All little-endian, without gaps. An entry is written when its request has been done, before
whoever asked learns of it. A flush covers what had been done when it was *asked*; what was
done while it was under way stands before it all the same, and after the entry it covers. A
request that was done twice, because the program that serves the LUN was killed before it
could answer, stands there twice.

A file whose last entry is cut off, or was never written over the zeroes of a new block, ends
before it: who wrote it was killed. Anything else that does not fit is damage.
"""

import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

from vssemu.vss.errors import InvalidArgument
from vssemu.vss.identity import LunId

_HEADER: Final = struct.Struct("<8sIIQ36s")
_ENTRY: Final = struct.Struct("<4sIQQQQI")
_CHECK: Final = struct.Struct("<I")
_MAGIC: Final = b"vssemuWL"
_ENTRY_MAGIC: Final = b"WLE1"
VERSION: Final = 1
HEADER_SIZE: Final = _HEADER.size + _CHECK.size
ENTRY_SIZE: Final = _ENTRY.size + _CHECK.size


class EntryKind(IntEnum):
    """What an entry is about."""

    WRITE = 1
    ZERO = 2
    FLUSH = 3
    MARK = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class LogHeader:
    """What a log is of. size: bytes of the LUN when recording began."""

    lun: LunId
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LogEntry:
    """One entry. Fields as in the module; time: seconds since 1970; place: of what follows."""

    number: int
    kind: EntryKind
    time: float
    offset: int
    length: int
    checksum: int
    name: str | None
    place: int

    @property
    def carried(self) -> int:
        """How many bytes follow it in the file."""
        return self.length if self.kind in _CARRYING else 0

    @property
    def covers(self) -> int | None:
        """The number of the last entry that a flush covers."""
        return self.offset if self.kind is EntryKind.FLUSH else None


_CARRYING: Final = frozenset({EntryKind.WRITE, EntryKind.MARK})


def _sealed(packed: bytes) -> bytes:
    return packed + _CHECK.pack(zlib.crc32(packed))


class Closable:
    """Closes what it has open at the end of a `with` block."""

    def close(self) -> None:
        """Close it; again does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LogWriter(Closable):
    """A log that is written to. Not durable, for the machine's sake: a killed writer loses none.

    Made by `create` or `resume`; a context manager, or `close`.
    """

    def __init__(self, descriptor: int, path: Path, *, last: int, end: int) -> None:
        self._descriptor = descriptor
        self.path = path
        self.last = last
        self._end = end

    @classmethod
    def create(cls, path: Path, header: LogHeader) -> Self:
        """Begin a log in a new file. Raises OSError: FileExistsError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        identity = header.lun.encode("ascii")
        packed = _HEADER.pack(_MAGIC, VERSION, HEADER_SIZE, header.size, identity)
        writer = cls(descriptor, path, last=0, end=0)
        try:
            writer._append([_sealed(packed)])
        except BaseException:
            writer.close()
            raise
        return writer

    @classmethod
    def resume(cls, path: Path, lun: LunId) -> Self:
        """Go on with a log of this LUN; a cut off entry at its end goes.

        Raises OSError; InvalidArgument for a file that is no such log.
        """
        with LogReader(path) as reader:
            if reader.header.lun != lun:
                raise InvalidArgument(f"{path} is the log of {reader.header.lun}", item=lun)
            last, end = 0, HEADER_SIZE
            for entry in reader.entries():
                last, end = entry.number, entry.place + entry.carried
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.ftruncate(descriptor, end)
        return cls(descriptor, path, last=last, end=end)

    def write(self, offset: int, data: memoryview) -> None:
        """Note that data were written. Raises OSError, after which the log is as it was."""
        self._note(EntryKind.WRITE, offset, len(data), data)

    def zero(self, offset: int, length: int) -> None:
        """Note that a range reads as zeroes. Raises OSError."""
        self._note(EntryKind.ZERO, offset, length)

    def flush(self, covers: int) -> None:
        """Note a flush, which covers the entries up to a number. Raises OSError."""
        self._note(EntryKind.FLUSH, covers, 0)

    def mark(self, name: str) -> None:
        """Note a name for this place. Raises OSError."""
        text = name.encode()
        self._note(EntryKind.MARK, 0, len(text), text)

    def _note(
        self, kind: EntryKind, offset: int, length: int, data: memoryview | bytes = b""
    ) -> None:
        packed = _ENTRY.pack(
            _ENTRY_MAGIC,
            kind,
            self.last + 1,
            time.time_ns(),
            offset,
            length,
            zlib.crc32(data),
        )
        self._append([_sealed(packed), data])
        self.last += 1

    def _append(self, pieces: list[bytes | memoryview]) -> None:
        wanted = sum(map(len, pieces))
        try:
            count = os.pwritev(self._descriptor, pieces, self._end)
            if count < wanted:
                # Nothing takes the rest; asking for it says why.
                rest = b"".join(pieces)[count:]
                count += os.pwrite(self._descriptor, rest, self._end + count)
            if count < wanted:
                raise OSError(f"{self.path} took {count} of {wanted} bytes")
        except OSError:
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end += wanted

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LogReader(Closable):
    """A log that is read, perhaps while it grows. A context manager, or `close`.

    Raises OSError; InvalidArgument for a file that is no log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.header = self._header()
        except BaseException:
            self.close()
            raise
        self.cut_off: int | None = None
        """After a walk: how many bytes of a cut off entry stand at the end; None for none."""

    def _header(self) -> LogHeader:
        packed = os.pread(self._descriptor, HEADER_SIZE, 0)
        if len(packed) < HEADER_SIZE or _sealed(packed[: _HEADER.size]) != packed:
            raise self._damaged("it does not begin as a write log")
        magic, version, length, size, lun = _HEADER.unpack_from(packed)
        if (magic, version, length) != (_MAGIC, VERSION, HEADER_SIZE):
            raise self._damaged(f"version {version} is not known")
        return LogHeader(lun=LunId(lun.rstrip(b"\0").decode("ascii")), size=size)

    def entries(self) -> Iterator[LogEntry]:
        """Yield the entries in order; what they carry is not looked at, but for names.

        Raises OSError; InvalidArgument where the log is damaged.
        """
        place, number = HEADER_SIZE, 0
        end = os.fstat(self._descriptor).st_size
        self.cut_off = None
        while place < end:
            packed = os.pread(self._descriptor, ENTRY_SIZE, place)
            entry = self._entry(packed, place) if len(packed) == ENTRY_SIZE else None
            if entry is None or entry.place + entry.carried > end:
                self.cut_off = end - place
                return
            number += 1
            if entry.number != number:
                raise self._damaged(f"entry {entry.number} follows {number - 1}")
            yield entry
            place = entry.place + entry.carried

    def _entry(self, packed: bytes, place: int) -> LogEntry | None:
        if not any(packed):
            return None
        magic, kind, number, when, offset, length, checksum = _ENTRY.unpack_from(packed)
        is_known = magic == _ENTRY_MAGIC and kind in set(EntryKind)
        if not is_known or _sealed(packed[: _ENTRY.size]) != packed:
            raise self._damaged(f"there is no entry at byte {place}")
        follows = place + ENTRY_SIZE
        name = None
        if kind == EntryKind.MARK:
            name = os.pread(self._descriptor, length, follows).decode(errors="replace")
        return LogEntry(
            number=number,
            kind=EntryKind(kind),
            time=when / 1e9,
            offset=offset,
            length=length,
            checksum=checksum,
            name=name,
            place=follows,
        )

    def data(self, entry: LogEntry) -> bytes:
        """Return what an entry carries. Raises InvalidArgument when its checksum says no."""
        data = os.pread(self._descriptor, entry.carried, entry.place)
        if zlib.crc32(data) != entry.checksum:
            raise self._damaged(f"the data of entry {entry.number} are not those of its checksum")
        return data

    def _damaged(self, why: str) -> InvalidArgument:
        return InvalidArgument(
            f"{self.path} is no whole write log: {why}",
            hint="give a file that `vssemu array writes record` made",
            item=str(self.path),
        )

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
