"""Loggers of modules that belong to programs which must be there again at once.

By default they are structlog's, which is imported with the first line that is written: it takes
as long to import as such a program takes to start. A program that cannot wait for it calls
`write_lines`, and all of them write lines of JSON themselves.
"""

import json
import sys
import traceback
from datetime import UTC, datetime
from typing import Any


def get_logger(name: str) -> "Logger":
    """Return the logger of a module."""
    return Logger(name)


def write_lines() -> None:
    """Have all loggers write lines of JSON to the error stream, from `info` up."""
    Logger.writes_lines = True


class Logger:
    """What structlog's loggers are, as far as it is wanted."""

    writes_lines = False

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, event: str, **fields: Any) -> None:
        """Say what is of no interest unless something is looked for; no line of JSON."""
        if not self.writes_lines:
            self._late("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Say what happens."""
        self._say("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Say what somebody should look at."""
        self._say("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Say what went wrong. exc_info: an exception, told with its way."""
        self._say("error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Say what went wrong, with the exception that is being handled."""
        self._say("error", event, {**fields, "exc_info": sys.exc_info()[1]})

    def _say(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if not self.writes_lines:
            self._late(level, event, fields)
            return
        error = fields.pop("exc_info", None)
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line = {"event": event, **fields, "level": level, "timestamp": now}
        if error is not None:
            line["exception"] = "".join(traceback.format_exception(error)).rstrip()
        sys.stderr.write(json.dumps(line, default=repr) + "\n")
        sys.stderr.flush()

    def _late(self, level: str, event: str, fields: dict[str, Any]) -> None:
        import structlog

        getattr(structlog.get_logger(self._name), level)(event, **fields)
