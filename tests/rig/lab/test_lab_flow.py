"""The main flow over a real lab: create, transport, import, read, delete, complete; break."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.rig.lab.labrig import (
    GLOBALROOT,
    ONE,
    PERSISTENT,
    THREE,
    TWO,
    Rig,
    complete,
    create,
    digest,
    eventually,
    grammar_errors,
    import_set,
)
from tests.rig.lab.witness import Witness, attending
from vssemu import Attribute, Context, Hresult, ObjectType, SnapshotState
from vssemu.api import array as array_api
from vssemu.api import disks
from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.documents.wmd import WriterMetadataDocument
from vssemu.vss.errors import ObjectNotFound, VssError
from vssemu.vss.files import copied_volume, files_to_back_up
from vssemu.vss.host import GptFlags
from vssemu.vss.identity import Initiator, SnapshotId
from vssemu.vss.snapshot import SnapshotProperties


def tree_of(rig: Rig, host: str, properties: SnapshotProperties) -> Path:
    """Return the root of a device object as the machine reaches it."""
    return rig.path(host, properties.device_object)


def test_a_set_travels_is_read_elsewhere_deleted_there_and_only_then_completed(
    lab: Rig, scratch: Path
) -> None:
    """The nine steps; the copy holds the bytes of the instant, and nothing of later."""
    source = lab.path(ONE, "/mnt/F/data")
    frozen = digest(source)
    assert len(frozen) == 40
    writer = Witness()
    with attending(lab, ONE, writer), lab.backup(ONE) as creator:
        made = create(creator)
        assert writer.events == [
            "identify",
            "prepare backup",
            "prepare snapshot",
            "freeze",
            "thaw",
            "post snapshot",
        ]
        document = creator.save_as_xml()
        metadata = [w.save_as_xml() for w in creator.writer_metadata()]
        assert grammar_errors("bcd.rng", document) == ""
        assert [grammar_errors("wmd.rng", text) for text in metadata] == [""]
        changed = source / "d0/f0"
        before = changed.read_bytes()
        changed.write_bytes(b"written after the instant")
        (source / "later").write_bytes(b"later")
        try:
            with lab.backup(TWO) as importer:
                assert import_set(importer, document) == Hresult.VSS_S_ASYNC_FINISHED
                found = importer.get_snapshot_properties(made.copy)
                assert found.snapshot_set_id == made.set_id
                assert found.originating_machine == ONE
                assert Attribute.IMPORTED in found.attributes
                assert digest(tree_of(lab, TWO, found) / "data") == frozen
                _read_by_list(lab, document, metadata, found, frozen, scratch)
                assert "backup complete" not in writer.events
            names = lab.path(TWO, f"{GLOBALROOT}/Device")
            assert not list(names.iterdir())
            assert "backup complete" not in writer.events
            complete(creator, made)
            assert writer.events[6:] == ["backup complete"]
            assert writer.succeeded == [True]
        finally:
            changed.write_bytes(before)
            (source / "later").unlink()
    assert writer.events[7:] == ["backup shutdown"]


def _read_by_list(
    lab: Rig,
    document: str,
    metadata: list[str],
    found: SnapshotProperties,
    frozen: dict[str, str],
    scratch: Path,
) -> None:
    """Back the listed files up with another tool, inside systemTwo, and compare."""
    listed = files_to_back_up(
        BackupComponentsDocument.parse(document),
        [WriterMetadataDocument.parse(text).metadata for text in metadata],
        [copied_volume(found, letter="F")],
    )
    assert not listed.missing
    (one,) = listed.files
    assert one.path == f"{found.device_object}/data"
    archive, out = scratch / "backup.tar", scratch / "restored"
    lab.run(TWO, "tar", "-C", one.path, "-cf", str(archive), ".")
    out.mkdir()
    subprocess.run(["tar", "-C", out, "-xf", archive], check=True)
    assert digest(out) == frozen


def test_writers_in_processes_give_a_database_that_opens_clean_and_cut_its_log_at_the_end(
    lab: Rig, scratch: Path
) -> None:
    """A database under constant writes; its writer and a files writer run on systemOne."""
    files_config, sqlite_config = scratch / "files.toml", scratch / "sqlite.toml"
    files_config.write_text('group = [{ name = "data", path = "F:/data" }]\n'.replace("/", "\\\\"))
    sqlite_config.write_text('databases = ["/mnt/F/orders/orders.db"]\n')
    runner = [sys.executable, "-m", "vssemu.daemons.writer_runner"]
    database = lab.path(ONE, "/mnt/F/orders/orders.db")
    database.parent.mkdir()
    load = [sys.executable, "tests/rig/lab/dbload.py", "/mnt/F/orders/orders.db"]
    with (
        (scratch / "load.out").open("wb") as out,
        (scratch / "writers.log").open("wb") as log,
        lab.running(ONE, *load, stdout=out),
    ):
        eventually(lambda: _committed(scratch / "load.out") > 20)
        arguments = [
            ("vssemu.writers.files:FilesWriter", files_config),
            ("vssemu.writers.sqlite:SqliteWriter", sqlite_config),
        ]
        with (
            lab.running(
                ONE, *runner, arguments[0][0], "--config", str(arguments[0][1]), stderr=log
            ),
            lab.running(
                ONE, *runner, arguments[1][0], "--config", str(arguments[1][1]), stderr=log
            ),
            lab.backup(ONE) as creator,
        ):
            eventually(lambda: _subscribed(scratch / "writers.log") == 2)
            before = _committed(scratch / "load.out")
            made = create(creator)
            assert {w.name for w in made.writers} == {"Files Writer", "SQLite Writer"}
            after = _committed(scratch / "load.out") + 1
            document = creator.save_as_xml()
            assert grammar_errors("bcd.rng", document) == ""
            eventually(lambda: _committed(scratch / "load.out") > after + 20)
            with lab.backup(TWO) as importer:
                import_set(importer, document)
                device = importer.get_snapshot_properties(made.copy).device_object
                copy = scratch / "orders.db"
                lab.run(TWO, "cp", f"{device}/orders/orders.db", str(copy))
            assert before <= _last(copy) <= after
            kept = {p.name for p in database.parent.glob("orders.db-log.*")}
            assert len(kept) > 1, "the writer keeps its log until it may cut it"
            complete(creator, made)
            # The newest segment goes on behind what the copy has.
            now = {p.name for p in database.parent.glob("orders.db-log.*")}
            assert now == {max(kept)}
    for path in database.parent.iterdir():
        path.unlink()
    database.parent.rmdir()


def _committed(out: Path) -> int:
    lines = out.read_text().split("\n")[:-1]
    return int(lines[-1]) if lines else 0


def _subscribed(log: Path) -> int:
    return log.read_text().count("writer_subscribed")


def _last(database: Path) -> int:
    """Return the number of the last transaction of a database that must be whole."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        last, count = connection.execute("SELECT max(n), count(*) FROM header").fetchone()
    assert last == count
    return int(last)


