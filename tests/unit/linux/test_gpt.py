import dataclasses
import os
import struct
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vssemu.linux import gpt
from vssemu.linux.gpt import BadTable, Gpt, GptAttribute, Partition

MIB = 1 << 20


def plain(**more: Any) -> Any:
    fields: dict[str, Any] = {
        "number": 1,
        "type_guid": gpt.BASIC_DATA,
        "unique_guid": uuid.UUID(int=7),
        "first_lba": 256,
        "last_lba": 511,
    }
    return Partition(**(fields | more))


@st.composite
def tables(draw: st.DrawFn) -> Any:
    block_size = draw(st.sampled_from([512, 4096]))
    blocks = draw(st.integers(200, 100_000))
    empty = gpt.create_table(blocks * block_size, [], block_size=block_size)
    bounds = draw(
        st.lists(st.integers(empty.first_usable, empty.last_usable), unique=True, max_size=12)
    )
    ordered = sorted(bounds)
    ranges = list(zip(ordered[::2], ordered[1::2], strict=False))
    numbers = draw(st.permutations(range(1, 129)))
    names = st.text(
        st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=18
    )
    return dataclasses.replace(
        empty,
        disk_guid=draw(st.uuids()),
        partitions=tuple(
            sorted(
                (
                    Partition(
                        number=number,
                        type_guid=draw(st.uuids().filter(lambda guid: guid.int)),
                        unique_guid=draw(st.uuids()),
                        first_lba=first,
                        last_lba=last,
                        attributes=GptAttribute(draw(st.integers(0, 2**64 - 1))),
                        name=draw(names),
                    )
                    for number, (first, last) in zip(numbers, ranges, strict=False)
                ),
                key=lambda partition: partition.number,
            )
        ),
    )


def decode(table: Gpt, encoded: gpt.EncodedTable, *, backup: bool) -> Gpt:
    size = table.block_size
    if backup:
        header = gpt.decode_header(encoded.backup[-size:], own_lba=table.blocks - 1)
        return gpt.decode_copy(header, encoded.backup, block_size=size)
    header = gpt.decode_header(encoded.primary[:size], own_lba=1)
    return gpt.decode_copy(header, encoded.primary[size:], block_size=size)


@given(tables())
def test_both_copies_give_back_the_table(table: Gpt) -> None:
    encoded = gpt.encode(table)
    assert decode(table, encoded, backup=False) == table
    assert decode(table, encoded, backup=True) == table
    assert len(encoded.backup) + encoded.backup_offset == table.blocks * table.block_size


@given(tables(), st.data())
def test_one_wrong_byte_is_always_noticed(table: Gpt, data: st.DataObject) -> None:
    encoded = gpt.encode(table)
    used = [*range(92), *range(table.block_size, table.block_size + 128 * 128)]
    spoilt = bytearray(encoded.primary)
    spoilt[data.draw(st.sampled_from(used))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadTable):
        decode(table, dataclasses.replace(encoded, primary=bytes(spoilt)), backup=False)


@settings(max_examples=300)
@given(st.binary(max_size=4096), st.integers(1, 100))
def test_no_bytes_whatever_crash_the_header(block: bytes, lba: int) -> None:
    with pytest.raises(BadTable):
        gpt.decode_header(block, own_lba=lba)


@settings(max_examples=300)
@given(
    st.tuples(*[st.integers(0, 2**64 - 1)] * 5),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=128 * 4),
)
def test_headers_with_a_right_crc_and_wild_fields_are_refused_or_read(
    numbers: tuple[int, ...], count: int, entries: bytes
) -> Any:
    """This test will make the checksums right, so that the checks behind them are reached."""
    other, first, last, entries_lba, _ = numbers

    def packed(crc: int) -> Any:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, crc, 0, 1, other, first, last,
            bytes(16), entries_lba, count, 128, zlib.crc32(entries),
        )  # fmt: skip

    try:
        header = gpt.decode_header(packed(zlib.crc32(packed(0))), own_lba=1)
        gpt.decode_copy(header, entries, block_size=4096)
    except BadTable:
        pass


@given(st.binary(min_size=72, max_size=72))
def test_any_name_is_read_and_written_back(raw: bytes) -> None:
    table = gpt.create_table(64 * MIB, [plain()])
    encoded = gpt.encode(table)
    entries = bytearray(encoded.primary[4096:])
    entries[56:128] = raw
    header = dataclasses.replace(
        gpt.decode_header(encoded.primary[:4096], own_lba=1), entries_crc=zlib.crc32(entries)
    )
    read = gpt.decode_copy(header, bytes(entries), block_size=4096)
    assert decode(read, gpt.encode(read), backup=False) == read


