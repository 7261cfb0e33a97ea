"""A view whose writes are recorded, in the order in which they were done.

There is one only while a LUN is recorded. A log that cannot be written to any more ends; the
LUN goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vssemu import logs
from vssemu.faults.writelog import LogWriter
from vssemu_fuse.lunfs.io.view import View
from vssemu_fuse.lunfs.io.work import Operation, Work

_log = logs.get_logger(__name__)


class Recording:
    """A log that is written. failed: why it ended by itself, if it did."""

    def __init__(self, path: Path, writer: LogWriter | None, *, failed: str | None = None) -> None:
        self.path = path
        self.failed = failed
        self.entries = 0 if writer is None else writer.last
        self._writer = writer

    def note(self, note: Callable[[LogWriter], None]) -> None:
        """Note something; the log ends when it cannot be noted."""
        writer = self._writer
        if writer is None:
            return
        try:
            note(writer)
        except OSError as error:
            self.failed = str(error)
            _log.warning("write_log_ended", log=str(self.path), error=str(error))
            self.close()
        else:
            self.entries = writer.last

    def close(self) -> None:
        """Note nothing any more; again is no error."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class LoggedView:
    """A view with a log. A `View`."""

    def __init__(self, view: View, recording: Recording) -> None:
        self._view = view
        self._recording = recording

    @property
    def size(self) -> int:
        """As `View.size`."""
        return self._view.size

    def read(self, room: memoryview, offset: int) -> Work[int]:
        """As `View.read`."""
        return self._view.read(room, offset)

    def write(self, data: memoryview, offset: int) -> Operation[int]:
        """As `View.write`."""
        done: int = yield self._view.write(data, offset)
        self._recording.note(lambda log: log.write(offset, data))
        return done

    def flush(self) -> Operation[object]:
        """As `View.flush`."""
        covers = self._recording.entries
        done: object = yield self._view.flush()
        self._recording.note(lambda log: log.flush(covers))
        return done

    def zero(self, offset: int, length: int) -> Operation[object]:
        """As `View.zero`."""
        done: object = yield self._view.zero(offset, length)
        self._recording.note(lambda log: log.zero(offset, length))
        return done
