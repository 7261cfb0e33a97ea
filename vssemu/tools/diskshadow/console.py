"""What DiskShadow prints: lines to the console and, with /l, to a log file as well."""

import contextlib
from collections.abc import Iterable
from typing import TextIO


class Console:
    """The two streams. Errors go the same way as everything else, as on Windows."""

    def __init__(self, out: TextIO, log: TextIO | None = None) -> None:
        self._out = out
        self._log = log

    def line(self, text: str = "") -> None:
        """Print one line."""
        self._out.write(f"{text}\n")
        if self._log is not None:
            self._log.write(f"{text}\n")

    def lines(self, texts: Iterable[str]) -> None:
        """Print lines."""
        for text in texts:
            self.line(text)

    def typed(self, text: str) -> None:
        """Note in the log what the user typed; the console has it already."""
        if self._log is not None:
            self._log.write(f"{text}\n")

    def flush(self) -> None:
        """Bring out what was printed, for a program that prints next."""
        with contextlib.suppress(BrokenPipeError):
            self._out.flush()
        if self._log is not None:
            self._log.flush()
