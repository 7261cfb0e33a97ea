"""One SQLite database: stopped between transactions, complete in its file, released again.

Three connections, because each can do only one of these things at a time:

    writer      BEGIN IMMEDIATE: takes the one write lock; nobody else commits until ROLLBACK
    checkpoint  wal_checkpoint(PASSIVE): legal beside a write lock, TRUNCATE is not
    reader      with a log only: an open read transaction between backups, so that no other
                process can restart the WAL before it is archived

Stopped means: write lock held; every committed transaction is in the database file (or, where
a reader of the application holds the checkpoint back, still in the -wal as well, which a copy
of the volume has too); in a rollback-journal database there is no hot journal.
No connection of ours ever changes what the database says. Nothing else in this process may
open the file: closing it, whoever opened it, drops the locks that SQLite holds here.
Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/lockingv3.html.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from vssemu.writers.sqlite_log import LogPoint, TransactionLog


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What settling a stopped database came to.

    is_wal: its journal mode. frames: committed frames in the WAL, 0 without one.
    is_complete: the database file alone has every transaction. end: of the log, if kept.
    """

    is_wal: bool
    frames: int
    is_complete: bool
    end: LogPoint | None


class Database:
    """A database file of another application. Methods block; use one at a time.

    log: archives the WAL; None when no log is kept. They raise sqlite3.Error, or OSError.
    """

    def __init__(self, path: Path, log: TransactionLog | None) -> None:
        self.path = path
        self.log = log
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    @property
    def is_stopped(self) -> bool:
        """True between a successful try_stop and release."""
        return self._writer is not None and self._writer.in_transaction

    def try_stop(self) -> bool:
        """Take the write lock; False when somebody else has it at this moment."""
        if self._writer is not None and self._identity != self._identity_now():
            self.close()
        if self._writer is None:
            self._identity = self._identity_now()
            self._writer = self._connect()
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return False
            raise
        return True

    def try_settle(self) -> Settled | None:
        """Bring every transaction into the file and the log; the database must be stopped.

        None when the application's own checkpoint is running at this moment: it needs no
        write lock, and SQLite lets one run at a time.
        """
        assert self.is_stopped, "try_settle() needs the write lock"
        self._unpin()
        checkpoint = self._connect()
        try:
            # A connection that has read nothing does not know that there is a WAL.
            checkpoint.execute("SELECT count(*) FROM sqlite_master").fetchone()
            busy, frames, done = checkpoint.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            checkpoint.close()
        if busy:
            return None
        is_wal = frames >= 0
        end = None
        if self.log is not None and is_wal:
            end = self.log.archive(frames)
            # Still under the write lock: from here on no frame can be lost.
            self._pin()
        return Settled(
            is_wal=is_wal,
            frames=max(frames, 0),
            is_complete=not is_wal or frames == done,
            end=end,
        )

    def release(self) -> None:
        """Let the application commit again; idempotent."""
        if self._writer is None:
            return
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        if self._reader is None:
            self.close()

    def close(self) -> None:
        """Release, and give up the log's grip on the WAL; idempotent."""
        self._unpin()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _pin(self) -> None:
        if self._reader is None:
            self._reader = self._connect()
        self._reader.execute("BEGIN")
        self._reader.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def _unpin(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: a database that is not there must not be created.
        return sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
        )

    def _identity_now(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_dev, status.st_ino
