"""Timelines as SVG: lanes of bars over a scale, which leaves out long times in which nothing ran.

Each bar has a label that can be read without pointing at it, unless it lies in a part that
another timeline shows larger. Bars of one lane that would hide each other, or each other's
labels, go into rows of their own. Knows nothing of shadow copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Final

from vssemu.tools.markup import Element, el
from vssemu.tools.timescale import LEFT, RIGHT, WIDTH, Scale, duration, step_of, tick_text

AXIS: Final = 46
ROW: Final = 18
BAR: Final = 14
TIMES: Final = "\u00d7"
SMALL: Final = 6.0
CAPITAL: Final = 7.8
"""Pixels of one letter of a label, a little more than most have, heavy ones too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One thing that took time. start, end: seconds; batch: those of one are drawn together.

    title: what pointing at it shows. kind: its class in the style sheet.
    """

    start: float
    end: float
    label: str
    title: str
    kind: str
    failed: bool = False
    batch: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """A name, a word about it, and its bars. slim: thin rows without labels."""

    name: str
    about: str = ""
    bars: Sequence[Bar] = ()
    slim: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """A stretch of time that is marked over all lanes."""

    start: float
    end: float
    label: str
    kind: str


def timeline(
    lanes: Sequence[Lane],
    scale: Scale,
    *,
    about: str,
    bands: Sequence[Band] = (),
    larger: tuple[float, float] | None = None,
) -> Element:
    """Draw lanes. larger: a stretch that another timeline shows; bars there may lack labels."""
    tall = float(AXIS)
    drawn: list[Element] = []
    for number, lane in enumerate(lanes):
        rows = _slim(lane, scale) if lane.slim else _rows(lane, scale, larger)
        names = _names(lane)
        height = max(ROW, rows.height, 14 * len(names) + 2) + 8
        shade = "lane odd" if number % 2 else "lane"
        drawn.append(el("rect", x=0, y=tall, width=WIDTH, height=height, class_=shade))
        drawn.append(el("g", el("title", lane.name), _name(names, lane, tall)))
        drawn.append(el("g", rows.elements, transform=f"translate(0 {tall + 4})"))
        tall += height
    under = [_band(band, scale, tall) for band in bands]
    over = [el("g", _axis(scale, tall), _cuts(scale, tall)), *_band_labels(bands, scale)]
    # Lanes' ground first, then bands, then what is on them.
    grounds = [each for each in drawn if each.tag == "rect"]
    marks = [each for each in drawn if each.tag != "rect"]
    return el(
        "svg",
        el("title", about),
        grounds,
        under,
        over,
        marks,
        viewBox=f"0 0 {WIDTH} {tall + 2}",
        width=WIDTH,
        height=tall + 2,
        role="img",
        aria_label=about,
    )


def text_width(text: str) -> float:
    """Return about how many pixels a label takes."""
    return sum(CAPITAL if letter.isupper() or letter == "_" else SMALL for letter in text)


@dataclass(kw_only=True)
class _Rows:
    height: float = 0.0
    elements: list[Element] = field(default_factory=list)


def _rows(lane: Lane, scale: Scale, larger: tuple[float, float] | None) -> _Rows:
    made = _Rows()
    taken: list[list[tuple[float, float]]] = []
    for group in _groups(lane.bars):
        begin, end = min(b.start for b in group), max(b.end for b in group)
        left, right = scale.x(begin), max(scale.x(end), scale.x(begin) + 2)
        text = group[0].label + (f" {TIMES}{len(group)}" if len(group) > 1 else "")
        text = f"{text} · {duration(end - begin)}"
        is_inside = len(group) == 1 and right - left > text_width(text) + 8
        is_shown_larger = (
            larger is not None and larger[0] <= begin and end <= larger[1] and not group[0].failed
        )
        place = "in" if is_inside else "none" if is_shown_larger else "right"
        room = (left, right)
        if place == "right":
            needed = text_width(text) + 6
            if right + needed > WIDTH - RIGHT:
                place, room = "left", (left - needed, right)
            else:
                room = (left, right + needed)
        row = _free(taken, room)
        y = row * ROW
        made.height = max(made.height, y + ROW)
        made.elements += [_bar(bar, scale, y, BAR) for bar in group]
        if place != "none":
            x = {"in": left + 5, "right": right + 4, "left": left - 4}[place]
            class_ = f"label {place}" + (" bad" if group[0].failed else "")
            made.elements.append(el("text", text, x=_n(x), y=y + 11, class_=class_))
    return made


def _slim(lane: Lane, scale: Scale) -> _Rows:
    made = _Rows(height=len(lane.bars) * 5)
    made.elements = [_bar(bar, scale, n * 5, 4) for n, bar in enumerate(lane.bars)]
    return made


def _groups(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Return bars that share label and batch together, in the order of their starts."""
    found: dict[tuple[str, int, bool, int], list[Bar]] = {}
    for number, bar in enumerate(sorted(bars, key=lambda each: each.start)):
        apart = number if bar.failed else -1
        found.setdefault((bar.label, bar.batch, bar.failed, apart), []).append(bar)
    return list(found.values())


