"""The DiskShadow metadata cabinet: the one file that travels to the importing host.

    Manifest.xml  BCDocument.xml  WM0.xml ... WM<n-1>.xml  Dis<4 hex>.tmp

Written with MSZIP, which every cabinet reader knows; read stored and MSZIP. The cabinet
format itself is the cabarchive package's; this module looks over the headers first, because
a small cabinet can claim gigabytes, and turns whatever is wrong into one error.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from cabarchive import CabArchive, CabFile, CorruptionError, NotSupportedError

from vssemu.vss.documents import manifest as manifests
from vssemu.vss.documents import xmltext
from vssemu.vss.documents.bcd import NAME as BCD_NAME
from vssemu.vss.documents.manifest import Manifest, member_of_writer
from vssemu.vss.documents.wmd import NAME as WMD_NAME
from vssemu.vss.errors import InvalidArgument

MANIFEST_MEMBER = "Manifest.xml"
MAX_CABINET: Final = 64 * 1024 * 1024
"""Largest cabinet read, in bytes."""
MAX_CONTENT: Final = 256 * 1024 * 1024
"""Most bytes that a cabinet may unpack to."""

MAX_BLOCKS: Final = 2 * MAX_CONTENT // 0x8000
"""Most data blocks read; a full one holds 32 KiB."""
MAX_MEMBERS: Final = 4096

_OLDEST: Final = datetime(1980, 1, 1, tzinfo=UTC)
_HEADER: Final = struct.Struct("<4sxxxxIxxxxIxxxxBBHHHHH")
_FOLDER: Final = struct.Struct("<IHH")
_BLOCK: Final = struct.Struct("<IHH")
_FILE: Final = struct.Struct("<IIHHHH")
_HAS_RESERVE: Final = 4
_COMPRESSIONS: Final = {2: "Quantum", 3: "LZX"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cabinet:
    """An unpacked cabinet. bcd, writers: texts, not yet parsed; log: raw bytes."""

    manifest: Manifest
    bcd: str
    writers: tuple[str, ...]
    log: bytes


def write(
    manifest: Manifest,
    bcd: str,
    wmds: Sequence[str],
    log: bytes,
    *,
    made: datetime = _OLDEST,
) -> bytes:
    """Return the bytes of a cabinet.

    wmds: the documents of all writers that answered, in the order of manifest.writers.
    made: the time that the members carry. Raises InvalidArgument when names and documents
    of the writers differ in number.
    """
    if len(wmds) != len(manifest.writers):
        raise InvalidArgument(
            f"cabinet: {len(wmds)} writer documents for {len(manifest.writers)} writers",
            hint="give a name in the manifest to each document",
        )
    pinned = replace(manifest, bcd_member=manifests.BCD_MEMBER)
    members = {MANIFEST_MEMBER: manifests.write(pinned), manifests.BCD_MEMBER: bcd.encode()}
    members |= {member_of_writer(n): text.encode() for n, text in enumerate(wmds)}
    members[manifest.log_file] = log
    archive = CabArchive()
    for name, content in members.items():
        archive[name] = CabFile(content, mtime=made)
    return archive.save(compress=True, sort=False)


def read(data: bytes) -> Cabinet:
    """Return what is in a cabinet.

    Raises InvalidArgument for a cabinet that cannot be unpacked or lacks a member,
    InvalidXmlDocument for a bad manifest or member text.
    """
    members = _unpack(data)
    manifest = manifests.read(_member(members, MANIFEST_MEMBER))
    names = manifest.writer_members
    return Cabinet(
        manifest=manifest,
        bcd=xmltext.decode(_member(members, manifest.bcd_member), document=BCD_NAME),
        writers=tuple(xmltext.decode(_member(members, n), document=WMD_NAME) for n in names),
        log=members.get(manifest.log_file.lower(), b""),
    )


def _member(members: dict[str, bytes], name: str) -> bytes:
    content = members.get(name.lower())
    if content is None:
        raise _bad(f"it has no member {name}", name)
    return content


def _unpack(data: bytes) -> dict[str, bytes]:
    """Return the members by their names in lower case."""
    _check_headers(data)
    try:
        archive = CabArchive(data)
    except (CorruptionError, NotSupportedError) as cause:
        raise _bad(str(cause) or "its structure is damaged") from cause
    except (IndexError, ValueError, struct.error, MemoryError) as cause:
        raise _bad("its structure is damaged") from cause
    return {str(name).lower(): bytes(file.buf or b"") for name, file in archive.items()}


def _check_headers(data: bytes) -> None:
    if len(data) > MAX_CABINET:
        raise _bad(f"{len(data)} bytes are more than the limit of {MAX_CABINET}")
    if not data.startswith(b"MSCF"):
        raise _bad("the file is not a cabinet")
    try:
        _check_blocks(data)
        if sum(_member_sizes(data)) > MAX_CONTENT:
            raise _bad(f"its members are larger than the limit of {MAX_CONTENT} bytes")
    except struct.error as cause:
        raise _bad("it is cut off") from cause


def _check_blocks(data: bytes) -> None:
    content = 0
    for number, (compression, size) in enumerate(_blocks(data)):
        if compression in _COMPRESSIONS:
            raise InvalidArgument(
                f"cabinet: it is packed with {_COMPRESSIONS[compression]}, which cannot be"
                " read here",
                hint="unpack it with cabextract and pack the members again with MSZIP",
                item=_COMPRESSIONS[compression],
            )
        content += size
        if content > MAX_CONTENT or number >= MAX_BLOCKS:
            raise _bad(f"it unpacks to more than the limit of {MAX_CONTENT} bytes")


def _member_sizes(data: bytes) -> Iterator[int]:
    header = _HEADER.unpack_from(data)
    at, members = header[2], header[6]
    if members > MAX_MEMBERS:
        raise _bad(f"{members} members are more than the limit of {MAX_MEMBERS}")
    for _ in range(members):
        yield _FILE.unpack_from(data, at)[0]
        end = data.find(b"\0", at + _FILE.size, at + _FILE.size + 256)
        if end < 0:
            raise _bad("a member has no name")
        at = end + 1


def _blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield compression and unpacked size of each data block, from the headers alone."""
    header = _HEADER.unpack_from(data)
    folders, flags = header[5], header[7]
    at, in_folder, in_block = _HEADER.size, 0, 0
    if flags & _HAS_RESERVE:
        in_header, in_folder, in_block = struct.unpack_from("<HBB", data, at)
        at += 4 + in_header
    for _ in range(folders):
        offset, blocks, compression = _FOLDER.unpack_from(data, at)
        at += _FOLDER.size + in_folder
        for _ in range(blocks):
            _, packed, unpacked = _BLOCK.unpack_from(data, offset)
            yield compression & 0xF, unpacked
            offset += _BLOCK.size + in_block + packed


def _bad(fact: str, item: str | None = None) -> InvalidArgument:
    return InvalidArgument(
        f"cabinet: {fact}",
        hint="give the .cab file that DiskShadow wrote at create, copied in binary mode",
        item=item,
    )
