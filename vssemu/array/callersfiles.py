"""Files that a caller has open, opened here; what goes wrong with them is told by their names.

A descriptor is reached through /proc, by the process that the kernel says has connected.
"""

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog
import trio

from vssemu.vss.array import OpenFile
from vssemu.vss.errors import Fail, InsufficientStorage, InvalidArgument

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, kw_only=True, slots=True)
class CallersFile:
    """An open file of a caller's. descriptor: ours. name: his, for messages."""

    descriptor: int
    name: str


@asynccontextmanager
async def callers_file(pid: int, file: OpenFile, *, writable: bool) -> AsyncIterator[CallersFile]:
    """Open during the block what a process has open. Raises InvalidArgument."""
    # A pipe, of which nothing can be made, would wait for its other end.
    flags = os.O_CLOEXEC | os.O_NONBLOCK | (os.O_RDWR if writable else os.O_RDONLY)
    try:
        path = f"/proc/{pid}/fd/{file.descriptor}"
        descriptor = await trio.to_thread.run_sync(os.open, path, flags)
    except OSError as error:
        raise InvalidArgument(
            f"the array cannot open {file.name}: {error.strerror}", item=file.name
        ) from error
    try:
        yield CallersFile(descriptor=descriptor, name=file.name)
    finally:
        os.close(descriptor)


@contextmanager
def about(file: CallersFile) -> Iterator[None]:
    """Turn an OSError inside the block into a VssError about a caller's file.

    Raises InsufficientStorage when there was no room for it, else Fail.
    """
    try:
        yield
    except OSError as error:
        logger.error("callers_file_failed", name=file.name, exc_info=error)
        if error.errno in _NO_ROOM:
            raise InsufficientStorage(
                f"there is no room for {file.name}",
                item=file.name,
                hint="free space on its file system, or write it to another",
            ) from error
        raise Fail(f"{file.name}: {error.strerror}", item=file.name) from error