def _free(taken: list[list[tuple[float, float]]], room: tuple[float, float]) -> int:
    """Return the first row in which a stretch of pixels is free, and take it."""
    for number, row in enumerate(taken):
        if all(room[0] >= end + 5 or room[1] + 5 <= begin for begin, end in row):
            row.append(room)
            return number
    taken.append([room])
    return len(taken) - 1


def _bar(bar: Bar, scale: Scale, y: float, height: int) -> Element:
    left, right = scale.x(bar.start), scale.x(bar.end)
    return el(
        "rect",
        el("title", bar.title),
        x=_n(left),
        y=_n(y + 1),
        width=_n(max(2.0, right - left)),
        height=height,
        rx=2,
        class_=f"bar {bar.kind}" + (" bad" if bar.failed else ""),
    )


def _names(lane: Lane) -> list[str]:
    """Return the lines of a lane's name; the word about it has one of its own if need be."""
    lines = wrap(lane.name, 22)[:2] or ["-"]
    if len(lane.name) > 44:
        lines[1] = f"{lines[1][:21]}…"
    if lane.about and len(lines[-1]) * 7.6 + len(lane.about) * 5.6 + 18 > LEFT:
        lines.append("")
    return lines


def _name(lines: Sequence[str], lane: Lane, y: float) -> list[Element]:
    made = []
    for number, line in enumerate(lines):
        place = {"x": 8, "y": _n(y + 16 + 14 * number)}
        if line:
            made.append(el("text", line, class_="name", **place))
    if lane.about:
        x = 8 if not lines[-1] else 8 + len(lines[-1]) * 7.6 + 6
        made.append(el("text", lane.about, x=_n(x), y=_n(y + 2 + 14 * len(lines)), class_="about"))
    return made


def _band(band: Band, scale: Scale, tall: float) -> Element:
    left, right = scale.x(band.start), scale.x(band.end)
    return el(
        "rect",
        el("title", band.label),
        x=_n(left),
        y=AXIS - 8,
        width=_n(max(1.5, right - left)),
        height=_n(tall - AXIS + 8),
        class_=f"band {band.kind}",
    )


def _band_labels(bands: Sequence[Band], scale: Scale) -> list[Element]:
    made = []
    for number, band in enumerate(bands):
        x = scale.x(band.start)
        is_right = x + text_width(band.label) > WIDTH - RIGHT
        x = scale.x(band.end) if is_right else x
        class_ = f"bandlabel {band.kind}" + (" left" if is_right else "")
        made.append(el("text", band.label, x=_n(x), y=11 + 12 * number, class_=class_))
    return made


def _axis(scale: Scale, tall: float) -> list[Element]:
    made = []
    step = step_of(scale.shown / 9)
    cuts = scale.cuts()
    last = -1e9
    for moment in scale.ticks():
        x = scale.x(moment)
        made.append(el("line", x1=_n(x), x2=_n(x), y1=AXIS - 4, y2=_n(tall), class_="tick"))
        is_free = all(x < left - 24 or x > right + 24 for left, right, _ in cuts)
        if x - last > 52 and is_free:
            text = tick_text(moment - scale.zero, step)
            made.append(el("text", text, x=_n(x), y=AXIS - 7, class_="ticklabel"))
            last = x
    return made


def _cuts(scale: Scale, tall: float) -> list[Element]:
    made = []
    for left, right, seconds in scale.cuts():
        about = f"nothing ran for {duration(seconds)}: the requester's own time, cut out"
        text = el("text", duration(seconds), x=_n((left + right) / 2), y=AXIS - 7)
        place = {"x": _n(left + 2), "width": _n(right - left - 4)}
        stripe = el("rect", y=AXIS - 4, height=_n(tall - AXIS + 4), **place)
        made.append(el("g", el("title", about), stripe, text, class_="cut"))
    return made


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
