"""The persistent exception store of dm-snapshot: where things lie, and how they are packed.

    chunk 0           header; only its first 16 bytes are used
    chunk 1           area 0: the table's first exceptions, as many as fit in a chunk (`per`)
    2 … per + 1       their data, in the order of copying
    per + 2           area 1
    per + 3 …         their data, and so on

    header      u32 magic, u32 valid, u32 version, u32 chunk size in sectors
    exception   u64 old chunk (of the origin), u64 new chunk (in the store); little-endian

The first exception whose new chunk is 0 ends the table: chunk 0 is the header. So the area
after one that is full must be there, zeroed, before the last entry of the full one is written.

Owns arithmetic and bytes, and does no I/O. Chunk sizes are bytes, a power of two from 4 KiB to
1 MiB, and `per` is exceptions an area; neither is checked here but by `check_chunk_size`.
Exceptions are counted from 0 in the order of the table.

Source: Linux, Documentation/admin-guide/device-mapper/snapshot.rst, and stores that the
kernel wrote (tests/data/dm-snapshot).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

SECTOR: Final = 512
MAGIC: Final = 0x70416E53
VERSION: Final = 1
SMALLEST_CHUNK: Final = 4096
LARGEST_CHUNK: Final = 1 << 20

HEADER: Final = Struct("<IIII")
EXCEPTION: Final = Struct("<QQ")
EXCEPTION_SIZE: Final = EXCEPTION.size

FIRST_AREA: Final = 1
FIRST_DATA: Final = 2

Bytes = bytes | bytearray | memoryview


class Header(NamedTuple):
    """What the header says. valid: False once the snapshot was invalidated. Bytes a chunk."""

    valid: bool
    chunk_size: int


def check_chunk_size(chunk_size: int) -> None:
    """Raise ValueError unless chunks of a store may have so many bytes."""
    is_power = chunk_size > 0 and chunk_size & (chunk_size - 1) == 0
    if not is_power or not SMALLEST_CHUNK <= chunk_size <= LARGEST_CHUNK:
        raise ValueError(
            f"chunks of {chunk_size} bytes, not a power of two from {SMALLEST_CHUNK} "
            f"to {LARGEST_CHUNK}"
        )


def pack_header(chunk_size: int, *, valid: bool = True) -> bytes:
    """Return the 16 bytes of a header; the rest of its chunk is zero."""
    return HEADER.pack(MAGIC, valid, VERSION, chunk_size // SECTOR)


def unpack_header(data: Bytes) -> Header:
    """Return what a header says; data: at least its 16 bytes.

    Raises ValueError, which says what is wrong, for one that is none of these.
    """
    magic, valid, version, sectors = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ValueError(f"its magic number is {magic:#010x}, not {MAGIC:#010x}")
    if version != VERSION:
        raise ValueError(f"its version is {version}, not {VERSION}")
    if valid not in {0, 1}:
        raise ValueError(f"its mark of validity is {valid}, neither 0 nor 1")
    check_chunk_size(sectors * SECTOR)
    return Header(bool(valid), sectors * SECTOR)


def exceptions_per_area(chunk_size: int) -> int:
    """Return how many exceptions an area holds; as many data chunks follow it."""
    return chunk_size // EXCEPTION_SIZE


def area_chunk(area: int, per: int) -> int:
    """Return the chunk of an area; areas count from 0."""
    return FIRST_AREA + area * (per + 1)


def is_metadata(chunk: int, per: int) -> bool:
    """Tell whether a chunk of the store is the header or an area."""
    return chunk == 0 or (chunk - FIRST_AREA) % (per + 1) == 0


def data_chunk(number: int, per: int) -> int:
    """Return the chunk that exception `number` gets when chunks are handed out in order."""
    return FIRST_DATA + number + number // per


def next_data_chunk(chunk: int, per: int) -> int:
    """Return the data chunk that is handed out after `chunk`, itself data or 0 for the first."""
    chunk = max(chunk + 1, FIRST_DATA)
    return chunk + 1 if (chunk - FIRST_AREA) % (per + 1) == 0 else chunk


def exception_offset(number: int, chunk_size: int) -> int:
    """Return where in the store exception `number` stands. Bytes."""
    per = chunk_size // EXCEPTION_SIZE
    area, place = divmod(number, per)
    return area_chunk(area, per) * chunk_size + place * EXCEPTION_SIZE


def chunks_used(exceptions: int, per: int) -> int:
    """Return the chunks that a store of so many exceptions takes: header, areas and data.

    The area after a full one is among them. The kernel's status line counts the same.
    """
    return FIRST_DATA + exceptions + exceptions // per


def store_length(exceptions: int, chunk_size: int) -> int:
    """Return the length of a store of so many exceptions. Bytes."""
    return chunks_used(exceptions, exceptions_per_area(chunk_size)) * chunk_size


def capacity(length: int, chunk_size: int) -> int:
    """Return how many exceptions a store of a length, in bytes, has room for; 0 if for none.

    One less than there are data chunks when the area after a full one would not fit.
    """
    per = exceptions_per_area(chunk_size)
    areas, rest = divmod(max(length // chunk_size - FIRST_DATA, 0), per + 1)
    return areas * per + min(rest, per - 1)


def pack_exceptions(exceptions: list[tuple[int, int]]) -> bytes:
    """Return exceptions, (old, new) each, as they stand in an area."""
    return b"".join(EXCEPTION.pack(old, new) for old, new in exceptions)


def unpack_exceptions(area: Bytes) -> Iterator[tuple[int, int]]:
    """Return the exceptions, (old, new) each, of an area up to the one that ends the table.

    An area from which all come is full: the table goes on in the next.
    """
    for old, new in EXCEPTION.iter_unpack(area):
        if not new:
            return
        yield old, new
