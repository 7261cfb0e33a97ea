"""What a trace says at a glance: words and figures that both its page and its text show."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from vssemu.service.record import (
    ABANDONED,
    CANCELLED,
    INTERRUPTED,
    OK,
    RUNNING,
    EventSent,
    Phase,
    ProviderCall,
    Record,
    Span,
)
from vssemu.tools.timescale import duration
from vssemu.vss.errors import error_for
from vssemu.vss.hresult import Hresult

E = TypeVar("E", bound=Span)

KINDS = {
    "creation": "Creation of a shadow copy set",
    "import": "Import of a shadow copy set",
    "deletion": "Deletion of shadow copies",
    "break": "Break of a shadow copy set",
}

_WORDS = {
    OK: "done",
    RUNNING: "not ended",
    CANCELLED: "cancelled",
    INTERRUPTED: "the service died before the end",
    ABANDONED: "the requester left before the end",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A phase's part of the time in which applications stand still. by: what took most of it."""

    phase: Phase
    part: float
    by: EventSent | ProviderCall | None


def title(record: Record) -> str:
    """Return what a trace is of."""
    return f"{KINDS.get(record.kind, record.kind)} on {record.host}"


def outcome(span: Span | Record) -> str:
    """Return an outcome in words, or the name of the HRESULT."""
    return _WORDS.get(span.outcome, span.outcome)


def meaning(name: str) -> str:
    """Return what an HRESULT means in one sentence; empty for what is none."""
    try:
        return (type(error_for(Hresult[name], "")).__doc__ or "").splitlines()[0]
    except (KeyError, IndexError):
        return ""


def who(entry: EventSent | ProviderCall) -> str:
    """Return an entry as one does speak of it."""
    if isinstance(entry, EventSent):
        return f"{entry.event} of {entry.writer}"
    return f"{entry.method} of {entry.provider}"


def frozen_window(record: Record) -> tuple[float, float] | None:
    """Return when applications stood still; without writers, what is around the hold window."""
    if record.freeze is not None:
        begin, end = record.freeze
        hold = record.hold
        return (min(begin, hold.start), max(end, hold.end)) if hold else (begin, end)
    near = [p for p in record.phases if p.name in _COMMITTING]
    if record.hold is None or not near:
        return None
    return min(p.start for p in near), max(p.end for p in near)


_COMMITTING = frozenset(
    {"pre_commit_snapshots", "hold", "commit_snapshots", "release", "post_commit_snapshots"}
)


def shares(record: Record) -> list[Share]:
    """Return the phases within the frozen window and how much of it each took."""
    window = frozen_window(record)
    if window is None:
        return []
    whole = max(1e-9, window[1] - window[0])
    return [
        Share(phase=phase, part=(phase.seconds or 0.0) / whole, by=_longest(record, phase))
        for phase in record.phases
        if phase.sequence == "creation"
        and phase.start >= window[0] - 0.001
        and phase.end <= window[1] + 0.001
    ]


def _longest(record: Record, phase: Phase) -> EventSent | ProviderCall | None:
    inside = [e for e in in_it(record) if phase.start <= e.start and e.end <= phase.end + 1e-4]
    return max(inside, key=lambda each: each.seconds or 0.0, default=None)


def in_it(record: Record) -> Iterator[EventSent | ProviderCall]:
    """Yield the events and the provider calls."""
    yield from record.events
    yield from record.calls


def twins(record: Record) -> frozenset[str]:
    """Return the names that more than one writer has."""
    instances = {(event.writer, event.instance_id) for event in record.events}
    names = [name for name, _ in instances]
    return frozenset(name for name in names if names.count(name) > 1)


def failures(record: Record) -> list[EventSent | ProviderCall]:
    """Return what writers and providers failed in, in order."""
    return sorted((e for e in in_it(record) if e.is_failure), key=lambda each: each.start)


def figures(record: Record) -> list[tuple[str, str, str]]:
    """Return the figures that are looked for first: name, value, a word on it."""
    found = []
    if (hold := record.hold) is not None:
        count = len(hold.volumes) or len(record.volumes)
        limit = f"{count} volume{'' if count == 1 else 's'}; {hold.limit:g} s are allowed"
        found.append(("Writes held", duration(hold.seconds), limit))
    if record.freeze is not None:
        begin, end = record.freeze
        limits = [e.limit for e in record.events if e.event in ("Freeze", "FreezeToThaw")]
        allowed = f"Freeze to Thaw; {min(limits):.3g} s are allowed"
        found.append(("Applications frozen", duration(end - begin), allowed))
    if (most := max(shares(record), key=lambda each: each.part, default=None)) is not None:
        about = f"{most.part:.0%}: {phase_name(most.phase)}"
        about += f", {who(most.by)}" if most.by is not None else ""
        found.append(("Longest while frozen", duration(most.phase.seconds), about))
    found += [
        (request.method, duration(request.seconds), outcome(request))
        for request in record.requests
        if request.method in ("DoSnapshotSet", "ImportSnapshots", "DeleteSnapshots")
    ]
    lived = record.ended_by or "still alive"
    found.append(("Requester's object", duration(record.seconds), lived))
    return found


def end_of(record: Record, entry: Span) -> float:
    """Return when an entry ended; one whose end is not known lasts to the end of the trace."""
    return entry.end if entry.seconds is not None else max(entry.start, record.seconds)


def phase_name(phase: Phase) -> str:
    """Return a phase's name for people."""
    return phase.name.replace("_", " ")


def grouped(entries: Iterable[E], key: Callable[[E], str]) -> list[list[E]]:
    """Return entries by a key, in the order in which the keys come up."""
    found: dict[str, list[E]] = {}
    for entry in entries:
        found.setdefault(key(entry), []).append(entry)
    return list(found.values())
