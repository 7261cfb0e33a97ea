import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from vssemu.array.journal import Journal, open_journal
from vssemu.array.naming import is_lun_id, mint_serial
from vssemu.array.rows import LunRow, OperationKind, SetRow, SetState
from vssemu.array.schema import FILE_NAME, STEPS
from vssemu.array.tables import Tables
from vssemu.vss.array import LunKind, LunState
from vssemu.vss.errors import Fail
from vssemu.vss.identity import Initiator, SnapshotSetId

ONE = Initiator("systemOne")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = open_journal(tmp_path)
    yield opened
    opened.close()


def add_base(tables: Tables) -> LunRow:
    return tables.add_lun(
        LunRow(
            id=tables.new_lun_id(),
            serial=mint_serial(),
            size=1 << 20,
            kind=LunKind.BASE,
            engine="reflink",
            state=LunState.READY,
        )
    )


def add_set(tables: Tables, state: SetState = SetState.PREPARING) -> SetRow:
    return tables.add_set(
        SetRow(id=SnapshotSetId(uuid4()), owner=ONE, kind=LunKind.DIFFERENTIAL, state=state)
    )


async def test_a_lun_is_read_as_it_was_written(journal: Any) -> None:
    row = await journal.change(add_base)
    assert await journal.read(Tables.lun, row.id) == row
    assert await journal.read(Tables.luns) == [row]


async def test_ids_go_on_counting_after_a_delete_and_a_restart(
    tmp_path: Any, journal: Any
) -> None:
    first = await journal.change(add_base)
    await journal.change(Tables.retire_lun, first.id)
    journal.close()
    again = open_journal(tmp_path)
    second = await again.change(add_base)
    again.close()
    assert is_lun_id(second.id)
    assert int(second.id[-10:], 16) == int(first.id[-10:], 16) + 1
    assert again.identity == journal.identity


async def test_what_raises_changes_nothing(journal: Any) -> None:
    def fail(tables: Tables) -> None:
        add_base(tables)
        raise LookupError

    with pytest.raises(LookupError):
        await journal.change(fail)
    assert await journal.read(Tables.luns) == []


async def test_a_quick_change_is_seen_by_who_reads_after_it(journal: Any) -> None:
    row = await journal.change_quickly(add_base)
    assert await journal.read(Tables.lun, row.id) == row


async def test_masks_are_listed_with_their_lun(journal: Any) -> None:
    def unmask(tables: Tables) -> LunRow:
        row = add_base(tables)
        for name in ("systemTwo", "systemOne"):
            tables.add_initiator(Initiator(name))
            tables.unmask(row.id, Initiator(name))
        return row

    row = await journal.change(unmask)
    (seen,) = await journal.read(Tables.luns_of_initiator, ONE)
    assert seen.id == row.id
    assert seen.masked_to == ("systemOne", "systemTwo")


async def test_a_mask_of_an_unknown_initiator_cannot_be_written(journal: Any) -> None:
    row = await journal.change(add_base)
    with pytest.raises(Fail, match="FOREIGN KEY"):
        await journal.change(Tables.unmask, row.id, ONE)


async def test_a_parent_cannot_go_before_its_copies(journal: Any) -> None:
    def copy(tables: Tables) -> tuple[LunRow, LunRow]:
        source = add_base(tables)
        return source, tables.add_copy(source, add_set(tables), "reflink", 0)

    source, target = await journal.change(copy)
    assert target.origin == source.id
    assert target.state is LunState.PREPARED
    assert target.serial != source.serial
    with pytest.raises(Fail, match="FOREIGN KEY"):
        await journal.change(Tables.retire_lun, source.id)


async def test_a_set_is_forgotten_with_its_last_lun(journal: Any) -> None:
    def copy(tables: Tables) -> LunRow:
        return tables.add_copy(add_base(tables), add_set(tables), "reflink", 0)

    target = await journal.change(copy)
    await journal.change(Tables.forget_empty_set, target.set_id)
    assert await journal.read(Tables.snapshot_set, target.set_id) is not None
    await journal.change(Tables.retire_lun, target.id)
    assert await journal.read(Tables.snapshot_set, target.set_id) is None
    assert await journal.read(Tables.retired_serial, target.id) == target.serial


async def test_operations_stay_until_they_are_ended(journal: Any) -> None:
    def begin(tables: Tables) -> int:
        return tables.begin(OperationKind.CREATE, tables.new_lun_id(), size=5)

    number = await journal.change(begin)
    (operation,) = await journal.read(Tables.operations)
    assert (operation.number, operation.kind, operation.size) == (
        number,
        OperationKind.CREATE,
        5,
    )
    await journal.change(Tables.end, number)
    assert await journal.read(Tables.operations) == []


def test_a_journal_has_a_version_and_waits_in_a_log(tmp_path: Any, journal: Any) -> None:
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_journal_of_a_later_version_is_refused(tmp_path: Any) -> None:
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(Fail, match="version 999"):
        open_journal(tmp_path)


def test_what_is_no_journal_is_refused(tmp_path: Any) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 1000)
    with pytest.raises(Fail, match="not a database"):
        open_journal(tmp_path)
