import os
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from tests.rig.writers.conftest import Protect
from tests.rig.writers.load import Load, Volume, read
from tests.unit.writers.writer_support import INSTANCE_ID, Backup, document, failure_of
from vssemu.linux import freeze
from vssemu.vss.documents.component import ComponentKey
from vssemu.vss.documents.wmd import WriterMetadataDocument
from vssemu.vss.enums import BackupType, ComponentType
from vssemu.vss.hresult import Hresult
from vssemu.vss.writer import EventKind, SnapshotVolume
from vssemu.writers.dispatch import Dispatcher, call
from vssemu.writers.sqlite import SqliteWriter
from vssemu.writers.sqlite_log import TransactionLog

MAKING = (
    EventKind.PREPARE_BACKUP,
    EventKind.PREPARE_SNAPSHOT,
    EventKind.FREEZE,
    EventKind.THAW,
    EventKind.POST_SNAPSHOT,
)
KEY = ComponentKey(instance_id=INSTANCE_ID, logical_path=None, component_name="orders.db")


def backup_of(writer: SqliteWriter, volume: Volume, kind: BackupType = BackupType.FULL) -> Backup:
    return Backup(
        Dispatcher(writer),
        document("orders.db", backup_type=kind, component_type=ComponentType.DATABASE),
        backup_type=kind,
        volumes=(SnapshotVolume(volume=volume.name),),
    )


async def make(backup: Backup, kinds: tuple[EventKind, ...] = MAKING) -> None:
    for kind in kinds:
        outcome = await backup.send(kind)
        assert outcome.ok, outcome


def copied(database: Path, to: Path) -> Path:
    """Copy what the component names: the database, its WAL, its log."""
    to.mkdir()
    for path in database.parent.glob(f"{database.name}*"):
        if not path.name.endswith("-shm"):
            copy(path, to / path.name)
    return to / database.name


def copy(path: Path, to: Path) -> None:
    # By another program: closing the database file here drops the locks that SQLite holds in
    # this process for the writer.
    subprocess.run(["cp", path, to], check=True)


def clone_while_held(volume: Volume, clone: Path) -> None:
    fd = freeze.open_directory(volume.root)
    try:
        freeze.freeze(fd)
        try:
            subprocess.run(["cp", "--sparse=always", volume.image, clone], check=True)
        finally:
            freeze.thaw(fd)
    finally:
        os.close(fd)


def restore_and_check(clone: Path, restored: Path) -> list[str]:
    """Copy the database out of a clone of the volume and ask another program about it."""
    root = clone.with_name("clone-root")
    root.mkdir()
    subprocess.run(["mount", "-o", "loop,ro", clone, root], check=True)
    try:
        shutil.copy(root / "orders.db", restored)
    finally:
        subprocess.run(["umount", root], check=True)
    asked = ["PRAGMA integrity_check", "SELECT max(n) FROM header"]
    answer = subprocess.run(
        ["sqlite3", restored, *asked], check=True, capture_output=True, text=True
    )
    return answer.stdout.split()


@pytest.mark.parametrize("round_number", range(3))
async def test_a_copy_made_while_frozen_has_all_that_was_committed_and_nothing_later(
    volume: Volume, protect: Protect, load: Load, scratch: Path, round_number: int
) -> None:
    writer = protect(load.database)
    backup = backup_of(writer, volume)
    load.wait_for(200 * round_number + 1)
    await make(backup, MAKING[:3])
    before = load.drain()
    await trio.sleep(0.3)
    assert load.drain() <= before + 1, "the load went on while frozen"
    whole = copied(load.database, scratch / "copy")
    alone = scratch / "alone.db"
    copy(load.database, alone)
    frozen = load.drain()
    await make(backup, MAKING[3:])
    load.wait_for(20)
    assert read(whole) >= frozen
    assert read(whole) in {frozen, frozen + 1}, "committed, but its report was not out yet"
    assert read(alone) == read(whole), "the database file alone is not complete"
    assert read(load.database) > frozen + 1


async def test_a_clone_of_the_volume_taken_in_the_hold_opens_clean(
    volume: Volume, protect: Protect, load: Load, scratch: Path
) -> None:
    writer = protect(load.database)
    backup = backup_of(writer, volume)
    await make(backup, MAKING[:3])
    clone_while_held(volume, scratch / "clone")
    frozen = load.drain()
    await make(backup, MAKING[3:])
    load.wait_for(20)
    said = restore_and_check(scratch / "clone", scratch / "restored.db")
    assert said[0] == "ok"
    assert int(said[1]) in {frozen, frozen + 1}
    assert read(scratch / "restored.db") == int(said[1])


@pytest.mark.parametrize("journal_mode", ["wal"])
async def test_the_log_is_cut_by_backup_complete_and_by_nothing_else(
    volume: Volume, protect: Protect, load: Load
) -> None:
    writer = protect(load.database)
    log = TransactionLog(load.database)
    backup = backup_of(writer, volume)
    await make(backup)
    size = log.size()
    assert size > 0
    backup.document.component(KEY).backup_succeeded = True
    for kind in (EventKind.ABORT, EventKind.BACKUP_SHUTDOWN):
        await make(backup, (kind,))
        assert log.size() == size, kind
    load.wait_for(20)
    await make(backup, (EventKind.BACKUP_COMPLETE,))
    assert log.size() == 0
    await make(backup, (EventKind.BACKUP_COMPLETE,))
    assert log.size() == 0