@pytest.mark.parametrize(
    ("partitions", "words"),
    [
        ([plain(first_lba=5)], "exceeds the usable"),
        ([plain(last_lba=16384 - 5)], "exceeds the usable"),
        ([plain(last_lba=255)], "overlaps"),
        ([plain(), plain(number=2, first_lba=511, last_lba=600)], "overlaps"),
        ([plain(), plain(first_lba=512, last_lba=600)], "not distinct"),
        ([plain(number=0)], "entries 1 to 128"),
        ([plain(number=129)], "entries 1 to 128"),
        ([plain(type_guid=uuid.UUID(int=0))], "unused"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    partitions: list[Partition], words: str
) -> None:
    with pytest.raises(BadTable, match=words):
        gpt.create_table(64 * MIB, partitions)


def test_a_disk_too_small_for_a_table_is_refused() -> None:
    with pytest.raises(BadTable, match="disk of 8 blocks"):
        gpt.create_table(8 * 4096, [])


def test_a_name_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BadTable, match="does not fit"):
        gpt.encode(gpt.create_table(64 * MIB, [plain(name="x" * 37)]))


def test_the_attribute_bits_are_those_of_windows() -> None:
    assert GptAttribute.READ_ONLY.value == 0x1000000000000000
    assert GptAttribute.SHADOW_COPY.value == 0x2000000000000000
    assert GptAttribute.HIDDEN.value == 0x4000000000000000
    assert GptAttribute.NO_DRIVE_LETTER.value == 0x8000000000000000


def test_byte_range_is_in_bytes() -> None:
    assert gpt.create_table(64 * MIB, [plain()]).byte_range(1) == (MIB, MIB)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Any]:
    fd = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 64 * MIB)
    yield fd
    os.close(fd)


def test_a_spoilt_primary_is_replaced_by_the_backup(
    disk: int, caplog: pytest.LogCaptureFixture
) -> None:
    table = gpt.create_table(64 * MIB, [plain(name="Daten")])
    gpt.write_table(disk, table)
    os.pwrite(disk, b"spoilt", 4096 + 8)
    assert gpt.read_table(disk) == table
    assert "backup copy serves" in caplog.text


def test_spoilt_entries_are_replaced_by_the_backup(disk: int) -> None:
    table = gpt.create_table(64 * MIB, [plain(name="Daten")])
    gpt.write_table(disk, table)
    os.pwrite(disk, b"spoilt", 2 * 4096 + 8)
    assert gpt.read_table(disk) == table
    os.pwrite(disk, b"spoilt", 64 * MIB - 4096)
    with pytest.raises(BadTable, match=r"block 1: wrong CRC.*block 16383: no GPT signature"):
        gpt.read_table(disk)


def test_an_empty_disk_has_no_table(disk: int) -> None:
    with pytest.raises(BadTable, match="disk: block 1: no GPT signature"):
        gpt.read_table(disk)
    os.ftruncate(disk, 0)
    with pytest.raises(BadTable, match="no block -1"):
        gpt.read_table(disk)


def test_a_change_mends_the_spoilt_copy_and_keeps_the_rest(disk: int) -> None:
    odd = GptAttribute(1 << 50)
    os.pwrite(disk, b"boot code", 0)
    table = gpt.create_table(64 * MIB, [plain(attributes=odd, name="F"), plain(
        number=3, first_lba=512, last_lba=600)])  # fmt: skip
    gpt.write_table(disk, table)
    os.pwrite(disk, bytes(4096), 4096)
    written = gpt.change_partition(
        disk, 1, attributes=odd | GptAttribute.HIDDEN, unique_guid=uuid.UUID(int=9),
        disk_guid=uuid.UUID(int=10),
    )  # fmt: skip
    assert written.partition(1).attributes == odd | GptAttribute.HIDDEN
    assert written.partition(1).unique_guid == uuid.UUID(int=9)
    assert written.partition(3) == table.partition(3)
    assert gpt.read_table(disk) == written
    assert os.pread(disk, 9, 0) == b"boot code"
    os.pwrite(disk, bytes(4096), 64 * MIB - 4096)
    assert gpt.read_table(disk) == written


def test_a_change_of_a_disk_that_grew_puts_the_backup_into_its_new_last_block(disk: int) -> None:
    table = gpt.create_table(64 * MIB, [plain(name="F")])
    gpt.write_table(disk, table)
    os.ftruncate(disk, 96 * MIB)
    assert gpt.read_table(disk).partitions == table.partitions
    written = gpt.change_partition(disk, 1, attributes=GptAttribute.HIDDEN)
    assert written.byte_range(1) == table.byte_range(1)
    assert written == gpt.create_table(
        96 * MIB, [plain(name="F", attributes=GptAttribute.HIDDEN)], disk_guid=table.disk_guid
    )
    os.pwrite(disk, bytes(4096), 4096)
    assert gpt.read_table(disk) == written


def test_a_change_of_no_partition_is_a_key_error(disk: int) -> None:
    gpt.write_table(disk, gpt.create_table(64 * MIB, []))
    with pytest.raises(KeyError):
        gpt.change_partition(disk, 1, attributes=GptAttribute.HIDDEN)


def test_a_table_of_another_size_is_not_written(disk: int) -> None:
    with pytest.raises(BadTable, match="is not of 8192 blocks"):
        gpt.write_table(disk, gpt.create_table(32 * MIB, []))


@settings(max_examples=25)
@given(tables(), st.sampled_from([16384, MIB]))
def test_a_gap_is_whole_granules_of_usable_bytes_that_no_partition_has(
    table: Gpt, granule: int
) -> None:
    gaps = table.gaps(granule)
    usable = range(
        table.first_usable * table.block_size, (table.last_usable + 1) * table.block_size
    )
    free = set(range(-(-usable.start // granule), usable.stop // granule))
    for partition in table.partitions:
        offset, length = table.byte_range(partition.number)
        free -= set(range(offset // granule, -(-(offset + length) // granule)))
    assert sorted(free) == [
        number for gap in gaps for number in range(gap.start // granule, gap.stop // granule)
    ]
