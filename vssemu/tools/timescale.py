"""Time on paper: from seconds to pixels, with long times left out in which nothing ran."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Final

WIDTH: Final = 1180
"""Pixels of a timeline, names of lanes included."""
LEFT: Final = 184
RIGHT: Final = 12
CUT: Final = 44
"""Pixels of a stretch that is left out."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Seconds to pixels. spans: the stretches that are shown, in order, with cuts between."""

    spans: Sequence[tuple[float, float]]
    zero: float = 0.0

    @property
    def shown(self) -> float:
        """Seconds that are shown."""
        return max(1e-6, sum(end - begin for begin, end in self.spans))

    @property
    def per_second(self) -> float:
        """Pixels of a second."""
        return (WIDTH - LEFT - RIGHT - CUT * (len(self.spans) - 1)) / self.shown

    def x(self, moment: float) -> float:
        """Return where a moment is; one in a cut is at its middle."""
        at = float(LEFT)
        for number, (begin, end) in enumerate(self.spans):
            if moment < begin:
                return at - CUT / 2 if number else at
            if moment <= end:
                return at + (moment - begin) * self.per_second
            at += (end - begin) * self.per_second + CUT
        return at - CUT

    def cuts(self) -> list[tuple[float, float, float]]:
        """Return begin, end (pixels) and length (seconds) of what is left out."""
        pairs = zip(self.spans, self.spans[1:], strict=False)
        return [(self.x(a[1]), self.x(b[0]), b[0] - a[1]) for a, b in pairs]

    def ticks(self) -> list[float]:
        """Return the moments that the axis names."""
        step = step_of(self.shown / 9)
        found = []
        for begin, end in self.spans:
            first = -floor((self.zero - begin) / step) * step + self.zero
            count = floor((end - first) / step + 1e-9) + 1
            found += [first + n * step for n in range(max(0, count)) if first + n * step >= begin]
        return found


def scale_of(busy: Iterable[tuple[float, float]], *, zero: float = 0.0) -> Scale:
    """Return a scale that leaves out long times between stretches in which something ran."""
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(busy):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    total = sum(end - begin for begin, end in joined)
    longest = max(0.05, total * 0.08)
    spans: list[tuple[float, float]] = []
    for begin, end in joined:
        if spans and begin - spans[-1][1] <= longest:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return Scale(spans=spans or [(0.0, 1e-3)], zero=zero)


def duration(seconds: float | None) -> str:
    """Return a time as people read it."""
    if seconds is None:
        return "not ended"
    if seconds < 0.00995:
        return f"{seconds * 1000:.2g} ms" if seconds >= 0.0001 else "<0.1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s"


def tick_text(seconds: float, step: float) -> str:
    """Return what an axis with ticks every `step` seconds says at a moment."""
    if abs(seconds) < step / 2:
        return "0"
    if step < 0.1:
        return f"{seconds * 1000:.{0 if step >= 0.001 else 1}f} ms"
    return f"{seconds:.{1 if step < 1 else 0}f} s"


def step_of(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten that is not below a number."""
    power: float = 10.0 ** floor(log10(max(rough, 1e-6)))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= rough * 0.999)
