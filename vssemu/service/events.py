"""The event log: one JSON object a line in the service's state directory.

What an administrator finds here: provider errors with provider, method and code, writers that
failed, time limits that were passed, creations with their phases, sets that ended. While
writes are held nothing is written: events queue in memory and come out at the thaw.
The file is turned over once it is long; one older file is kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

TURN_OVER = 8 * 1024 * 1024
"""Bytes after which the log is turned over."""


class EventLog:
    """The log of one service. A log that cannot be written is a warning, never a failure."""

    def __init__(self, path: Path, *, turn_over: int = TURN_OVER) -> None:
        self.path = path
        self._turn_over = turn_over
        self._holds = 0
        self._waiting: list[dict[str, Any]] = []

    def record(self, kind: str, **facts: Any) -> None:
        """Log an event. facts: anything that JSON can express, UUIDs and enums included.

        A fact is not named `event`, `kind` or `time`.
        """
        plain: dict[str, Any] = msgspec.to_builtins(facts)
        self._waiting.append({"time": datetime.now(UTC).isoformat(), "kind": kind, **plain})
        if not self._holds:
            self._flush()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing may be written now."""
        return self._holds > 0

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Write nothing while the block runs; afterwards what came meanwhile."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if not self._holds:
                self._flush()

    def _flush(self) -> None:
        events, self._waiting = self._waiting, []
        if not events:
            return
        for event in events:
            facts = {name: value for name, value in event.items() if name != "kind"}
            logger.info(event["kind"], **facts)
        try:
            lines = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
            self._append(lines)
        except OSError as error:
            logger.warning("event_log_failed", path=str(self.path), error=str(error))

    def _append(self, lines: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size > self._turn_over:
            self.path.replace(self.path.with_suffix(".1.jsonl"))
        with self.path.open("ab") as file:
            file.write(lines)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a log, oldest first; a line cut off by a crash is left out."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            event = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if isinstance(event, dict):
            yield event
