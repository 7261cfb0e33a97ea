"""Faults of a LUN: which of its requests fail, wait or are stuck. Pure: no files, no time.

    fault = LunFault(kind=LunFaultKind.READ_ERROR, sectors=parse_sectors("2048-4095"))
    state = FaultState(fault)
    state.meets("read", offset=1 << 20, length=4096)       # True: this request fails

Nothing here depends on the order in which requests come, as long as errors are meant:
*probability* is then the share of bad sectors, and the seed says which ones they are, the
same ones each time, as a damaged medium has it. Delays, stuck requests and failing flushes
are drawn, by number of the request.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final, Literal

from vssemu.vss.errors import InvalidArgument
from vssemu.vss.identity import LunId

SECTOR: Final = 512
"""Bytes, as everywhere in the field; LUNs read and write in blocks of 4096."""

Request = Literal["read", "write", "flush", "zero"]
"""zero: a discard or the writing of zeroes, which no loop device tells apart."""

_REGION: Final = 2048
"""Sectors whose bad ones are drawn in one go."""

_RANGE: Final = re.compile(r"(\d+)(?:-(\d+))?")


class LunFaultKind(Enum):
    """What happens to a request. Errors are EIO, and nothing of the request is done."""

    READ_ERROR = "read-error"
    WRITE_ERROR = "write-error"
    FLUSH_ERROR = "flush-error"
    LATENCY = "latency"
    STUCK = "stuck"


_MEETS: Final[dict[LunFaultKind, frozenset[Request]]] = {
    LunFaultKind.READ_ERROR: frozenset({"read"}),
    LunFaultKind.WRITE_ERROR: frozenset({"write", "zero"}),
    LunFaultKind.FLUSH_ERROR: frozenset({"flush"}),
    LunFaultKind.LATENCY: frozenset({"read", "write", "flush", "zero"}),
    LunFaultKind.STUCK: frozenset({"read", "write", "flush", "zero"}),
}
_OF_THE_MEDIUM: Final = frozenset({LunFaultKind.READ_ERROR, LunFaultKind.WRITE_ERROR})


@dataclass(frozen=True, kw_only=True, slots=True)
class Sectors:
    """A range of sectors of 512 bytes, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.last != self.first else f"{self.first}"


@dataclass(frozen=True, kw_only=True, slots=True)
class LunFault:
    """A fault of a LUN. Raises InvalidArgument.

    sectors: those it is limited to; none: all, and flushes, which have no sectors.
    seconds: of the kind latency. probability: above 0, up to 1; see the module.
    seed: None is drawn by who sets the fault. times: how many requests it meets, 0 is all.
    after: how many requests that it would meet pass before.
    """

    kind: LunFaultKind
    sectors: tuple[Sectors, ...] = ()
    seconds: float | None = None
    probability: float = 1.0
    seed: int | None = None
    times: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        if any(not 0 <= each.first <= each.last for each in self.sectors):
            raise self._refused("a range of sectors ends before it begins", "write it A-B")
        if self.sectors and self.kind is LunFaultKind.FLUSH_ERROR:
            raise self._refused("a flush has no sectors", "leave the sectors out")
        if (self.seconds is not None) != (self.kind is LunFaultKind.LATENCY):
            raise self._refused("seconds belong to latency", "give both or none")
        if self.seconds is not None and not 0 < self.seconds <= 3600:
            raise self._refused(f"{self.seconds} seconds", "give more than 0, 3600 at most")
        if not 0 < self.probability <= 1:
            raise self._refused(f"probability {self.probability}", "give more than 0, up to 1")
        if self.times < 0 or self.after < 0:
            raise self._refused(f"times {self.times}, after {self.after}", "neither is below 0")

    def describe(self) -> str:
        """Return what happens, in one line."""
        words = [self.kind.value]
        if self.seconds is not None:
            words.append(f"{self.seconds:g} s")
        if self.sectors:
            words.append(f"sectors {','.join(map(str, self.sectors))}")
        if self.probability < 1:
            words.append(f"probability {self.probability:g}")
        if self.seed is not None and self.probability < 1:
            words.append(f"seed {self.seed}")
        if self.after:
            words.append(f"after {self.after}")
        if self.times:
            words.append(f"{self.times} times")
        return ", ".join(words)

    def _refused(self, why: str, hint: str) -> InvalidArgument:
        return InvalidArgument(f"{self.kind.value}: {why}", hint=hint, item=self.kind.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class LunFaultStatus:
    """A fault that is set. met: requests it met so far. standing: those stuck at it now."""

    lun: LunId
    fault: LunFault
    met: int
    standing: int


def parse_sectors(text: str) -> tuple[Sectors, ...]:
    """Return the ranges of `A`, `A-B`, `A-B,C-D`. Raises ValueError."""
    found = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part!r} is no range of sectors, write A-B")
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first:
            raise ValueError(f"{part!r} ends before it begins")
        found.append(Sectors(first=first, last=last))
    return tuple(found)


class FaultState:
    """A fault as it goes on: how many requests were looked at, and how many drawn.

    Both numbers are all there is to keep: with them a state goes on where it was.
    """

    def __init__(self, fault: LunFault, seen: int = 0, drawn: int = 0) -> None:
        self.fault = fault
        self.seen = seen
        self.drawn = drawn
        self._requests = _MEETS[fault.kind]
        self._seed = fault.seed or 0
        self._is_drawn_by_sector = fault.kind in _OF_THE_MEDIUM

    @property
    def met(self) -> int:
        """How many requests it met."""
        met = max(0, self.drawn - self.fault.after)
        return min(met, self.fault.times) if self.fault.times else met

    @property
    def is_over(self) -> bool:
        """Whether it will meet none any more."""
        return bool(self.fault.times) and self.drawn >= self.fault.after + self.fault.times

    def meets(self, request: Request, offset: int = 0, length: int = 0) -> bool:
        """Tell whether a request runs into it, and count. offset, length: bytes."""
        if request not in self._requests or self.is_over:
            return False
        first, last = offset // SECTOR, (offset + length - 1) // SECTOR
        if not self._is_limited_to(request, first, last):
            return False
        self.seen += 1
        if not self._is_bad(first, last):
            return False
        self.drawn += 1
        return self.drawn > self.fault.after

    def _is_limited_to(self, request: Request, first: int, last: int) -> bool:
        ranges = self.fault.sectors
        if not ranges:
            return True
        return request != "flush" and any(
            one.first <= last and first <= one.last for one in ranges
        )

    def _is_bad(self, first: int, last: int) -> bool:
        probability = self.fault.probability
        if probability == 1:
            return True
        if not self._is_drawn_by_sector:
            return _draw(self._seed, self.seen) < probability
        spans: Sequence[Sectors] = self.fault.sectors or (Sectors(first=first, last=last),)
        return any(
            has_bad_sector(self._seed, probability, max(first, one.first), min(last, one.last))
            for one in spans
        )


def has_bad_sector(seed: int, probability: float, first: int, last: int) -> bool:
    """Tell whether any of some sectors, ends included, is among the bad ones of a seed."""
    for region in range(first // _REGION, last // _REGION + 1):
        bad = _bad_sectors(seed, probability, region)
        if any(first <= sector <= last for sector in bad):
            return True
    return False


@lru_cache(maxsize=4096)
def _bad_sectors(seed: int, probability: float, region: int) -> tuple[int, ...]:
    source = random.Random(f"{seed}:region:{region}")
    begin = region * _REGION
    return tuple(
        sector for sector in range(begin, begin + _REGION) if source.random() < probability
    )


def _draw(seed: int, number: int) -> float:
    return random.Random(f"{seed}:request:{number}").random()
