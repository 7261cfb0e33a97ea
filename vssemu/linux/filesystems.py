"""File systems on a device: which one it is, and making a new one.

`probe` reads the super blocks itself, with direct I/O: a buffered read of a device shows
what the page cache of that device once held, and a mounted file system writes past it.
`make_*` run the mkfs programs with what 4096-byte logical blocks demand, whatever the
programs' defaults. Refuses to mount, to repair, or to judge whether a file system will do.

Source: fs/ext4/ext4.h (struct ext4_super_block), fs/xfs/libxfs/xfs_format.h (struct
xfs_dsb), include/uapi/linux/btrfs_tree.h (struct btrfs_super_block); FAT and NTFS boot
sectors as libblkid reads them; mke2fs(8), mkfs.xfs(8).
"""

from __future__ import annotations

import enum
import os
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vssemu.linux import directio
from vssemu.linux.run import run

XFS_LEAST: Final = 300 << 20
"""Bytes below which mkfs.xfs makes no xfs."""

_BLOCK: Final = 4096
_EXT_AT: Final = 1024
_EXT_MAGIC: Final = 0xEF53
_EXT_HAS_JOURNAL: Final = 0x4
# Features that ext3 drivers know; any other makes it an ext4.
_EXT3_INCOMPAT: Final = 0x2 | 0x4 | 0x10
_EXT3_RO_COMPAT: Final = 0x1 | 0x2 | 0x4
_BTRFS_AT: Final = 65536
_BTRFS_MAGIC: Final = b"_BHRfS_M"
_NEEDED: Final = _BTRFS_AT + _BLOCK


class Filesystem(enum.Enum):
    """The types that `probe` tells apart, by the names that mount(8) takes."""

    EXT2 = "ext2"
    EXT3 = "ext3"
    EXT4 = "ext4"
    XFS = "xfs"
    BTRFS = "btrfs"
    VFAT = "vfat"
    NTFS = "ntfs"


@dataclass(frozen=True, kw_only=True, slots=True)
class FilesystemFacts:
    """What a super block says.

    label: "" when there is none. uuid: as blkid prints it (a serial number for vfat and
    ntfs). block_size: bytes; the cluster size for vfat and ntfs.
    """

    kind: Filesystem
    label: str
    uuid: str
    block_size: int


def probe(fd: int) -> FilesystemFacts | None:
    """Return which file system a device, image or part of one holds; None for none known.

    fd: open for reading. Bytes that only look like a super block give None.
    Raises OSError when it cannot be read.
    """
    return identify(directio.pread(fd, _NEEDED, 0))


def identify(head: bytes) -> FilesystemFacts | None:
    """Return which file system begins with these bytes; None for none known.

    head: the first 68 KiB, or all when there is less. Never raises.
    """
    for reader in (_ext, _xfs, _btrfs, _ntfs, _vfat):
        try:
            found = reader(head)
        except (struct.error, ValueError):
            continue
        if found is not None:
            return found
    return None


def make_ext4(
    device: str | Path,
    *,
    timeout: float,
    label: str = "",
    identity: uuid.UUID | None = None,
    options: Sequence[str] = (),
) -> None:
    """Make an ext4 with 4096-byte blocks; whatever was there is lost.

    timeout: seconds. label: at most 16 bytes. options: further ones of mkfs.ext4.
    Raises ProgramFailed, FileNotFoundError without mkfs.ext4.
    """
    argv = ["mkfs.ext4", "-q", "-F", "-b", str(_BLOCK)]
    argv += ["-L", label] if label else []
    argv += ["-U", str(identity)] if identity else []
    run([*argv, *options, os.fspath(device)], timeout=timeout)


