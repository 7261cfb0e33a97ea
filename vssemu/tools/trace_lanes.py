"""The lanes of a trace's timelines: requester, service, writers, providers, volumes."""

from vssemu.service.record import RUNNING, Hold, Record, Span, VolumeHold
from vssemu.tools import trace_facts as facts
from vssemu.tools.timeline import Band, Bar, Lane
from vssemu.tools.timescale import duration

NAMED_VOLUMES = 12
"""So many volumes have a lane each; more share one."""


def bands_of(record: Record) -> list[Band]:
    """Return when applications stood still and when writes were held."""
    found = []
    if record.freeze is not None:
        begin, end = record.freeze
        label = f"applications frozen {duration(end - begin)}"
        found.append(Band(start=begin, end=end, label=label, kind="freeze"))
    for hold in record.holds:
        label = f"writes held {duration(hold.seconds)}"
        found.append(Band(start=hold.start, end=hold.end, label=label, kind="hold"))
    return found


def requester_lane(record: Record) -> Lane:
    """Return the lane of the requester's calls."""
    batches = _batches(record)
    bars = [
        _bar(record, each, each.method, "requester", each.arguments, batch=batches[n])
        for n, each in enumerate(record.requests)
    ]
    return Lane(name="Requester", bars=bars)


def lanes_of(record: Record, within: tuple[float, float] | None = None) -> list[Lane]:
    """Return the service's lane, the writers' and the providers'.

    within: only what ran in this stretch of time.
    """
    batches = _batches(record)

    def batch(entry: Span) -> int:
        before = [n for n, each in enumerate(record.requests) if each.start <= entry.start]
        return batches[before[-1]] if before else -1

    def is_in(entry: Span) -> bool:
        return within is None or (
            entry.start < within[1] and facts.end_of(record, entry) > within[0]
        )

    lanes = [
        Lane(
            name="Service",
            about="phases",
            bars=[
                _bar(record, p, facts.phase_name(p), "phase", p.detail or "", batch=batch(p))
                for p in record.phases
                if is_in(p)
            ],
        )
    ]
    twins = facts.twins(record)
    lanes += [
        Lane(
            name=theirs[0].writer,
            about=theirs[0].level.lower().replace("_", " ")
            + (f" {theirs[0].instance_id[:8]}" if theirs[0].writer in twins else ""),
            bars=[_bar(record, e, e.event, "event", "") for e in theirs if is_in(e)],
        )
        for theirs in facts.grouped(record.events, lambda each: each.instance_id)
    ]
    lanes += [
        Lane(
            name=theirs[0].provider,
            bars=[
                _bar(record, c, c.method, "call", c.arguments, c.result, batch=batch(c))
                for c in theirs
                if is_in(c)
            ],
        )
        for theirs in facts.grouped(record.calls, lambda each: each.provider_id)
    ]
    return lanes


def volume_lanes(record: Record) -> list[Lane]:
    """Return when each volume was frozen; many volumes share a lane of thin rows."""
    windows = [(hold, each) for hold in record.holds for each in hold.volumes]
    if len(windows) > NAMED_VOLUMES:
        bars = [_frozen(record, hold, each) for hold, each in windows if each.frozen is not None]
        return [Lane(name=f"{len(windows)} volumes", about="frozen", bars=bars, slim=True)]
    return [
        Lane(
            name=_volume_name(record, each.volume),
            about="volume",
            bars=[_freezing(record, hold, each), _frozen(record, hold, each)],
        )
        for hold, each in windows
        if each.frozen is not None
    ]


def _freezing(record: Record, hold: Hold, window: VolumeHold) -> Bar:
    end = hold.start if window.frozen is None else window.frozen
    name = _volume_name(record, window.volume)
    return Bar(
        start=hold.start,
        end=end,
        label="freezing",
        title=f"{name}: its freeze took {duration(end - hold.start)}",
        kind="freezing",
    )


def _frozen(record: Record, hold: Hold, window: VolumeHold) -> Bar:
    begin = hold.start if window.frozen is None else window.frozen
    end = hold.end if window.thawed is None else window.thawed
    name = _volume_name(record, window.volume)
    return Bar(
        start=begin,
        end=end,
        label="frozen",
        title=f"{name}: frozen for {duration(end - begin)}",
        kind="volume",
        failed=window.thawed is None,
    )


def _batches(record: Record) -> list[int]:
    """Return a number for each request; those of one method in a row share it."""
    numbers: list[int] = []
    for n, request in enumerate(record.requests):
        same = n > 0 and record.requests[n - 1].method == request.method
        numbers.append(numbers[-1] if same else n)
    return numbers


def _bar(record: Record, entry: Span, label: str, kind: str, *about: str, batch: int = 0) -> Bar:
    lines = [
        label,
        f"{duration(entry.seconds)}, from {entry.start:.4f} s",
        *(each for each in about if each),
    ]
    if entry.is_failure:
        lines += [
            f"{entry.outcome} {entry.code or ''}: {facts.meaning(entry.outcome)}",
            entry.text,
        ]
        label = f"✕ {label}: {entry.outcome}"
    elif entry.outcome == RUNNING:
        lines.append("its end is not known")
        label = f"{label} …"
    return Bar(
        start=entry.start,
        end=facts.end_of(record, entry),
        label=label,
        title="\n".join(lines),
        kind=kind,
        failed=entry.is_failure,
        batch=batch,
    )


def _volume_name(record: Record, name: str) -> str:
    found = [volume for volume in record.volumes if volume.name == name]
    return found[0].at[0] if found and found[0].at else name
