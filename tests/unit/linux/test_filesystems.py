"""`super_blocks/` holds the first 68 KiB of what the mkfs programs of Debian 12 made.

mkfs.vfat -F 16 -n DATEN -i 1234abcd; mkfs.vfat -F 32 -s 1 -i 00c0ffee; mkfs.btrfs -L daten
-U 7a1f...; mkfs.ntfs -Q -L daten. The expected identities are those that blkid printed.
"""

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vssemu.linux.filesystems import Filesystem, FilesystemFacts, identify

MADE = Path(__file__).parent / "super_blocks"


def head(name: str) -> Any:
    return gzip.decompress((MADE / f"{name}.gz").read_bytes())


@pytest.mark.parametrize(
    ("name", "kind", "label", "identity", "block_size"),
    [
        ("fat16", Filesystem.VFAT, "DATEN", "1234-ABCD", 2048),
        ("fat32", Filesystem.VFAT, "", "00C0-FFEE", 512),
        ("btrfs", Filesystem.BTRFS, "daten", "7a1f0c7e-30f0-4d5a-9d0b-0123456789ab", 4096),
        ("ntfs", Filesystem.NTFS, "", "4CAE3CC32CC51CD2", 4096),
    ],
)
def test_what_mkfs_made_is_known(
    name: str, kind: Any, label: str, identity: str, block_size: int
) -> None:
    assert identify(head(name)) == FilesystemFacts(
        kind=kind, label=label, uuid=identity, block_size=block_size
    )


@given(st.sampled_from(["fat16", "btrfs", "ntfs"]), st.integers(0, 69632))
def test_what_is_cut_short_is_read_or_unknown(name: str, length: int) -> None:
    found = identify(head(name)[:length])
    assert found is None or found == identify(head(name))


@settings(max_examples=300)
@given(st.sampled_from(["fat16", "fat32", "btrfs", "ntfs"]), st.data())
def test_spoilt_bytes_never_crash_it(name: str, data: st.DataObject) -> None:
    raw = bytearray(head(name))
    for at in data.draw(st.lists(st.integers(0, 600) | st.integers(65536, 66200), max_size=40)):
        raw[at] = data.draw(st.integers(0, 255))
    identify(bytes(raw))


def test_zeroes_are_no_file_system() -> None:
    assert identify(bytes(69632)) is None
    assert identify(b"") is None