@pytest.mark.parametrize("journal_mode", ["wal"])
@pytest.mark.parametrize(
    ("kind", "succeeded"),
    [
        (BackupType.COPY, True),
        (BackupType.DIFFERENTIAL, True),
        (BackupType.OTHER, True),
        (BackupType.FULL, False),
    ],
)
async def test_the_log_stays_for_a_type_that_ends_none_and_without_success(
    volume: Volume, protect: Protect, load: Load, kind: BackupType, succeeded: bool
) -> None:
    writer = protect(load.database)
    log = TransactionLog(load.database)
    backup = backup_of(writer, volume, kind)
    await make(backup)
    size = log.size()
    backup.document.component(KEY).backup_succeeded = succeeded
    await make(backup, (EventKind.BACKUP_COMPLETE,))
    assert 0 < size == log.size()


@pytest.mark.parametrize("journal_mode", ["wal"])
async def test_what_a_later_set_archived_survives_the_completion_of_an_earlier_one(
    volume: Volume, protect: Protect, load: Load
) -> None:
    writer = protect(load.database)
    log = TransactionLog(load.database)
    first, second = backup_of(writer, volume), backup_of(writer, volume)
    await make(first)
    load.wait_for(50)
    await make(second)
    end = log.end()
    first.document.component(KEY).backup_succeeded = True
    await make(first, (EventKind.BACKUP_COMPLETE,))
    assert log.end() == end
    assert log.size() > 0


@pytest.mark.parametrize("journal_mode", ["wal"])
async def test_the_log_rolls_a_copy_forward_to_the_next_freeze(
    volume: Volume, protect: Protect, load: Load, scratch: Path
) -> None:
    writer = protect(load.database)
    log = TransactionLog(load.database)
    await call(writer.on_start)
    first = backup_of(writer, volume)
    await make(first, MAKING[:3])
    base = scratch / "base.db"
    copy(load.database, base)
    await make(first, MAKING[3:])
    first.document.component(KEY).backup_succeeded = True
    await make(first, (EventKind.BACKUP_COMPLETE,))
    for _ in range(3):
        load.wait_for(700)
        await make(backup_of(writer, volume, BackupType.COPY))
    last = backup_of(writer, volume, BackupType.COPY)
    load.wait_for(100)
    await make(last, MAKING[:3])
    frozen = read(load.database)
    await make(last, MAKING[3:])
    start = read(base)
    segments = log.segments()
    assert len(segments) >= 3
    for segment in segments:
        shutil.copy(segment, base.with_name("base.db-wal"))
        base.with_name("base.db-shm").unlink(missing_ok=True)
        read(base)
    assert start < frozen
    assert read(base) == frozen


async def test_abort_lets_the_application_go_on(
    volume: Volume, protect: Protect, load: Load
) -> None:
    writer = protect(load.database)
    backup = backup_of(writer, volume)
    await make(backup, (*MAKING[:3], EventKind.ABORT, EventKind.ABORT))
    load.wait_for(20)


async def test_a_lock_that_is_never_free_is_a_retryable_failure_and_leaves_nothing_locked(
    volume: Volume, protect: Protect, load: Load
) -> None:
    other = protect(load.database)
    blocking = backup_of(other, volume)
    await make(blocking, MAKING[:3])
    writer = protect(load.database, lock_seconds=0.5)
    outcome = await backup_of(writer, volume).send(EventKind.FREEZE)
    assert not outcome.ok
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_RETRYABLE
    assert "0.5 s" in failure_of(outcome).message
    await make(blocking, (EventKind.THAW,))
    load.wait_for(20)


@pytest.mark.parametrize("journal_mode", ["wal"])
async def test_a_chosen_database_outside_the_set_is_an_inconsistent_snapshot(
    volume: Volume, protect: Protect, load: Load
) -> None:
    writer = protect(load.database)
    backup = backup_of(writer, volume)
    backup.volumes = (SnapshotVolume(volume="E:\\"),)
    await make(backup, MAKING[:1])
    outcome = await backup.send(EventKind.PREPARE_SNAPSHOT)
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT


@pytest.mark.parametrize("journal_mode", ["wal"])
async def test_simple_recovery_keeps_no_log_and_lets_the_wal_be_restarted(
    volume: Volume, protect: Protect, load: Load, scratch: Path
) -> None:
    writer = protect(load.database, keep_log=False)
    backup = backup_of(writer, volume)
    await make(backup, MAKING[:3])
    whole = copied(load.database, scratch / "copy")
    frozen = load.drain()
    await make(backup, MAKING[3:])
    load.wait_for(3000)
    assert read(whole) in {frozen, frozen + 1}
    assert TransactionLog(load.database).segments() == []
    wal = load.database.with_name("orders.db-wal")
    assert wal.stat().st_size < 8 << 20


@pytest.mark.parametrize("journal_mode", ["wal"])
async def test_the_component_names_database_wal_and_log(
    volume: Volume, protect: Protect, load: Load
) -> None:
    writer = protect(load.database)
    outcome = await backup_of(writer, volume).send(EventKind.IDENTIFY)
    metadata = WriterMetadataDocument.parse(outcome.document).metadata
    component = metadata.components[0]
    assert component.component_type is ComponentType.DATABASE
    assert [(files.kind.value, files.filespec) for files in component.file_sets] == [
        ("DATABASE_FILES", "orders.db"),
        ("DATABASE_LOGFILES", "orders.db-wal*"),
        ("DATABASE_LOGFILES", "orders.db-log.*"),
    ]
    assert {files.path for files in component.file_sets} == {str(volume.root)}
