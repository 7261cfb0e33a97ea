"""The stores that a kernel wrote, and the writes it saw, read out of their logs."""

import hashlib
import lzma
import re
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).parents[2] / "data" / "dm-snapshot"
SECTOR = 512

_WRITE = re.compile(r"^\d+ .*: write (ORIGIN|SNAPSHOT) sector (\d+) count (\d+) tag (\w{4})", re.M)
_DIGEST = re.compile(r"^(?:sha256 of (?:the )?)?(.+?):? (?:sha256 )?([0-9a-f]{64})$", re.M)


@dataclass(frozen=True, kw_only=True)
class Write:
    to_origin: bool
    sector: int
    count: int
    tag: str

    @property
    def data(self) -> bytes:
        return tagged(self.tag, self.sector, self.count)


def tagged(tag: str, sector: int, count: int) -> bytes:
    """Return sectors as the kernel's test wrote them: tag and number, over and over."""
    numbers = range(sector, sector + count)
    return b"".join(struct.pack("<4sI", tag.encode(), number) * 64 for number in numbers)


def log(name: str) -> str:
    return (DATA / f"{name}-log.txt").read_text()


def writes(name: str) -> list[Write]:
    return [
        Write(to_origin=to == "ORIGIN", sector=int(sector), count=int(count), tag=tag)
        for to, sector, count, tag in _WRITE.findall(log(name))
    ]


def digests(name: str) -> dict[str, str]:
    """Return the SHA-256 of `origin before`, `SNAPSHOT view` and `ORIGIN`."""
    return dict(_DIGEST.findall(log(name)))


@cache
def image(name: str) -> bytes:
    return lzma.decompress((DATA / f"{name}.img.xz").read_bytes())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
