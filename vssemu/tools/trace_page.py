"""A trace as one page that needs nothing else: no network, no script, light or dark.

From the top: what it is of and how it ended; the figures that are looked for first; the whole
on a timeline; the time from Freeze to Thaw enlarged, and who took how much of it; then
everything in tables. What is red failed.
"""

from collections.abc import Iterable
from importlib.resources import files

from vssemu.service.record import OK, RUNNING, Record
from vssemu.tools import trace_facts as facts
from vssemu.tools.markup import Element, el, page
from vssemu.tools.timeline import timeline
from vssemu.tools.timescale import Scale, duration, scale_of
from vssemu.tools.trace_lanes import bands_of, lanes_of, requester_lane, volume_lanes
from vssemu.tools.trace_tables import table, tables_of


def render(record: Record) -> str:
    """Return the page of a trace."""
    style = files("vssemu.tools").joinpath("trace_page.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return page(
        el(
            "html",
            el(
                "head",
                el("meta", charset="utf-8"),
                el("meta", http_equiv="Content-Security-Policy", content=policy),
                el("meta", name="viewport", content="width=device-width, initial-scale=1"),
                el("meta", name="color-scheme", content="light dark"),
                el("title", f"{facts.title(record)}: {facts.outcome(record)}"),
                el("style", style),
            ),
            el("body", el("main", _body(record))),
            lang="en",
        )
    )


def _body(record: Record) -> Iterable[Element]:
    yield _header(record)
    if record.outcome not in (OK, RUNNING) or facts.failures(record):
        yield _failures(record)
    yield el("div", [_figure(*each) for each in facts.figures(record)], class_="figures")
    yield el("section", el("h2", "All of it"), _legend(record), _whole(record))
    if (window := facts.frozen_window(record)) is not None:
        yield _frozen(record, window)
    yield from tables_of(record)
    if record.left_out:
        yield el("p", f"{record.left_out} more entries found no room in the trace.", class_="note")


def _header(record: Record) -> Element:
    who = record.requester
    program = who.program or ("a process outside this host" if not who.pid else "unknown program")
    rows = [
        ("Began", record.started.replace("T", " ").replace("+00:00", " UTC")),
        ("Set", f"{{{record.set_id}}}" if record.set_id else "-"),
        ("Context", " | ".join((record.context_name, *record.attributes)) or "-"),
        ("Requester", f"{program} (pid {who.pid}, uid {who.uid})"),
    ]
    state = {OK: "good", RUNNING: "open"}.get(record.outcome, "bad")
    badge = facts.outcome(record)
    if record.outcome == OK and facts.failures(record):
        state, badge = "warn", "done, with failures"
    return el(
        "header",
        el("h1", facts.title(record), el("span", badge, class_=f"badge {state}")),
        el("dl", [each for name, text in rows for each in (el("dt", name), el("dd", text))]),
    )


def _failures(record: Record) -> Element:
    told = []
    is_told = any(e.outcome == record.outcome for e in facts.failures(record))
    if record.outcome not in (OK, RUNNING) and not is_told:
        told.append(_failure("", facts.outcome(record), record.code, record.text))
    told += [
        _failure(f"{facts.who(e)}, {duration(e.seconds)}", facts.outcome(e), e.code, e.text)
        for e in facts.failures(record)
    ]
    return el("section", told, class_="failures")


def _failure(what: str, name: str, code: str | None, text: str) -> Element:
    heading: list[str | Element] = [el("b", name), f" ({code})" if code else ""]
    meaning = facts.meaning(name)
    return el(
        "p",
        el("span", f"{what}: ", class_="what") if what else "",
        heading,
        f": {meaning}" if meaning else "",
        el("span", text, class_="said") if text else "",
    )


def _figure(name: str, value: str, about: str) -> Element:
    return el("div", el("span", name), el("b", value), el("small", about), class_="figure")


def _legend(record: Record) -> Element:
    keys = [
        ("requester", "the requester's calls"),
        ("phase", "the service's phases"),
        ("event", "events to writers"),
        ("call", "calls of providers"),
        ("failed", "failed"),
    ]
    if record.freeze:
        keys.append(("freeze", "applications frozen"))
    if record.hold:
        keys.append(("hold", "writes held"))
    keys.append(("cut", "nothing ran: the requester's own time, cut out"))
    return el("p", [el("span", el("i", class_=k), text) for k, text in keys], class_="legend")


def _whole(record: Record) -> Element:
    busy = [
        (e.start, facts.end_of(record, e))
        for e in (*record.requests, *record.events, *record.calls)
    ]
    window = facts.frozen_window(record)
    # Phases begin a little before the event that they send.
    larger = None if window is None else (window[0] - 0.002, window[1] + 0.002)
    about = "Timeline of the requester object, in seconds from its first call"
    lanes = [requester_lane(record), *lanes_of(record)]
    drawn = timeline(lanes, scale_of(busy), about=about, bands=bands_of(record), larger=larger)
    return el("div", drawn, class_="timeline")


def _frozen(record: Record, window: tuple[float, float]) -> Element:
    begin, end = window
    margin = max(0.001, (end - begin) * 0.02)
    scale = Scale(spans=[(begin - margin, end + margin)], zero=begin)
    lanes = lanes_of(record, within=window)
    about = "Timeline from Freeze to Thaw"
    drawn = timeline([*lanes, *volume_lanes(record)], scale, about=about, bands=bands_of(record))
    heading = "From Freeze to Thaw, enlarged" if record.freeze else "Around the hold, enlarged"
    return el(
        "section",
        el("h2", heading),
        el("p", "Time from the first Freeze." if record.freeze else "", class_="note"),
        el("div", drawn, class_="timeline"),
        _held_larger(record, window),
        el("h3", "Where that time went"),
        table(
            ("Row", "Phase", "Took", "Share", "Most of it"),
            [
                (
                    str(share.phase.row),
                    facts.phase_name(share.phase),
                    duration(share.phase.seconds),
                    _share(share.part),
                    f"{facts.who(share.by)}: {duration(share.by.seconds)}" if share.by else "",
                )
                for share in facts.shares(record)
            ],
        ),
    )


def _held_larger(record: Record, frozen: tuple[float, float]) -> list[Element]:
    """Draw the hold window once more where it would be too narrow to be read."""
    hold = record.hold
    if hold is None or not hold.seconds or hold.seconds > 0.12 * (frozen[1] - frozen[0]):
        return []
    margin = hold.seconds * 0.4
    begin, end = hold.start - margin, hold.end + margin
    lanes = [*lanes_of(record, within=(begin, end)), *volume_lanes(record)]
    drawn = timeline(
        [lane for lane in lanes if lane.bars],
        Scale(spans=[(begin, end)], zero=hold.start),
        about="Timeline of the hold window",
        bands=bands_of(record),
    )
    note = "Time from the freeze of the first volume."
    return [
        el("h3", "The hold window, enlarged"),
        el("p", note, class_="note"),
        el("div", drawn, class_="timeline"),
    ]


def _share(part: float) -> list[Element]:
    bar = el("i", style=f"width: {part * 100:.1f}px")
    return [el("span", bar, class_="share"), el("span", f"{part:.0%}", class_="percent")]
