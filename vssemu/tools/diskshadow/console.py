"""What DiskShadow prints: lines to the console and, with /l, to a log file as well."""

import io
from collections.abc import Iterable
from typing import TextIO


class OutputLost(Exception):
    """The console cannot be written any more, most often because its reader has gone."""


class Console:
    """The two streams. Errors go the same way as everything else, as on Windows."""

    def __init__(self, out: TextIO, log: io.FileIO | None = None) -> None:
        self._out = out
        self._log = log

    def line(self, text: str = "") -> None:
        """Print one line."""
        self._print(text)
        self.typed(text)

    def lines(self, texts: Iterable[str]) -> None:
        """Print lines."""
        for text in texts:
            self.line(text)

    def typed(self, text: str) -> None:
        """Note in the log what the user typed; the console has it already.

        A log that cannot be written any more is given up, and the work goes on.
        """
        if self._log is None:
            return
        try:
            self._log.write(f"{text}\n".encode(errors="backslashreplace"))
        except OSError as error:
            self._log = None
            self._print(f"The log file cannot be written any more: {error.strerror}.")

    def flush(self) -> None:
        """Bring out what was printed, for a program that prints next."""
        try:
            self._out.flush()
        except OSError as error:
            raise OutputLost from error

    def _print(self, text: str) -> None:
        try:
            self._out.write(f"{text}\n")
        except OSError as error:
            raise OutputLost from error
