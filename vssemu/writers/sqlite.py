"""A writer for SQLite databases that other processes write to.

Prepare settles each database once outside the freeze, so that little is left for it. Freeze
takes the write lock, brings every committed transaction into the database file, and keeps
the lock: other processes wait in their busy_timeout. A copy of the file then opens clean and
holds what was committed before the freeze and nothing after. Thaw gives the lock back.

Its *log* is the archive of the WAL (`sqlite_log`): the segments `NAME-log.<number>` beside the
database. It grows at every Prepare and Freeze, and is cut in BackupComplete alone: when the
backup is of a type that ends a log (FULL, INCREMENTAL, LOG; never COPY), and only for
components whose backup succeeded, and only up to what that very backup has, which the backup
stamp says. BackupShutdown and Abort cut nothing.
While a log is kept, the WAL of a running writer is not restarted between backups and grows, as
the log of any database in full recovery; `keep_log = false` is simple recovery: no log, no
grip on the WAL. A database with a rollback journal has no WAL and so no log.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from uuid import UUID

import structlog
import trio

from vssemu.vss import drives
from vssemu.vss.documents.wmdbuilder import WriterMetadataBuilder
from vssemu.vss.documents.writer import (
    ComponentInfo,
    ExcludedFiles,
    FileSetKind,
    FileSpec,
    RestoreInfo,
)
from vssemu.vss.enums import (
    BackupSchema,
    BackupType,
    ComponentType,
    RestoreMethod,
    SourceType,
    WriterRestore,
)
from vssemu.vss.errors import (
    InvalidArgument,
    VssError,
    WriterErrorInconsistentSnapshot,
    WriterErrorRetryable,
)
from vssemu.vss.identity import WriterId, parse_guid
from vssemu.writers.base import Writer
from vssemu.writers.components import Components
from vssemu.writers.sqlite_database import Database
from vssemu.writers.sqlite_log import LogPoint, TransactionLog

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

LOCK_SECONDS: Final = 20.0
"""How long Freeze tries to get between two transactions of the application."""

T = TypeVar("T")

_LOCK_PAUSE: Final = 0.001
_TRUNCATING: Final = frozenset({BackupType.FULL, BackupType.INCREMENTAL, BackupType.LOG})


@dataclass(frozen=True, kw_only=True, slots=True)
class SqliteDatabase:
    r"""A database to protect. path: `F:\db\orders.db` or a Linux path; name: of its component."""

    path: str
    name: str
    logical_path: str | None = None


class SqliteWriter(Writer):
    """Protects SQLite databases.

    databases: paths, or SqliteDatabase to name components otherwise than by file name.
    Raises InvalidArgument for a path that is not absolute, or no database at all.
    """

    writer_id = WriterId(UUID("5b7c1d7e-94a0-4a35-8d39-1f3a0c6e2d41"))
    name = "SQLite Writer"
    source = SourceType.TRANSACTEDDB

    def __init__(
        self,
        databases: Sequence[str | SqliteDatabase],
        *,
        keep_log: bool = True,
        lock_seconds: float = LOCK_SECONDS,
        instance_name: str | None = None,
    ) -> None:
        if not databases:
            raise InvalidArgument("SqliteWriter: no database", hint="name at least one")
        self.instance_name = instance_name
        self._lock_seconds = lock_seconds
        self._known: dict[SqliteDatabase, Database] = {}
        for given in databases:
            path = Path(drives.linux_path(given if isinstance(given, str) else given.path))
            facts = SqliteDatabase(path=given, name=path.name) if isinstance(given, str) else given
            self._known[facts] = Database(path, TransactionLog(path) if keep_log else None)
        self._chosen: list[SqliteDatabase] | None = None
        self._ends: dict[SqliteDatabase, LogPoint] = {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a writer made from a TOML table.

        Keys: databases (paths, or tables of path, name and logical_path), keep_log,
        lock_seconds, instance_name, writer_id.
        """
        table = dict(config)
        writer_id = table.pop("writer_id", None)
        table["databases"] = [
            one if isinstance(one, str) else _database_of(one)
            for one in table.get("databases", ())
        ]
        writer = cls(**table)
        if writer_id is not None:
            writer.writer_id = WriterId(parse_guid(writer_id))
        return writer

    async def on_start(self) -> None:
        """Begin the logs. A database that is not there yet begins its log at the first backup."""
        await self._settle_logs()

    async def on_stop(self) -> None:
        """Bring the logs up to date and close every connection."""
        # SQLite drops the WAL when its last user closes, and that may be this process.
        await self._settle_logs()
        await trio.to_thread.run_sync(self.close)

    def close(self) -> None:
        """Close every connection; what was locked is free. Idempotent; blocks."""
        for database in self._known.values():
            database.close()

    async def _settle_logs(self) -> None:
        for facts, database in self._known.items():
            if database.log is None:
                continue
            try:
                await self._settle_once(facts, database)
            except (VssError, sqlite3.Error, OSError) as error:
                logger.warning("log_not_current", database=str(database.path), error=str(error))

    def on_identify(self, metadata: WriterMetadataBuilder) -> None:
        """Describe one DATABASE component for each database."""
        metadata.set_backup_schema(BackupSchema.COPY)
        metadata.set_restore_method(
            RestoreInfo(
                method=RestoreMethod.RESTORE_IF_CAN_REPLACE, writer_restore=WriterRestore.NEVER
            )
        )
        for facts, database in self._known.items():
            directory = drives.windows_path(str(database.path.parent))
            metadata.add_component(_component(facts, database, directory))
            for suffix in ("-shm", "-journal"):
                metadata.add_exclude_files(
                    ExcludedFiles(path=directory, filespec=f"{database.path.name}{suffix}")
                )

    def on_prepare_backup(self, components: Components | None) -> None:
        """Take note of which databases the backup is about."""
        self._chosen = None
        if components is not None:
            self._chosen = [
                facts
                for facts in self._known
                if components.find(facts.logical_path, facts.name) is not None
            ]

    async def on_prepare_snapshot(self) -> None:
        """Settle every database once, so that the freeze finds little to do."""
        for facts, database in self._affected():
            await self._settle_once(facts, database)

    async def on_freeze(self) -> None:
        """Stop every database between two transactions and settle it."""
        chosen = self._affected()
        try:
            for _, database in chosen:
                await self._stop(database)
            for facts, database in chosen:
                await self._settle(facts, database)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._release_all)
            raise

    def on_thaw(self) -> None:
        """Let the applications commit again."""
        self._release_all()

    def on_abort(self) -> None:
        """Let the applications commit again; the log stays as it is."""
        self._release_all()

    def on_post_snapshot(self, components: Components | None) -> None:
        """Stamp each component with the place up to which the copy has its log."""
        for facts, end in self._ends.items():
            component = components and components.find(facts.logical_path, facts.name)
            if component:
                component.backup_stamp = str(end)

    def on_backup_complete(self, components: Components | None) -> None:
        """Cut the logs of the components that were backed up."""
        if self.backup_type not in _TRUNCATING:
            return
        for facts, database in self._known.items():
            component = components and components.find(facts.logical_path, facts.name)
            if not component or not component.backup_succeeded or database.log is None:
                continue
            point = LogPoint.parse(component.backup_stamp)
            if point is not None:
                removed = database.log.truncate(point)
                logger.info("log_truncated", database=str(database.path), bytes=removed)

    def _affected(self) -> list[tuple[SqliteDatabase, Database]]:
        """Return the databases of this backup.

        Raises WriterErrorInconsistentSnapshot when a chosen one is not on the set's volumes.
        """
        if not self.are_components_selected or self._chosen is None:
            return [
                (facts, database)
                for facts, database in self._known.items()
                if self.is_path_affected(database.path)
            ]
        for facts in self._chosen:
            if not self.is_path_affected(self._known[facts].path):
                raise WriterErrorInconsistentSnapshot(
                    f"database {facts.path} is not on a volume of the snapshot set",
                    hint="add its volume, or leave the component out",
                    item=facts.path,
                )
        return [(facts, self._known[facts]) for facts in self._chosen]

    async def _settle_once(self, facts: SqliteDatabase, database: Database) -> None:
        try:
            await self._stop(database)
            await self._settle(facts, database)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(database.release)

    async def _stop(self, database: Database) -> None:
        """Take the write lock. Raises WriterErrorRetryable when there is no gap for it."""
        # SQLite's own busy handler pauses ever longer and starves beside a busy writer.
        await self._until(database, database.try_stop, "its write lock was not free")

    async def _settle(self, facts: SqliteDatabase, database: Database) -> None:
        settled = await self._until(database, database.try_settle, "its checkpoints did not end")
        self._ends[facts] = settled.end or LogPoint(segment=0, length=0)
        logger.info(
            "database_settled",
            database=str(database.path),
            wal_frames=settled.frames,
            is_complete=settled.is_complete,
            log=str(settled.end),
        )

    async def _until(self, database: Database, attempt: Callable[[], T | None], why: str) -> T:
        """Repeat an attempt until it gives something; the locks of others have no event."""
        try:
            with trio.move_on_after(self._lock_seconds):
                while True:
                    found = await trio.to_thread.run_sync(attempt)
                    if found:
                        return found
                    await trio.sleep(_LOCK_PAUSE)
        except (sqlite3.OperationalError, OSError) as error:
            raise WriterErrorRetryable(
                f"database {database.path}: {error}", item=str(database.path)
            ) from error
        raise WriterErrorRetryable(
            f"database {database.path}: {why} for {self._lock_seconds:g} s",
            hint="end the long transaction and try again",
            item=str(database.path),
        )

    def _release_all(self) -> None:
        for database in self._known.values():
            database.release()


def _database_of(table: Mapping[str, Any]) -> SqliteDatabase:
    path = Path(drives.linux_path(table["path"]))
    return SqliteDatabase(**{"name": path.name, **table})


def _component(facts: SqliteDatabase, database: Database, directory: str) -> ComponentInfo:
    logs: Iterable[str] = (f"{database.path.name}-wal*",)
    if database.log is not None:
        logs = (*logs, database.log.filespec)
    return ComponentInfo(
        component_type=ComponentType.DATABASE,
        logical_path=facts.logical_path,
        name=facts.name,
        selectable=True,
        selectable_for_restore=True,
        file_sets=(
            FileSpec(path=directory, filespec=database.path.name, kind=FileSetKind.DATABASE_FILES),
            *(
                FileSpec(path=directory, filespec=spec, kind=FileSetKind.DATABASE_LOG_FILES)
                for spec in logs
            ),
        ),
    )
