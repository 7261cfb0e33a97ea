"""A trace in a terminal: what happened, in order, each line with its place on one timeline."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vssemu.service.record import OK, ProviderCall, Record, Request, Span
from vssemu.tools import trace_facts as facts
from vssemu.tools.markup import clean
from vssemu.tools.timescale import LEFT, RIGHT, WIDTH, Scale, duration, scale_of

COLUMNS = 40
"""Characters of the timeline."""

_PIPE_COLUMNS = 500

_FROZEN = "░"
_HELD = "▒"
_BAR = "█"


@dataclass(frozen=True, kw_only=True)
class _Line:
    span: Span
    depth: int
    who: str
    what: str
    about: str


def show(record: Record) -> None:
    """Print a trace."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_COLUMNS)
    print_line = console.print
    print_line(_text(f"{facts.title(record)}: {facts.outcome(record)}", style="bold"))
    print_line(_text(f"set {record.set_id or '-'}, began {record.started}, trace {record.id}"))
    if record.text:
        print_line(_text(record.text, style="red"))
    for name, value, about in facts.figures(record):
        print_line(_text(f"{name:<22} {value:>9}  {about}"))
    print_line(_legend(record))
    print_line(_table(record))
    for failed in facts.failures(record):
        said = f"{facts.who(failed)}: {failed.outcome} ({failed.code}): {failed.text}"
        print_line(_text(said, style="red"))


def _text(text: str, style: str = "") -> Text:
    return Text(clean(text), style=style)


def _legend(record: Record) -> Text:
    text = Text("\n")
    if record.freeze is not None:
        text.append(f"{_FROZEN} applications frozen   ", style="yellow")
    if record.hold is not None:
        text.append(f"{_HELD} writes held   ", style="dark_orange")
    return text.append("times between calls, in which nothing ran, are left out")


def _table(record: Record) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("AT", "TOOK"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("TIMELINE", no_wrap=True, min_width=COLUMNS)
    for name in ("WHO", "WHAT", "OUTCOME"):
        table.add_column(name, overflow="fold")
    scale = scale_of((e.start, facts.end_of(record, e)) for e in (*record.requests, *record.calls))
    for line in _lines(record):
        span = line.span
        bad = "red" if span.is_failure else ""
        table.add_row(
            f"{span.start:.3f}",
            duration(span.seconds),
            _drawn(record, span, scale),
            _text("  " * line.depth + line.who, style=bad),
            _text(f"{line.what} {line.about}".rstrip(), style=bad),
            _text(facts.outcome(span) if span.outcome != OK else "", style=bad),
        )
    return table


def _lines(record: Record) -> Iterator[_Line]:
    """Yield the entries in order; what runs inside another comes behind it."""
    lines = [
        *(
            _Line(span=r, depth=0, who="requester", what=r.method, about=r.arguments)
            for r in record.requests
        ),
        *(
            _Line(
                span=p,
                depth=1,
                who="service",
                what=f"{p.row} {facts.phase_name(p)}",
                about=p.detail or "",
            )
            for p in record.phases
        ),
        *(
            _Line(span=e, depth=2, who=e.writer, what=e.event, about="late" if e.late else "")
            for e in record.events
        ),
        *(
            _Line(span=c, depth=2, who=c.provider, what=c.method, about=_short(c))
            for c in record.calls
        ),
    ]
    yield from sorted(lines, key=lambda line: (line.span.start, line.depth))


def _short(call: ProviderCall) -> str:
    about = call.arguments
    return f"({about if len(about) <= 60 else about[:59] + '…'})"


def _drawn(record: Record, span: Span, scale: Scale) -> Text:
    cells = [" "] * COLUMNS
    styles = [""] * COLUMNS
    if record.freeze is not None:
        _fill(cells, styles, scale, record.freeze, _FROZEN, "yellow")
    if record.hold is not None:
        held = (record.hold.start, record.hold.end)
        _fill(cells, styles, scale, held, _HELD, "dark_orange")
    style = "red" if span.is_failure else "cyan" if isinstance(span, Request) else "green"
    _fill(cells, styles, scale, (span.start, facts.end_of(record, span)), _BAR, style)
    text = Text()
    for cell, each in zip(cells, styles, strict=True):
        text.append(cell, style=each)
    return text


def _fill(
    cells: list[str],
    styles: list[str],
    scale: Scale,
    stretch: tuple[float, float],
    mark: str,
    style: str,
) -> None:
    first, last = (_column(scale, moment) for moment in stretch)
    for number in range(first, max(first, last) + 1):
        cells[number], styles[number] = mark, style


def _column(scale: Scale, moment: float) -> int:
    part = (scale.x(moment) - LEFT) / (WIDTH - LEFT - RIGHT)
    return min(COLUMNS - 1, max(0, int(part * COLUMNS)))
