"""The one place where what the kernel, SQLite or the array's socket raise becomes a VssError."""

import errno
import functools
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from vssemu.linux.gpt import BadTable
from vssemu.linux.run import ProgramFailed
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import (
    Fail,
    InsufficientStorage,
    MissingDisk,
    ObjectNotFound,
    OutOfMemory,
    Unexpected,
    VolumeInUse,
    VssError,
)

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

_CLASSES: dict[int, type[VssError]] = {
    errno.EBUSY: VolumeInUse,
    errno.ENOSPC: InsufficientStorage,
    errno.ENOMEM: OutOfMemory,
    errno.ENOENT: ObjectNotFound,
    errno.ENXIO: MissingDisk,
    errno.ENODEV: MissingDisk,
}


def vss_error(error: Exception, doing: str) -> VssError:
    """Return the VssError that stands for an exception; a VssError stands for itself.

    doing: the operation and its item, such as `surface({...})`.
    """
    if isinstance(error, VssError):
        return error
    if isinstance(error, ProgramFailed):
        return Fail(f"{doing}: {error}", item=error.argv[0])
    if isinstance(error, OSError):
        words = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        name = errno.errorcode.get(error.errno or 0, "OSError")
        cls = _CLASSES.get(error.errno or 0, Fail)
        item = None if error.filename is None else str(error.filename)
        return cls(f"{doing}: {words}{where}, {name}", item=item)
    if isinstance(error, BadTable):
        return Fail(f"{doing}: {error}", hint="the LUN has no usable partition table")
    if isinstance(error, RpcError):
        hint = "the array does not answer; is it running?"
        return Unexpected(f"{doing}: {error}", hint=hint)
    return Unexpected(f"{doing}: {type(error).__name__}: {error}")


@contextmanager
def failures(doing: str) -> Iterator[None]:
    """Let only VssErrors out of the block, for what may go wrong with kernel and array."""
    try:
        yield
    except (OSError, BadTable, RpcError, sqlite3.Error) as error:
        raise vss_error(error, doing) from error


def translated(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Make an async method let only VssErrors out; its name stands in their text."""

    @functools.wraps(method)
    async def bordered(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with failures(method.__name__):
            return await method(self, *args, **kwargs)

    return bordered