def test_the_image_view_and_the_raw_device_hold_the_same_bytes_and_take_no_writes(
    lab: Rig,
) -> None:
    with lab.backup(ONE) as creator, lab.backup(TWO) as importer:
        made = create(creator)
        import_set(importer, creator.save_as_xml())
        device = importer.get_snapshot_properties(made.copy).device_object
        name = device.rpartition("/")[2]
        script = f"""
            set -e
            cmp {GLOBALROOT}/RawDevice/{name} {GLOBALROOT}/Image/{name}
            test "$(blkid -o value -s TYPE {GLOBALROOT}/Image/{name})" = ext4
            ! touch {device}/data/new
            ! dd if=/dev/zero of={GLOBALROOT}/RawDevice/{name} bs=4096 count=1
            ! dd if=/dev/zero of={GLOBALROOT}/Image/{name} bs=4096 count=1 conv=notrunc
            ! mount -o remount,rw {device}
            ! touch {device}/data/new
            ! rm {device}/data/d0/f0
            test -f {device}/data/d0/f0
        """
        lab.run(TWO, "bash", "-c", script)


def test_leaving_the_importers_block_ends_a_nonpersistent_set(lab: Rig) -> None:
    with lab.backup(ONE) as creator:
        before = lab.lun_ids()
        made = create(creator)
        with lab.backup(TWO) as importer:
            import_set(importer, creator.save_as_xml())
            assert len(lab.lun_ids() - before) == 1
            device = importer.get_snapshot_properties(made.copy).device_object
            held = os.open(lab.path(TWO, device), os.O_RDONLY | os.O_DIRECTORY)
        try:
            assert lab.lun_ids() == before
            with pytest.raises(FileNotFoundError):
                os.stat(lab.path(TWO, device))
            with pytest.raises(OSError):  # noqa: PT011 - which one is the file system's choice
                os.listdir(held)
        finally:
            os.close(held)
        with lab.backup(TWO) as other:
            other.initialize_for_backup()
            other.set_context(Context.ALL)
            assert other.query() == []


def test_leaving_the_creators_block_ends_a_nonpersistent_set_that_nobody_imported(
    lab: Rig,
) -> None:
    before = lab.lun_ids()
    with lab.backup(ONE) as creator:
        create(creator)
        document = creator.save_as_xml()
        assert lab.lun_ids() != before
    assert lab.lun_ids() == before
    with lab.backup(TWO) as importer, pytest.raises(VssError) as refused:
        import_set(importer, document)
    assert refused.value.hresult in {
        Hresult.VSS_E_OBJECT_NOT_FOUND,
        Hresult.VSS_E_NO_SNAPSHOTS_IMPORTED,
        Hresult.VSS_E_PROVIDER_VETO,
    }


