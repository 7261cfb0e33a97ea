"""The journal: the one truth that hosts share, an SQLite file.

Owns the connection, its settings and its one lock. Work on it is a plain function of
`Tables`, run in a thread inside a transaction, so that what is checked and what is written
belong together:

    row = await journal.change(grow, lun, size)     # def grow(tables, lun, size) -> LunRow

A change is on the disk when `change` returns; the lock is not held for that, so that nobody
waits for a slow disk but who asked for it. `change_quickly` does not wait for the disk:
a loss of power may undo it, as a whole and never a later one without it. Neither can be
cancelled half way. What the function raises undoes the change.

Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous
"""

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import structlog
import trio

from vssemu.array.schema import FILE_NAME, bring_up_to_date
from vssemu.array.tables import Tables
from vssemu.linux import fallocate
from vssemu.vss.errors import Fail, InsufficientStorage

P = ParamSpec("P")
R = TypeVar("R")

Work = Callable[Concatenate[Tables, P], R]

ROOM: Final = 8 << 20
"""Bytes set aside for each of the journal's two files; SQLite carries its log over at 4 MiB."""

_BUSY_SECONDS: Final = 10.0

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Journal:
    """An open journal; made by `open_journal`, closed by whoever opened it."""

    def __init__(self, connection: sqlite3.Connection, path: Path, log: int) -> None:
        """log: a descriptor of the file that changes are appended to; it is closed here."""
        self._connection = connection
        self._log = log
        self._lock = trio.Lock()
        self.path = path
        self.identity = Tables(connection).identity()
        """Random, made with the journal; a pool belongs to the array of this identity."""

    async def read(self, work: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what the function finds. Raises Fail when the journal cannot be read."""
        return await self._locked(lambda: self._transact("DEFERRED", work, args, kwargs))

    async def change(self, work: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what the function returns, once its changes are safe on the disk.

        Raises what it raises, with nothing changed; InsufficientStorage, Fail.
        """
        result = await self.change_quickly(work, *args, **kwargs)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._sync)
        return result

    async def change_quickly(self, work: Work[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `change`, without waiting for the disk: for the hold window alone."""
        return await self._locked(lambda: self._transact("IMMEDIATE", work, args, kwargs))

    def close(self) -> None:
        """Close the files. The journal cannot be used any more. Idempotent."""
        log, self._log = self._log, -1
        if log >= 0:
            os.close(log)
        self._connection.close()

    async def _locked(self, work: Callable[[], R]) -> R:
        async with self._lock:
            return await trio.to_thread.run_sync(work)

    def _sync(self) -> None:
        """Bring all that was changed so far to the disk.

        What SQLite carried over into the database meanwhile it has synced itself.
        """
        try:
            os.fsync(self._log)
        except OSError as error:
            raise Fail(f"the array's journal failed: {error}", item=str(self.path)) from error

    def _transact(
        self, mode: str, work: Work[..., R], args: tuple[object, ...], kwargs: object
    ) -> R:
        assert isinstance(kwargs, dict)
        connection = self._connection
        with _translated(self.path):
            connection.execute(f"BEGIN {mode}")
            try:
                result = work(Tables(connection), *args, **kwargs)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result


def open_journal(directory: Path) -> Journal:
    """Open the journal in a directory; both are made, with a random identity, when missing.

    Raises OSError; Fail when it is damaged, of a later version or cannot be written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / FILE_NAME
    _keep_room(path)
    with _translated(path):
        connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # Before it carries the log over, no oftener: `change` syncs the log.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            _bring_up_to_date(connection, path)
            connection.execute(
                "INSERT OR IGNORE INTO array VALUES (1, ?, 0)", (secrets.token_hex(16),)
            )
            log = path.with_name(f"{path.name}-wal")
            _keep_room(log)
            return Journal(connection, path, os.open(log, os.O_RDWR | os.O_CLOEXEC))
        except BaseException:
            connection.close()
            raise


def _keep_room(path: Path) -> None:
    """Set space aside for a file of the journal, which is written when nothing else can be.

    The log of changes begins anew in the same file when it was carried over, so it never needs
    more than this. Not for a database that is open: closing its file would lose SQLite's locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fallocate.allocate(descriptor, ROOM, keep_size=True)
    except OSError as error:
        logger.warning("no_room_kept", path=str(path), error=str(error))
    finally:
        os.close(descriptor)


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    try:
        bring_up_to_date(connection)
    except ValueError as error:
        raise Fail(
            f"the array's journal cannot be used: {error}",
            item=str(path),
            hint="use the version of vssemu that wrote it, or a later one",
        ) from error


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise InsufficientStorage(
                f"the array's journal cannot grow: {error}",
                item=str(path),
                hint="free space on the file system of the array's state",
            ) from error
        raise Fail(f"the array's journal failed: {error}", item=str(path)) from error
