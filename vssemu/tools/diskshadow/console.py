"""What DiskShadow prints: lines to the console and, with /l, to a log file as well."""

import contextlib
import io
from collections.abc import Iterable
from typing import TextIO


class Console:
    """The two streams. Errors go the same way as everything else, as on Windows."""

    def __init__(self, out: TextIO, log: io.FileIO | None = None) -> None:
        self._out = out
        self._log = log

    def line(self, text: str = "") -> None:
        """Print one line."""
        self._out.write(f"{text}\n")
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
            self._out.write(f"The log file cannot be written any more: {error.strerror}.\n")

    def flush(self) -> None:
        """Bring out what was printed, for a program that prints next."""
        with contextlib.suppress(BrokenPipeError):
            self._out.flush()
