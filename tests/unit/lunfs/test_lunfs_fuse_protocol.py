"""The FUSE protocol of lunfs, byte by byte, and the numbers of its files."""

import errno
import struct

import pytest

from vssemu.linux.aio import Io
from vssemu_fuse.lunfs.fuse import wire
from vssemu_fuse.lunfs.fuse.names import Names, inode_of
from vssemu_fuse.lunfs.fuse.wire import InitFlag

LUN = "naa.60000000000000000000000000000001"


class _View:
    """A LUN that nobody reads."""

    size = 4096

    def read(self, room: memoryview, offset: int) -> Io:
        raise NotImplementedError

    def write(self, data: memoryview, offset: int) -> Io:
        raise NotImplementedError

    def flush(self) -> Io:
        raise NotImplementedError

    def zero(self, offset: int, length: int) -> Io:
        raise NotImplementedError


def test_the_sizes_are_the_kernels() -> None:
    sizes = {
        wire.IN_HEADER: 40, wire.OUT_HEADER: 16, wire.INIT_OUT: 64, wire.ATTRIBUTES: 88,
        wire.ATTR_OUT: 16, wire.ENTRY_OUT: 40, wire.OPEN_OUT: 16, wire.FALLOCATE_IN: 32,
        wire.LSEEK_IN: 24, wire.STATFS_OUT: 80, wire.DIRENT: 24, wire.INVAL_INODE: 24,
        wire.WRITTEN: 24,
    }  # fmt: skip
    assert {each.format: each.size for each in sizes} == {
        each.format: size for each, size in sizes.items()
    }


def test_a_kernel_of_before_the_second_word_of_flags_offers_none_of_it() -> None:
    old = struct.pack("=IIII", 7, 31, 131072, InitFlag.ASYNC_DIO)
    assert wire.parse_init(old).flags == InitFlag.ASYNC_DIO
    # The second word counts only where the first says that it is there.
    without = struct.pack("=IIIII", 7, 45, 131072, InitFlag.ASYNC_DIO, 1 << 7)
    assert InitFlag.HAS_RESEND not in wire.parse_init(without).flags
    flags = InitFlag.ASYNC_DIO | InitFlag.INIT_EXT
    offering = struct.pack("=IIIII", 7, 45, 131072, flags, 1 << 7)
    assert InitFlag.HAS_RESEND in wire.parse_init(offering).flags


def test_nothing_is_agreed_on_that_the_kernel_does_not_offer() -> None:
    greeting = wire.parse_init(struct.pack("=IIII", 7, 31, 131072, InitFlag.ASYNC_DIO))
    answer = wire.init_answer(
        greeting,
        InitFlag.ASYNC_DIO | InitFlag.MAX_PAGES | InitFlag.HAS_RESEND,
        max_background=128,
        max_write=1 << 20,
        page=4096,
    )
    _, _, ahead, low, background, congested, largest, _, pages, _, high = wire.INIT_OUT.unpack(
        answer
    )
    assert (low, high) == (InitFlag.ASYNC_DIO, 0)
    assert (ahead, background, congested) == (131072, 128, 96)
    assert (largest, pages) == (1 << 20, 256)


@pytest.mark.parametrize("length", range(1, 17))
def test_entries_of_a_directory_end_on_eight_bytes(length: int) -> None:
    row = wire.entry(b"n" * length, 5, 7, 8)
    assert len(row) % 8 == 0
    assert wire.DIRENT.unpack_from(row) == (5, 7, length, 8)
    assert row[wire.DIRENT.size :].rstrip(b"\0") == b"n" * length


def test_numbers_of_files_stay_what_they_are() -> None:
    """Mounts outlive the version of lunfs that made them."""
    assert inode_of(LUN) == 0x7375822444B2952A
    assert inode_of(f"{LUN}.scratch") == 0x77EEC8CEB592A4E6


def test_two_names_never_share_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names()
    names.add("one", _View())
    monkeypatch.setattr("vssemu_fuse.lunfs.fuse.names.inode_of", lambda _name: inode_of("one"))
    with pytest.raises(OSError, match="inode number of one") as failure:
        names.add("two", _View())
    assert failure.value.errno == errno.EEXIST


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "n" * 256])
def test_names_that_no_file_can_have_are_refused(name: str) -> None:
    with pytest.raises(OSError, match="not the name of a file"):
        Names().add(name, _View())


def test_a_name_that_comes_again_is_the_same_file() -> None:
    names = Names()
    told: list[int] = []
    names.on_change = told.append
    names.add(LUN, _View())
    names.remove(LUN)
    assert names.get(LUN) is None
    names.add(LUN, _View())
    names.changed(LUN)
    names.changed("never there")
    assert told == [inode_of(LUN)] * 3