def test_a_persistent_set_survives_the_service_of_the_importer(lab: Rig) -> None:
    frozen = digest(lab.path(ONE, "/mnt/F/data"))
    with lab.backup(ONE) as creator:
        made = create(creator, context=PERSISTENT)
        document = creator.save_as_xml()
    with lab.backup(TWO) as importer:
        import_set(importer, document)
        before = importer.get_snapshot_properties(made.copy)
        assert digest(tree_of(lab, TWO, before) / "data") == frozen
    lab.restart_vssd(TWO)
    with lab.backup(TWO) as administrator:
        administrator.initialize_for_backup()
        administrator.set_context(Context.ALL)
        (after,) = administrator.query()
        assert after.snapshot_id == made.copy
        assert after.status is SnapshotState.CREATED
        assert digest(tree_of(lab, TWO, after) / "data") == frozen
        gone = administrator.delete_snapshots(made.copy, ObjectType.SNAPSHOT, False)
        assert (gone.deleted, gone.hresult) == (1, Hresult.S_OK)
        with pytest.raises(ObjectNotFound):
            administrator.get_snapshot_properties(made.copy)


def test_a_set_that_is_not_transportable_comes_up_on_its_creator(lab: Rig) -> None:
    frozen = digest(lab.path(ONE, "/mnt/F/data"))
    writer = Witness()
    with attending(lab, ONE, writer), lab.backup(ONE) as creator:
        made = create(creator, context=Context.BACKUP)
        found = creator.get_snapshot_properties(made.copy)
        assert Attribute.TRANSPORTABLE not in found.attributes
        assert digest(tree_of(lab, ONE, found) / "data") == frozen
        assert [p.snapshot_id for p in creator.query()] == [made.copy]
        complete(creator, made)
    assert writer.events[-2:] == ["backup complete", "backup shutdown"]


def test_two_volumes_are_copied_at_one_instant_and_travel_together(lab: Rig) -> None:
    truth = {letter: digest(lab.path(ONE, f"/mnt/{letter}/data")) for letter in "FG"}
    with lab.backup(ONE) as creator, lab.backup(TWO) as importer:
        made = create(creator, "F:\\", "G:\\")
        assert import_set(importer, creator.save_as_xml()) == Hresult.VSS_S_ASYNC_FINISHED
        for letter, frozen in truth.items():
            found = importer.get_snapshot_properties(made.copies[f"{letter}:\\"])
            assert found.snapshots_count == 2
            assert digest(tree_of(lab, TWO, found) / "data") == frozen
        gone = importer.delete_snapshots(SnapshotId(made.set_id), ObjectType.SNAPSHOT_SET, False)
        assert gone.deleted == 2


@pytest.mark.parametrize("context", [Context.NAS_ROLLBACK, Context.FILE_SHARE_BACKUP])
def test_a_context_without_writers_gives_them_no_event(lab: Rig, context: Context) -> None:
    writer = Witness()
    with attending(lab, ONE, writer), lab.backup(ONE) as creator:
        made = create(creator, context=context, components=False)
        assert creator.get_snapshot_properties(made.copy).snapshot_id == made.copy
        creator.delete_snapshots(made.copy, ObjectType.SNAPSHOT, False)
    assert writer.events == []


def test_a_broken_set_is_plain_disks_that_can_be_written_and_given_to_a_third_host(
    lab: Rig,
) -> None:
    """The second seed page, over io.vssemu.Disks."""
    frozen = digest(lab.path(ONE, "/mnt/F/data"))
    with lab.backup(ONE) as creator:
        made = create(creator, context=PERSISTENT)
        document = creator.save_as_xml()
    with lab.backup(TWO) as importer:
        import_set(importer, document)
        found = importer.get_snapshot_properties(made.copy)
        (record,) = importer.get_snapshot_luns(made.copy)
        importer.break_snapshot_set(made.set_id)
        assert digest(tree_of(lab, TWO, found) / "data") == frozen
        with pytest.raises(ObjectNotFound):
            importer.get_snapshot_properties(made.copy)
    lun = record.naa
    assert lun is not None
    with lab.vss(TWO) as vss:
        (volume,) = [v for v in vss.client.call(disks.list_volumes) if v.luns[0].lun_id == lun]
        assert GptFlags(volume.flags) & GptFlags.READ_ONLY
        vss.client.call(disks.make_read_write, volume.name)
        where = vss.client.call(disks.add_access_path, volume.name, "R:\\")
        assert where == "/mnt/R"
        assert digest(lab.path(TWO, "/mnt/R/data")) == frozen
        lab.path(TWO, "/mnt/R/data/added").write_bytes(b"added after the break")
        vss.client.call(disks.mask, lun)
        assert lun not in {d.lun_id for d in vss.client.call(disks.list_disks)}
        vss.client.call(disks.unmask, lun, Initiator(THREE))
    with lab.vss(THREE) as vss:
        vss.client.call(disks.rescan)
        (volume,) = [v for v in vss.client.call(disks.list_volumes) if v.luns[0].lun_id == lun]
        vss.client.call(disks.add_access_path, volume.name, "T:\\")
        added = lab.path(THREE, "/mnt/T/data/added")
        assert added.read_bytes() == b"added after the break"
        added.unlink()
        assert digest(lab.path(THREE, "/mnt/T/data")) == frozen
        vss.client.call(disks.mask, lun)
    with lab.lab.array() as array:
        array.call(array_api.delete_lun, lun)
