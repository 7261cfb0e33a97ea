"""GUID partition tables: read, made, changed, always in logical blocks of a stated size.

Own code, because no library fits: python-parted and libfdisk ask the kernel for the block
size of a device, but here the table lies in an image whose 4096-byte blocks only the
loop device over it has; both also go through the page cache, which a partition bound by
itself does not share; and neither changes attribute bits without rewriting the rest.

`encode` and `decode_copy` are pure. Reading takes the first copy that is whole; writing
does backup copy, flush, primary copy, flush, so that one whole table exists at any moment.
Refuses entries of another size than 128 bytes, and whatever overlaps.

    block 0          protective MBR: one partition of type 0xEE over everything
    block 1          primary header, 92 bytes, CRC over itself and over the entries
    block 2 ...      primary entries, 128 x 128 bytes
    first_usable .. last_usable   the partitions, bounds included
    ...              backup entries
    last block       backup header

Source: UEFI Specification 2.10, 5.2.3 (protective MBR), 5.3 (GPT); meaning of the
attribute bits 60 to 63: Microsoft, PARTITION_INFORMATION_GPT (winioctl.h).
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import os
import struct
import uuid
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from vssemu.linux import blockdev, directio, libc

_log: Final = logging.getLogger(__name__)

BASIC_DATA: Final = uuid.UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
LINUX_DATA: Final = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
BLOCK_SIZE: Final = 4096
ENTRY_COUNT: Final = 128
NAME_LENGTH: Final = 36

_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_SIGNATURE: Final = b"EFI PART"
_REVISION: Final = 0x00010000
_MBR_PARTITION: Final = struct.Struct("<B3sB3sII")
_MBR_PARTITIONS_AT: Final = 446
_MBR_SIGNATURE: Final = b"\x55\xaa"
_MAX_ENTRIES: Final = 8192


class BadTable(ValueError):
    """The bytes are no GUID partition table, or a damaged or a contradictory one."""


class GptAttribute(enum.IntFlag):
    """Attribute bits of a partition. Bits without a name here are kept as they are."""

    REQUIRED = 1 << 0
    NO_BLOCK_IO = 1 << 1
    LEGACY_BOOT = 1 << 2
    READ_ONLY = 1 << 60
    SHADOW_COPY = 1 << 61
    HIDDEN = 1 << 62
    NO_DRIVE_LETTER = 1 << 63


NO_ATTRIBUTES: Final = GptAttribute(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """One entry. number: 1 or more. first_lba, last_lba: blocks, both within it."""

    number: int
    type_guid: uuid.UUID
    unique_guid: uuid.UUID
    first_lba: int
    last_lba: int
    attributes: GptAttribute = NO_ATTRIBUTES
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpt:
    """One table. blocks: of the whole disk; all other positions are block numbers too.

    partitions: in the order of their numbers.
    """

    disk_guid: uuid.UUID
    partitions: tuple[Partition, ...]
    block_size: int
    blocks: int
    first_usable: int
    last_usable: int
    entry_count: int = ENTRY_COUNT

    def partition(self, number: int) -> Partition:
        """Return the partition with this number. Raises KeyError when there is none."""
        for partition in self.partitions:
            if partition.number == number:
                return partition
        raise KeyError(number)

    def with_partition(self, changed: Partition) -> Gpt:
        """Return this table with one partition put in, or in place of its namesake."""
        others = [each for each in self.partitions if each.number != changed.number]
        ordered = sorted([*others, changed], key=lambda partition: partition.number)
        return dataclasses.replace(self, partitions=tuple(ordered))

    def byte_range(self, number: int) -> tuple[int, int]:
        """Return offset and length in bytes of a partition. Raises KeyError."""
        found = self.partition(number)
        length = found.last_lba - found.first_lba + 1
        return found.first_lba * self.block_size, length * self.block_size

    def gaps(self, granule: int) -> list[range]:
        """Return the bytes that are in no partition, in runs that begin and end on a granule.

        granule: bytes, a multiple of the block size.
        """
        taken = sorted((each.first_lba, each.last_lba + 1) for each in self.partitions)
        starts = [self.first_usable, *(end for _, end in taken)]
        ends = [*(start for start, _ in taken), self.last_usable + 1]
        found = (
            range(
                -(-start * self.block_size // granule) * granule,
                end * self.block_size // granule * granule,
            )
            for start, end in zip(starts, ends, strict=True)
        )
        return [each for each in found if each]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedTable:
    """The bytes of a table and where they belong; offsets in bytes.

    primary: header and entries, from block 1. backup: entries and header, to the end.
    mbr: the last 66 bytes of the first 512 of block 0; what precedes them is boot code.
    """

    mbr: bytes
    primary: bytes
    primary_offset: int
    backup: bytes
    backup_offset: int


def create_table(
    size: int,
    partitions: Iterable[Partition],
    *,
    disk_guid: uuid.UUID | None = None,
    block_size: int = BLOCK_SIZE,
) -> Gpt:
    """Return a new table for a disk of `size` bytes; nothing is written.

    disk_guid: None for a new one. Raises BadTable when the disk is too small for one or the
    partitions do not fit or overlap.
    """
    blocks = size // block_size
    entries = _entry_blocks(ENTRY_COUNT, block_size)
    table = Gpt(
        disk_guid=uuid.uuid4() if disk_guid is None else disk_guid,
        partitions=tuple(sorted(partitions, key=lambda partition: partition.number)),
        block_size=block_size,
        blocks=blocks,
        first_usable=2 + entries,
        last_usable=blocks - entries - 2,
    )
    _check(table)
    return table


def encode(table: Gpt) -> EncodedTable:
    """Return the bytes of a table. Raises BadTable when it contradicts itself."""
    _check(table)
    entries = _encode_entries(table)
    length = len(entries)
    primary = _encode_header(table, entries, own=1, other=table.blocks - 1, entries_at=2)
    backup_at = table.blocks - 1 - length // table.block_size
    backup = _encode_header(table, entries, own=table.blocks - 1, other=1, entries_at=backup_at)
    return EncodedTable(
        mbr=_encode_mbr(table.blocks),
        primary=primary + entries,
        primary_offset=table.block_size,
        backup=entries + backup,
        backup_offset=backup_at * table.block_size,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """A header that is whole. own_lba, other_lba: where it and its twin are, in blocks."""

    own_lba: int
    other_lba: int
    first_usable: int
    last_usable: int
    disk_guid: uuid.UUID
    entries_lba: int
    entry_count: int
    entries_crc: int


def decode_header(block: bytes, *, own_lba: int) -> Header:
    """Return the header in the bytes of a block.

    own_lba: the number of that block, which the header must state.
    Raises BadTable when signature, revision, sizes, CRC or place are wrong.
    """
    if len(block) < _HEADER.size:
        raise BadTable(f"block {own_lba}: {len(block)} bytes are no header")
    fields = _HEADER.unpack_from(block)
    signature, revision, size, crc, _, own, other, first, last = fields[:9]
    guid, entries_lba, count, entry_size, entries_crc = fields[9:]
    if signature != _SIGNATURE:
        raise BadTable(f"block {own_lba}: no GPT signature")
    if revision != _REVISION or not _HEADER.size <= size <= len(block):
        raise BadTable(f"block {own_lba}: revision {revision:#x}, header of {size} bytes")
    if zlib.crc32(block[:16] + bytes(4) + block[20:size]) != crc:
        raise BadTable(f"block {own_lba}: wrong CRC of the header")
    if own != own_lba:
        raise BadTable(f"block {own_lba}: the header says it is in block {own}")
    if entry_size != _ENTRY.size or not 0 < count <= _MAX_ENTRIES:
        raise BadTable(f"block {own_lba}: {count} entries of {entry_size} bytes")
    return Header(
        own_lba=own,
        other_lba=other,
        first_usable=first,
        last_usable=last,
        disk_guid=uuid.UUID(bytes_le=guid),
        entries_lba=entries_lba,
        entry_count=count,
        entries_crc=entries_crc,
    )


def decode_copy(header: Header, entries: bytes, *, block_size: int) -> Gpt:
    """Return the table that a header and its entries make.

    entries: at least entry_count x 128 bytes. Raises BadTable for a wrong CRC, for
    partitions out of bounds, and for overlaps.
    """
    raw = entries[: header.entry_count * _ENTRY.size]
    if len(raw) < header.entry_count * _ENTRY.size or zlib.crc32(raw) != header.entries_crc:
        raise BadTable(f"block {header.own_lba}: wrong CRC of the entries")
    decoded = (
        _decode_entry(number, fields) for number, fields in enumerate(_ENTRY.iter_unpack(raw), 1)
    )
    table = Gpt(
        disk_guid=header.disk_guid,
        partitions=tuple(partition for partition in decoded if partition is not None),
        block_size=block_size,
        blocks=max(header.own_lba, header.other_lba) + 1,
        first_usable=header.first_usable,
        last_usable=header.last_usable,
        entry_count=header.entry_count,
    )
    _check(table)
    return table


def read_table(fd: int, *, block_size: int = BLOCK_SIZE) -> Gpt:
    """Return the table of a device or image: the primary copy, or else the backup.

    The backup is looked for in the last block. Reads past every cache. The table of a disk that
    grew since it was written is returned as one of the larger disk, so that what is written
    next puts the backup into the new last block.
    Raises BadTable when neither copy is whole (its text says what is wrong with each),
    OSError when reading fails.
    """
    blocks = blockdev.size(fd) // block_size
    try:
        return _fitted(_read_copy(fd, 1, block_size), blocks)
    except BadTable as primary:
        try:
            table = _read_copy(fd, blocks - 1, block_size)
        except BadTable as backup:
            raise BadTable(f"{libc.name_of(fd)}: {primary}; {backup}") from None
        _log.warning("%s: %s; the backup copy serves", libc.name_of(fd), primary)
        return table


def write_table(fd: int, table: Gpt) -> None:
    """Write both copies of a table, and a protective MBR that keeps any boot code.

    The backup copy is on the medium before the primary one is touched. Write only while no
    partition of the disk is bound or mounted through the whole device.
    Raises BadTable when it contradicts itself or the size of the device, OSError.
    """
    encoded = encode(table)
    if blockdev.size(fd) // table.block_size != table.blocks:
        raise BadTable(f"{libc.name_of(fd)}: is not of {table.blocks} blocks")
    block = directio.pread(fd, table.block_size, 0)
    mbr = block[:_MBR_PARTITIONS_AT] + encoded.mbr + block[512:]
    directio.pwrite(fd, encoded.backup, encoded.backup_offset, alignment=table.block_size)
    os.fsync(fd)
    directio.pwrite(fd, encoded.primary, encoded.primary_offset, alignment=table.block_size)
    if mbr != block:
        directio.pwrite(fd, mbr, 0, alignment=table.block_size)
    os.fsync(fd)


def change_partition(
    fd: int,
    number: int,
    *,
    attributes: GptAttribute | None = None,
    unique_guid: uuid.UUID | None = None,
    disk_guid: uuid.UUID | None = None,
    block_size: int = BLOCK_SIZE,
) -> Gpt:
    """Change what is given of a partition and its disk; return the table as written.

    A spoilt copy is mended on the way. Raises KeyError without such a partition, and what
    `read_table` and `write_table` raise.
    """
    table = read_table(fd, block_size=block_size)
    old = table.partition(number)
    new = dataclasses.replace(
        old,
        attributes=old.attributes if attributes is None else attributes,
        unique_guid=old.unique_guid if unique_guid is None else unique_guid,
    )
    table = dataclasses.replace(
        table.with_partition(new), disk_guid=table.disk_guid if disk_guid is None else disk_guid
    )
    write_table(fd, table)
    return table


def erase_table(fd: int, table: Gpt) -> None:
    """Overwrite a table with zeroes, the primary copy first; what is in its partitions stays.

    The boot code before the protective MBR goes as well. Raises OSError.
    """
    encoded = encode(table)
    size = table.block_size
    directio.pwrite(fd, bytes(encoded.primary_offset + len(encoded.primary)), 0, alignment=size)
    os.fsync(fd)
    directio.pwrite(fd, bytes(len(encoded.backup)), encoded.backup_offset, alignment=size)
    os.fsync(fd)


def _fitted(table: Gpt, blocks: int) -> Gpt:
    if blocks <= table.blocks:
        return table
    entries = _entry_blocks(table.entry_count, table.block_size)
    return dataclasses.replace(table, blocks=blocks, last_usable=blocks - entries - 2)


def _entry_blocks(count: int, block_size: int) -> int:
    return -(-count * _ENTRY.size // block_size)


def _check(table: Gpt) -> None:
    entries = _entry_blocks(table.entry_count, table.block_size)
    if table.block_size < 512 or table.block_size & (table.block_size - 1):
        raise BadTable(f"blocks of {table.block_size} bytes")
    if (
        not 2 + entries
        <= table.first_usable
        <= table.last_usable + 1
        <= table.blocks - 1 - entries
    ):
        raise BadTable(
            f"blocks {table.first_usable} to {table.last_usable} are not what a disk of"
            f" {table.blocks} blocks can use"
        )
    free_from = table.first_usable
    numbers = [partition.number for partition in table.partitions]
    if len(set(numbers)) != len(numbers):
        raise BadTable(f"partition numbers {numbers} are not distinct")
    for partition in sorted(table.partitions, key=lambda partition: partition.first_lba):
        where = f"partition {partition.number} ({partition.first_lba} to {partition.last_lba})"
        if not 1 <= partition.number <= table.entry_count:
            raise BadTable(f"{where}: the table has entries 1 to {table.entry_count}")
        if partition.type_guid.int == 0:
            raise BadTable(f"{where}: a type of zero marks an unused entry")
        if not free_from <= partition.first_lba <= partition.last_lba <= table.last_usable:
            raise BadTable(f"{where}: overlaps another one or exceeds the usable blocks")
        free_from = partition.last_lba + 1


def _encode_header(table: Gpt, entries: bytes, *, own: int, other: int, entries_at: int) -> bytes:
    def packed(crc: int) -> bytes:
        return _HEADER.pack(
            _SIGNATURE,
            _REVISION,
            _HEADER.size,
            crc,
            0,
            own,
            other,
            table.first_usable,
            table.last_usable,
            table.disk_guid.bytes_le,
            entries_at,
            table.entry_count,
            _ENTRY.size,
            zlib.crc32(entries[: table.entry_count * _ENTRY.size]),
        )

    return packed(zlib.crc32(packed(0))).ljust(table.block_size, b"\0")


def _encode_entries(table: Gpt) -> bytes:
    room = bytearray(_entry_blocks(table.entry_count, table.block_size) * table.block_size)
    for partition in table.partitions:
        name = partition.name.encode("utf-16-le", "surrogatepass")
        if len(name) > 2 * NAME_LENGTH or "\0" in partition.name:
            raise BadTable(f"partition {partition.number}: name {partition.name!r} does not fit")
        _ENTRY.pack_into(
            room,
            (partition.number - 1) * _ENTRY.size,
            partition.type_guid.bytes_le,
            partition.unique_guid.bytes_le,
            partition.first_lba,
            partition.last_lba,
            partition.attributes,
            name,
        )
    return bytes(room)


def _encode_mbr(blocks: int) -> bytes:
    # Cylinder, head and sector are the ones that the UEFI specification prescribes.
    length = min(blocks - 1, 0xFFFFFFFF)
    first = _MBR_PARTITION.pack(0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, length)
    return first + bytes(3 * _MBR_PARTITION.size) + _MBR_SIGNATURE


def _decode_entry(
    number: int, fields: tuple[bytes, bytes, int, int, int, bytes]
) -> Partition | None:
    type_guid, unique_guid, first, last, attributes, name = fields
    if not any(type_guid):
        return None
    # Damaged names stay what they are: half a surrogate pair is not worth a table.
    text = name.decode("utf-16-le", "surrogatepass")
    return Partition(
        number=number,
        type_guid=uuid.UUID(bytes_le=type_guid),
        unique_guid=uuid.UUID(bytes_le=unique_guid),
        first_lba=first,
        last_lba=last,
        attributes=GptAttribute(attributes),
        name=text.split("\0", 1)[0],
    )


def _read_copy(fd: int, lba: int, block_size: int) -> Gpt:
    if lba < 1:
        raise BadTable(f"no block {lba}")
    block = directio.pread(fd, block_size, lba * block_size)
    header = decode_header(block, own_lba=lba)
    length = _entry_blocks(header.entry_count, block_size) * block_size
    if header.entries_lba > blockdev.size(fd) // block_size:
        raise BadTable(f"block {lba}: entries in block {header.entries_lba}, beyond the end")
    entries = directio.pread(fd, length, header.entries_lba * block_size)
    return decode_copy(header, entries, block_size=block_size)
