"""The archive of a WAL that SQLite itself writes."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from vssemu.writers.sqlite_database import Database
from vssemu.writers.sqlite_log import LogPoint, TransactionLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


@pytest.fixture
def application(path: Path) -> Any:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE t (n INTEGER)")
        yield connection


def settle(database: Database) -> Any:
    assert database.try_stop()
    try:
        settled = database.try_settle()
    finally:
        database.release()
    assert settled is not None
    return settled


@pytest.fixture
def database(path: Path, application: sqlite3.Connection) -> Any:
    made = Database(path, TransactionLog(path))
    yield made
    made.close()


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


def log_of(database: Database) -> TransactionLog:
    assert database.log is not None
    return database.log


def insert(application: sqlite3.Connection, count: Any = 1) -> None:
    for _ in range(count):
        application.execute("INSERT INTO t VALUES (1)")


def test_a_settled_database_file_is_complete_without_its_wal(
    database: Database, application: sqlite3.Connection, path: Path
) -> None:
    insert(application, 10)
    assert database.try_stop()
    settled = database.try_settle()
    assert settled is not None
    alone = path.with_name("alone.db")
    shutil.copy(path, alone)
    database.release()
    assert (settled.is_wal, settled.is_complete) == (True, True)
    assert rows(alone) == 10


def test_segments_are_prefixes_of_generations_and_roll_a_copy_forward(
    database: Database, application: sqlite3.Connection, path: Path
) -> None:
    base = path.with_name("base.db")
    settle(database)
    shutil.copy(path, base)
    for _ in range(4):
        insert(application, 5)
        settle(database)
    segments = log_of(database).segments()
    assert len(segments) >= 2
    for segment in segments:
        shutil.copy(segment, path.with_name("base.db-wal"))
        rows(base)
    assert rows(base) == 20


def test_the_pinned_wal_is_not_restarted_by_the_application(
    database: Database, application: sqlite3.Connection, path: Path
) -> None:
    settle(database)
    insert(application, 3)
    before = path.with_name("orders.db-wal").read_bytes()[:32]
    application.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    insert(application, 3)
    assert path.with_name("orders.db-wal").read_bytes()[:32] == before


def test_truncation_leaves_an_empty_file_whose_number_does_not_come_again(
    database: Database, application: sqlite3.Connection, path: Path
) -> None:
    insert(application)
    end = settle(database).end
    assert log_of(database).size() > 0
    removed = log_of(database).truncate(end)
    assert removed == end.length
    assert log_of(database).size() == 0
    assert settle(database).end.segment == end.segment, "nothing new was committed"
    assert log_of(database).size() == 0
    insert(application)
    later = settle(database).end
    assert later.segment > end.segment
    assert log_of(database).truncate(end) == 0
    assert log_of(database).size() == later.length


def test_a_segment_that_grew_since_its_point_stays(
    database: Database, application: sqlite3.Connection
) -> None:
    insert(application)
    end = settle(database).end
    insert(application, 400)
    later = settle(database).end
    log_of(database).truncate(end)
    assert log_of(database).end() == later


def test_a_database_with_a_rollback_journal_has_no_log(tmp_path: Path) -> None:
    path = tmp_path / "plain.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as application:
        application.execute("CREATE TABLE t (n INTEGER)")
        database = Database(path, TransactionLog(path))
        settled = settle(database)
        assert (settled.is_wal, settled.is_complete, settled.end) == (False, True, None)
        assert log_of(database).segments() == []
        database.close()


def test_a_stopped_database_is_locked_for_others_until_release(
    database: Database, path: Path, application: sqlite3.Connection
) -> None:
    assert database.try_stop()
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("INSERT INTO t VALUES (1)")
        database.release()
        other.execute("INSERT INTO t VALUES (1)")


def test_a_database_that_was_replaced_is_opened_anew(
    database: Database, application: sqlite3.Connection, path: Path
) -> None:
    settle(database)
    application.close()
    for name in ("orders.db-wal", "orders.db-shm"):
        path.with_name(name).unlink(missing_ok=True)
    fresh = path.with_name("fresh.db")
    with closing(sqlite3.connect(fresh, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (n INTEGER)")
    fresh.rename(path)
    assert settle(database).is_wal is False


@pytest.mark.parametrize("text", [None, "", "log:1", "log:-1:2", "log:1:2 ", "other"])
def test_a_stamp_of_another_writer_names_no_point(text: Any) -> None:
    assert LogPoint.parse(text) is None


def test_a_point_is_read_as_it_is_written() -> None:
    point = LogPoint(segment=7, length=40992)
    assert LogPoint.parse(str(point)) == point
