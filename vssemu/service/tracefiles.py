"""The traces on disk: STATE/traces, a file a trace, the oldest removed when there are many.

    ID.open.jsonl    its requester object lives, or the service died
    ID.jsonl         finished

A file has one JSON array a line, `[number, field, entry]`: entry `number` of the list `field`
of a `record.Record`, or `[-1, "head", ...]`. A later line of the same number replaces the
earlier one, so a trace is complete at every moment as far as it was known; a line cut off by a
crash is left out. A trace that cannot be written is a warning, never a failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from vssemu.service.record import INTERRUPTED, LISTS, RUNNING, Head, Record, Span

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

DIRECTORY: Final = "traces"
"""Below the service's state directory."""

KEPT: Final = 200
"""Traces that are kept, open ones not counted."""
KEPT_BYTES: Final = 64 * 1024 * 1024
"""Bytes that finished traces may take in all."""

DIED: Final = "service died"

_OPEN: Final = ".open.jsonl"
_DONE: Final = ".jsonl"
_HEAD: Final = "head"


class TraceFile:
    """The file of one trace in the making."""

    def __init__(self, path: Path) -> None:
        self._path: Path | None = path
        self._head = b""

    def append(self, head: Head, entries: Mapping[int, tuple[str, Span]]) -> None:
        """Write the head and the entries, by number, that are new or have changed."""
        if self._path is None:
            return
        lines = [msgspec.json.encode((n, name, entry)) for n, (name, entry) in entries.items()]
        if (line := msgspec.json.encode((-1, _HEAD, head))) != self._head:
            self._head = line
            lines.append(line)
        if not lines:
            return
        try:
            with self._path.open("ab") as file:
                file.write(b"\n".join(lines) + b"\n")
        except OSError as error:
            logger.warning("trace_not_written", path=str(self._path), error=str(error))

    def finish(self) -> None:
        """Say that nothing more will come."""
        path, self._path = self._path, None
        if path is not None:
            _finish(path)


class TraceFiles:
    """The traces of one service. Made at its start, when those of a dead one are finished."""

    def __init__(self, state: Path, *, kept: int = KEPT, kept_bytes: int = KEPT_BYTES) -> None:
        self.directory = state / DIRECTORY
        self._kept = kept
        self._kept_bytes = kept_bytes
        for path in sorted(self.directory.glob(f"*{_OPEN}")):
            _bury(path)

    def begin(self, trace_id: str) -> TraceFile:
        """Return the file of a new trace; the oldest ones go when there are too many."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._turn_over()
        except OSError as error:
            logger.warning("traces_not_turned_over", path=str(self.directory), error=str(error))
        return TraceFile(self.directory / f"{trace_id}{_OPEN}")

    def _turn_over(self) -> None:
        room = self._kept_bytes
        for number, path in enumerate(sorted(_finished(self.directory), reverse=True)):
            room -= path.stat().st_size
            if room < 0 or number >= self._kept:
                path.unlink(missing_ok=True)


def read_all(state: Path) -> Iterator[Record]:
    """Yield the traces below a state directory, the newest first; what is no trace is left out.

    Needs no running service. Raises OSError when a file cannot be read.
    """
    directory = state / DIRECTORY
    paths = [*directory.glob(f"*{_DONE}")] if directory.is_dir() else []
    for path in sorted(paths, key=lambda each: each.name, reverse=True):
        try:
            found = read(path)
        except FileNotFoundError:
            # Finished, so renamed, or turned over since the list was made.
            renamed = path.with_name(path.name.replace(_OPEN, _DONE))
            found = read(renamed) if renamed.exists() else None
        if found is not None:
            yield found


def read(path: Path) -> Record | None:
    """Return the trace in a file, None when there is none. Raises OSError."""
    head: Any = None
    entries: dict[int, tuple[str, Any]] = {}
    for line in path.read_bytes().splitlines():
        try:
            number, name, entry = msgspec.json.decode(line, type=tuple[int, str, dict[str, Any]])
        except msgspec.MsgspecError:
            continue
        if name == _HEAD:
            head = entry
        elif name in LISTS:
            entries[number] = (name, entry)
    if head is None:
        return None
    lists: dict[str, list[Any]] = {name: [] for name in LISTS}
    for name, entry in entries.values():
        lists[name].append(entry)
    for each in lists.values():
        each.sort(key=lambda entry: float(entry.get("start", 0.0)))
    try:
        found = msgspec.convert(head | lists, Record)
    except msgspec.ValidationError as error:
        logger.warning("trace_not_understood", path=str(path), error=str(error))
        return None
    # While it is open nobody writes how long it has lasted.
    ends = [each.end for name in LISTS for each in getattr(found, name)]
    found.seconds = max(found.seconds, *ends, 0.0)
    return found


def _finished(directory: Path) -> list[Path]:
    return [p for p in directory.glob(f"*{_DONE}") if not p.name.endswith(_OPEN)]


def _finish(path: Path) -> None:
    try:
        path.rename(path.with_name(path.name.removesuffix(_OPEN) + _DONE))
    except OSError as error:
        logger.warning("trace_not_finished", path=str(path), error=str(error))


def _bury(path: Path) -> None:
    """Finish the trace of a requester object that died with its service."""
    try:
        found = read(path)
    except OSError as error:
        logger.warning("trace_not_read", path=str(path), error=str(error))
        return
    if found is not None:
        head = Head(**{name: getattr(found, name) for name in Head.__dataclass_fields__})
        head.ended_by = DIED
        if head.outcome == RUNNING:
            head.outcome, head.text = INTERRUPTED, "the service died before it was done"
        TraceFile(path).append(head, {})
    _finish(path)
