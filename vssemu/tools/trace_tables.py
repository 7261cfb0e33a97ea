"""The tables of a trace's page: every entry with all that is known of it."""

from collections.abc import Iterable, Sequence

from lxml import etree

from vssemu.service.record import EventSent, Phase, ProviderCall, Record, Request, Span, VolumeHold
from vssemu.tools import trace_facts as facts
from vssemu.tools.markup import Child, Element, el
from vssemu.tools.timescale import duration


def tables_of(record: Record) -> Iterable[Element]:
    """Yield the sections of a trace's tables."""
    if record.events:
        yield _section("Writers", _writers(record.events, facts.twins(record)))
    if record.calls:
        rows = [_call_row(number, call) for number, call in enumerate(record.calls, 1)]
        heads = ("#", "At", "Took", "Provider", "Method", "Arguments", "Returned", "Result")
        yield _section("Calls of providers", table(heads, rows))
    yield _section("Phases of the service", _phases(record.phases))
    yield _section("Calls of the requester", _requests(record.requests))
    if record.volumes:
        yield _section("Volumes", _volumes(record))


def _section(heading: str, table: Element) -> Element:
    return el("section", el("h2", heading), table)


def _phases(phases: Sequence[Phase]) -> Element:
    return table(
        ("Row", "At", "Took", "Phase", "Of", "Outcome"),
        [
            (
                str(p.row),
                _at(p),
                duration(p.seconds),
                facts.phase_name(p),
                p.detail or "",
                _outcome(p),
            )
            for p in phases
        ],
    )


def _requests(requests: Sequence[Request]) -> Element:
    return table(
        ("At", "Took", "Method", "Arguments", "Outcome"),
        [(_at(r), duration(r.seconds), r.method, r.arguments, _outcome(r)) for r in requests],
    )


def _call_row(number: int, call: ProviderCall) -> Sequence[Child]:
    returned = call.returned or _outcome(call)
    return (
        str(number),
        _at(call),
        duration(call.seconds),
        call.provider,
        call.method,
        el("code", call.arguments),
        el("span", returned, class_="bad") if call.is_failure else returned,
        el("code", call.result or call.text),
    )


def _writers(events: Sequence[EventSent], twins: frozenset[str]) -> Element:
    """Return a table of writers by events; a writer may get an event more than once."""
    kinds = list(dict.fromkeys(each.event for each in events))
    rows = []
    for theirs in facts.grouped(events, lambda each: each.instance_id):
        name = theirs[0].writer
        cells: list[Child] = [
            f"{name} {theirs[0].instance_id[:8]}" if name in twins else name,
            theirs[0].level,
        ]
        for kind in kinds:
            found = [each for each in theirs if each.event == kind]
            cells.append([part for n, each in enumerate(found) for part in _answer(each, n)])
        rows.append(cells)
    return table(("Writer", "Level", *kinds), rows)


def _answer(event: EventSent, number: int) -> Iterable[str | Element]:
    if number:
        yield ", "
    if event.is_failure:
        late = f"late, {event.limit:.3g} s allowed: " if event.late else ""
        text = f"✕ {duration(event.seconds)} {late}{event.outcome}"
        yield el("span", text, class_="bad", title=event.text)
    else:
        yield duration(event.seconds)


def _volumes(record: Record) -> Element:
    held = {each.volume: each for hold in record.holds for each in hold.volumes}
    rows: list[Sequence[Child]] = [
        (
            " ".join(volume.at) or volume.name,
            volume.filesystem or "-",
            f"{volume.size / (1 << 20):,.0f} MiB",
            el("code", ", ".join(volume.luns)),
            volume.provider,
            _held(held.get(volume.name)),
            el("code", f"{{{volume.snapshot_id}}}" if volume.snapshot_id else "-"),
        )
        for volume in record.volumes
    ]
    heads = ("Volume", "File system", "Size", "LUNs", "Provider", "Held", "Shadow copy")
    return table(heads, rows)


def _held(window: VolumeHold | None) -> str:
    if window is None or window.frozen is None or window.thawed is None:
        return "-"
    return duration(window.thawed - window.frozen)


def table(heads: Sequence[str], rows: Iterable[Sequence[Child]]) -> Element:
    """Return a table, with room to scroll where it is too wide."""
    return el(
        "div",
        el(
            "table",
            el("thead", el("tr", [el("th", head) for head in heads])),
            el("tbody", [el("tr", [_cell(each) for each in row]) for row in rows]),
        ),
        class_="table",
    )


def _cell(content: Child) -> Element:
    is_code = isinstance(content, etree._Element) and content.tag == "code"
    is_short = isinstance(content, str) and len(content) < 32
    return el("td", content, class_="wide" if is_code else "tight" if is_short else None)


def _outcome(span: Span) -> Child:
    if span.is_failure:
        return el("span", span.outcome, class_="bad", title=span.text)
    return facts.outcome(span)


def _at(span: Span) -> str:
    return f"{span.start:.4f} s"
