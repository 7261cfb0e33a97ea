r"""Tests of a backup program, with the fixtures that vssemu brings: `pytest pytest_backup.py`.

Run as root. The session has a lab of its own with systemOne, which has F:, and systemTwo; say
`-o vss_lab_volumes="F:=1G:xfs"` for another one, `--vss-lab NAME` for one that runs.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vssemu import Attribute, BackupComponents, BackupType, Context, ObjectType
from vssemu.conformance.hosts import VssHost

TRANSPORTABLE = Context.BACKUP | Attribute.TRANSPORTABLE


@pytest.fixture
def documents(system_one: VssHost) -> Iterator[Path]:
    r"""Give a directory with three files on F: of systemOne."""
    directory = system_one.path(r"F:\documents")
    directory.mkdir()
    for number in range(3):
        (directory / f"{number}.txt").write_text(f"document {number}")
    yield directory
    shutil.rmtree(system_one.path(r"F:\documents"))


def create(backup: BackupComponents) -> str:
    """Make a transportable shadow copy of F: with all writers; return its document."""
    backup.initialize_for_backup()
    backup.set_context(TRANSPORTABLE)
    backup.set_backup_state(False, False, BackupType.FULL)
    backup.gather_writer_metadata()
    backup.start_snapshot_set()
    backup.add_to_snapshot_set("F:\\")
    backup.prepare_for_backup()
    backup.do_snapshot_set()
    return backup.save_as_xml()


def test_a_copy_is_read_on_the_other_host(
    system_one: VssHost, system_two: VssHost, documents: Path
) -> None:
    """What the backup program reads on systemTwo is what systemOne had at that instant."""
    with (
        system_one.connect() as here,
        system_two.connect() as there,
        here.backup_components() as requester,
        there.backup_components() as importer,
    ):
        document = create(requester)
        (documents / "0.txt").write_text("written after the shadow copy")

        importer.initialize_for_backup(document)
        importer.set_context(Context.ALL)
        importer.import_snapshots()
        (copy,) = importer.query()
        tree = system_two.path(copy.device_object) / "documents"
        assert [file.read_text() for file in sorted(tree.iterdir())] == [
            "document 0",
            "document 1",
            "document 2",
        ]
        # The same with a program that runs on the host.
        listed = system_two.run("ls", f"{copy.device_object}/documents").stdout
        assert listed.split() == ["0.txt", "1.txt", "2.txt"]

        importer.delete_snapshots(copy.snapshot_id, ObjectType.SNAPSHOT, False)
        assert importer.query() == []
        requester.backup_complete()


def test_a_writer_takes_part(system_one: VssHost, documents: Path) -> None:
    """The files writer, which comes with vssemu, names the documents as a component."""
    group = {"name": "documents", "path": r"F:\documents", "filespec": "*"}
    system_one.start_writer("vssemu.writers.files:FilesWriter", {"group": [group]})
    with system_one.connect() as vss, vss.backup_components() as backup:
        backup.initialize_for_backup()
        backup.set_context(Context.BACKUP)
        found = {
            each.name for writer in backup.gather_writer_metadata() for each in writer.components
        }
    assert found == {"documents"}


def test_data_on_a_disk_outlives_a_loss_of_power(system_one: VssHost, documents: Path) -> None:
    """A host that is switched off comes back with its volumes."""
    system_one.run("sync")
    system_one.power_off()
    assert not system_one.is_on()
    system_one.start()
    (drive,) = (volume.letters for volume in system_one.volumes())
    assert drive == ("F:\\",)
    assert system_one.path(r"F:\documents\1.txt").read_text() == "document 1"