def make_xfs(
    device: str | Path,
    *,
    timeout: float,
    label: str = "",
    identity: uuid.UUID | None = None,
    allocation_groups: int | None = None,
    options: Sequence[str] = (),
) -> None:
    """Make an xfs with 4096-byte sectors that can share blocks; whatever was there is lost.

    timeout: seconds. label: at most 12 bytes. allocation_groups: None leaves the choice to
    mkfs; a pool of many images wants 32 or more, since each scan of shared blocks locks one.
    options: further ones of mkfs.xfs. The device must have XFS_LEAST bytes.
    Raises ProgramFailed, FileNotFoundError without mkfs.xfs.
    """
    argv = ["mkfs.xfs", "-q", "-f", "-s", f"size={_BLOCK}", "-b", f"size={_BLOCK}"]
    metadata = ["crc=1", "reflink=1"] + ([f"uuid={identity}"] if identity else [])
    argv += ["-m", ",".join(metadata)]
    argv += ["-L", label] if label else []
    argv += ["-d", f"agcount={allocation_groups}"] if allocation_groups is not None else []
    run([*argv, *options, os.fspath(device)], timeout=timeout)


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _ext(head: bytes) -> FilesystemFacts | None:
    block = head[_EXT_AT : _EXT_AT + 1024]
    (magic,) = struct.unpack_from("<H", block, 56)
    (log_block_size,) = struct.unpack_from("<I", block, 24)
    if magic != _EXT_MAGIC or log_block_size > 6:
        return None
    compat, incompat, ro_compat = struct.unpack_from("<III", block, 92)
    if incompat & ~_EXT3_INCOMPAT or ro_compat & ~_EXT3_RO_COMPAT:
        kind = Filesystem.EXT4
    else:
        kind = Filesystem.EXT3 if compat & _EXT_HAS_JOURNAL else Filesystem.EXT2
    return FilesystemFacts(
        kind=kind,
        label=_text(block[120:136]),
        uuid=str(uuid.UUID(bytes=block[104:120])),
        block_size=1024 << log_block_size,
    )


def _xfs(head: bytes) -> FilesystemFacts | None:
    if head[:4] != b"XFSB":
        return None
    (block_size,) = struct.unpack_from(">I", head, 4)
    identity = uuid.UUID(bytes=head[32:48])
    return FilesystemFacts(
        kind=Filesystem.XFS,
        label=_text(head[108:120]),
        uuid=str(identity),
        block_size=block_size,
    )


def _btrfs(head: bytes) -> FilesystemFacts | None:
    block = head[_BTRFS_AT : _BTRFS_AT + _BLOCK]
    if block[64:72] != _BTRFS_MAGIC:
        return None
    (sector_size,) = struct.unpack_from("<I", block, 144)
    return FilesystemFacts(
        kind=Filesystem.BTRFS,
        label=_text(block[299:555]),
        uuid=str(uuid.UUID(bytes=block[32:48])),
        block_size=sector_size,
    )


def _ntfs(head: bytes) -> FilesystemFacts | None:
    if head[3:11] != b"NTFS    ":
        return None
    sector, clusters = struct.unpack_from("<HB", head, 11)
    # Above 128 the byte is a negative power of two.
    per_cluster = clusters if clusters <= 128 else 1 << (256 - clusters)
    (serial,) = struct.unpack_from("<Q", head, 72)
    # The volume's name is a record of its master file table, not of the boot sector.
    return FilesystemFacts(
        kind=Filesystem.NTFS,
        label="",
        uuid=f"{serial:016X}",
        block_size=sector * per_cluster,
    )


def _vfat(head: bytes) -> FilesystemFacts | None:
    if head[510:512] != b"\x55\xaa":
        return None
    if head[82:90] == b"FAT32   ":
        at = 67
    elif head[54:62] in {b"FAT12   ", b"FAT16   ", b"FAT     "}:
        at = 39
    else:
        return None
    sector, clusters = struct.unpack_from("<HB", head, 11)
    (serial,) = struct.unpack_from("<I", head, at)
    label = head[at + 4 : at + 15].rstrip(b" ").decode("cp437")
    return FilesystemFacts(
        kind=Filesystem.VFAT,
        label="" if label == "NO NAME" else label,
        uuid=f"{serial >> 16:04X}-{serial & 0xFFFF:04X}",
        block_size=sector * clusters,
    )
