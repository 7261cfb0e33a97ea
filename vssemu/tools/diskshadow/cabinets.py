"""The metadata file of a creation: where it goes, how it comes to be, how it is read.

The place is taken before anything is created, so that a directory that cannot be written to
ends CREATE early; the file appears under its name only when it is whole.
"""

import io
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from vssemu.tools.diskshadow.failures import Failed, calling
from vssemu.vss.documents import cabinet
from vssemu.vss.documents.cabinet import MAX_CABINET, Cabinet

_HINT: Final = "Use SET METADATA to name another file."


def default_path(now: datetime) -> Path:
    """Return the name that is used without SET METADATA, in the working directory.

    The hour is that of a 12-hour clock, as in the one seen. Source: documents.md 5.
    """
    return Path.cwd() / f"{now:%Y-%m-%d_%I-%M-%S}_{platform.node()}.cab"


def log_member() -> str:
    """Return a name for the log in a cabinet."""
    return f"Dis{secrets.token_hex(2).upper()}.tmp"


class Place:
    """The name of a metadata file, taken: bytes go into a file beside it until `finish`."""

    def __init__(self, path: Path, file: io.FileIO) -> None:
        self.path = path
        self._file = file

    def finish(self, content: bytes) -> None:
        """Write the file and give it its name. Raises Failed; then nothing is left of it."""
        try:
            left = memoryview(content)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
            Path(os.fsdecode(self._file.name)).replace(self.path)
        except OSError as error:
            raise _cannot_write(self.path, error) from error


@contextmanager
def taken(path: Path) -> Iterator[Place]:
    """Take the place of a metadata file for the block. Raises Failed."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "Is a directory", str(path))
        # Unbuffered: a buffer that a full disk refused is written again at the close.
        file = beside.open("xb", buffering=0)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        with file:
            yield Place(path, file)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> Cabinet:
    """Return a metadata file's content. Raises Failed."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CABINET + 1)
    except OSError as error:
        raise Failed(f"The metadata file {path} cannot be read: {error.strerror}.") from error
    with calling(f"LoadMetadata({path})"):
        return cabinet.read(content)


def _cannot_write(path: Path, error: OSError) -> Failed:
    return Failed(f"The metadata file {path} cannot be written: {error.strerror}. {_HINT}")
