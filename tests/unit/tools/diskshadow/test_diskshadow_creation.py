"""Whole scripts against a service in memory: what is asked of it, in which order, what is told."""

import errno
import os
import re
from pathlib import Path

import pytest

from tests.unit.tools.diskshadow.double import diskshadow
from tests.unit.tools.diskshadow.machine import Machine, component, refusing, writer
from tests.unit.tools.diskshadow.scripts import NOTE, creates, set_metadata
from vssemu.vss.attributes import Attribute
from vssemu.vss.documents import cabinet
from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.enums import BackupType
from vssemu.vss.errors import InsufficientStorage, WriterErrorTimeout
from vssemu.vss.hresult import Hresult

ID = r"\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}"


def test_create_tells_aliases_and_lists_the_set(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, *creates(work), "end backup")
    assert ran.status == 0, ran.text
    at = ran.lines.index("-> create")
    (copy,) = machine.copies()
    assert ran.lines[at + 1 : at + 7] == [
        f"Alias data for shadow ID {{{copy.snapshot_id}}} set as environment variable.",
        f"Alias VSS_SHADOW_SET for shadow set ID {{{copy.snapshot_set_id}}}"
        " set as environment variable.",
        "",
        f"Querying all shadow copies with the shadow copy set ID {{{copy.snapshot_set_id}}}",
        "",
        f"\t* Shadow copy ID = {{{copy.snapshot_id}}}\t\t%data%",
    ]
    assert "Number of shadow copies listed: 1" in ran.lines
    assert ran.lines[-1] == "->"


def test_the_calls_come_in_the_order_of_a_backup(machine: Machine, work: Path) -> None:
    diskshadow(machine, work, *creates(work), "end backup")
    begin = machine.log.index("SetBackupState")
    calls = [
        call
        for call in machine.log[begin:]
        if call not in {"GatherWriterStatus", "GetSnapshotProperties", "after DoSnapshotSet"}
    ]
    assert calls == [
        "SetBackupState",
        "GatherWriterMetadata",
        "GetWriterMetadata",
        "AddComponent",
        "StartSnapshotSet",
        "AddToSnapshotSet",
        "PrepareForBackup",
        "DoSnapshotSet",
        "SaveAsXML",
        "SetBackupSucceeded",
        "Stock Writer:\\ledger True",
        "BackupComplete",
        "Release",
    ]


def test_the_cabinet_carries_documents_names_and_aliases(machine: Machine, work: Path) -> None:
    diskshadow(machine, work, "add alias where C:\\x", *creates(work, "set option transportable"))
    found = cabinet.read((work / "db.cab").read_bytes())
    (held,) = machine.sets.values()
    (copy,) = held.copies
    assert found.manifest.copies[0].alias == "data"
    assert found.manifest.copies[0].original_volume == "F:\\"
    assert found.manifest.aliases == (
        ("where", "C:\\x"),
        ("data", f"{{{copy.snapshot_id}}}"),
        ("VSS_SHADOW_SET", f"{{{copy.snapshot_set_id}}}"),
    )
    assert found.manifest.writers == ("Stock Writer",)
    assert "Stock Writer" in found.writers[0]
    document = BackupComponentsDocument.parse(found.bcd)
    assert document.is_transportable
    state = document.backup_state
    assert state is not None
    assert state.backup_type is BackupType.FULL


def test_without_begin_backup_the_backup_is_a_copy(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, set_metadata(work), "add volume F:", "create", "end backup")
    assert ran.status == 0
    document = BackupComponentsDocument.parse(cabinet.read((work / "db.cab").read_bytes()).bcd)
    state = document.backup_state
    assert state is not None
    assert state.backup_type is BackupType.COPY
    assert "BackupComplete" not in machine.log
    assert NOTE not in ran.lines


def test_the_default_cabinet_is_in_the_working_directory(machine: Machine, work: Path) -> None:
    assert diskshadow(machine, work, "add volume F:", "create").status == 0
    (made,) = work.glob("*.cab")
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d_{re.escape(os.uname().nodename)}\.cab", made.name
    )


def test_verbose_tells_components_and_members(machine: Machine, work: Path) -> None:
    machine.writers = [writer(component("ledger", "F:\\stock"), component("old", "G:\\old"))]
    ran = diskshadow(machine, work, "set verbose on", *creates(work))
    at = ran.lines.index('Component "\\old" from writer "Stock Writer" is excluded from backup,')
    assert ran.lines[at + 1 : at + 5] == [
        "because it requires volume G:\\ which is not in the shadow copy set.",
        "",
        '* Including writer "Stock Writer":',
        "\t+ Adding component: \\ledger",
    ]
    inserted = [line for line in ran.lines if line.startswith("Inserted file")]
    assert [re.sub("Dis[0-9A-F]{4}", "Dis", line) for line in inserted] == [
        "Inserted file Manifest.xml into .cab file db.cab",
        "Inserted file BCDocument.xml into .cab file db.cab",
        "Inserted file WM0.xml into .cab file db.cab",
        "Inserted file Dis.tmp into .cab file db.cab",
    ]


def test_volatile_copies_end_with_the_program_and_with_reset(machine: Machine, work: Path) -> None:
    ran = diskshadow(
        machine, work, "add volume F:", "create", "end backup", "list shadows all", "reset",
        "list shadows all",
    )  # fmt: skip
    assert ran.lines.count("Number of shadow copies listed: 1") == 2
    assert "No shadow copies found in system." in ran.lines
    diskshadow(machine, work, "add volume F:", "create")
    assert machine.sets == {}


def test_two_volumes_have_default_aliases_by_position(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, "add volume F: alias data", "add volume G:", "create", "add")
    assert "Alias VSS_SHADOW_2 for shadow ID" in ran.text
    assert "VSS_SHADOW_1" not in ran.text
    assert "2 volumes in Shadow Copy Set." in ran.lines
    assert "3 Diskshadow aliases in the environment." in ran.lines


def test_no_writers_means_no_writer_calls(machine: Machine, work: Path) -> None:
    ran = diskshadow(
        machine, work, "set context persistent nowriters", "begin backup", "add volume F:",
        "create", "end backup",
    )  # fmt: skip
    assert ran.status == 0, ran.text
    assert not {"GatherWriterMetadata", "PrepareForBackup", "BackupComplete"} & set(machine.log)
    assert len(list(work.glob("*.cab"))) == 1


def test_a_later_context_replaces_an_earlier_one(machine: Machine, work: Path) -> None:
    diskshadow(machine, work, "set context clientaccessible", *creates(work))
    (copy,) = machine.copies()
    assert Attribute.CLIENT_ACCESSIBLE not in copy.attributes


def test_leaving_an_open_backup_is_noted_and_no_failure(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, *creates(work), "exit", "nonsense")
    assert ran.status == 0
    assert ran.lines[-2:] == [NOTE, "DiskShadow is exiting."]
    assert "BackupComplete" not in machine.log


def test_the_script_stops_at_the_first_failure(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, "begin backup", "create", "list writers")
    assert ran.status == 2
    assert "-> list writers" not in ran.lines
    assert NOTE in ran.lines


def test_a_failing_call_is_named_with_its_error(machine: Machine, work: Path) -> None:
    machine.fail["DoSnapshotSet"] = refusing(InsufficientStorage)
    ran = diskshadow(machine, work, *creates(work))
    at = ran.lines.index('COM call "vssObject->DoSnapshotSet" failed.')
    assert ran.lines[at - 1] == ""
    assert re.fullmatch(
        r"VSS_E_INSUFFICIENT_STORAGE \(0x8004231f\): the call was told to fail \[look elsewhere\]",
        ran.lines[at + 1],
    )
    assert ran.status == 2


STEPS = (
    "GatherWriterMetadata",
    "AddComponent",
    "StartSnapshotSet",
    "AddToSnapshotSet",
    "PrepareForBackup",
    "DoSnapshotSet",
    "after DoSnapshotSet",
    "GatherWriterStatus",
    "GetSnapshotProperties",
)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [refusing(), KeyboardInterrupt()], ids=["failure", "ctrl-c"])
@pytest.mark.parametrize("option", ["differential", "transportable"])
def test_a_creation_that_ends_early_leaves_nothing(
    machine: Machine, work: Path, step: str, error: BaseException, option: str
) -> None:
    if step == "GetSnapshotProperties" and option == "transportable":
        step = "SaveAsXML"
    script = (f"set option {option}", *creates(work))
    machine.fail[step] = error
    ran = diskshadow(machine, work, *script)
    assert ran.status == 2
    if step != "SaveAsXML":
        # A set whose document the service does not give has no way back but the service's own.
        assert machine.sets == {}
    assert list(work.glob("*.cab")) == []
    assert list(work.glob(".*.cab*")) == []


def test_a_failed_creation_is_aborted_and_can_be_tried_again(machine: Machine, work: Path) -> None:
    machine.fail["DoSnapshotSet"] = refusing(WriterErrorTimeout)
    assert diskshadow(machine, work, *creates(work)).status == 2
    at = machine.log.index("DoSnapshotSet")
    assert machine.log[at + 1] == "AbortBackup"
    machine.fail.clear()
    assert diskshadow(machine, work, *creates(work)).status == 0


def test_a_writer_that_failed_fails_the_creation(machine: Machine, work: Path) -> None:
    machine.writer_failure = Hresult.VSS_E_WRITERERROR_TIMEOUT
    ran = diskshadow(machine, work, *creates(work))
    assert ran.status == 2
    assert 'writer "Stock Writer" is in state' in ran.text
    assert machine.sets == {}


def test_a_directory_that_cannot_be_written_ends_create_early(
    machine: Machine, work: Path
) -> None:
    ran = diskshadow(machine, work, "set metadata missing\\x.cab", "add volume F:", "create")
    assert ran.status == 2
    assert "Use SET METADATA" in ran.lines[-1]
    assert "StartSnapshotSet" not in machine.log


def test_an_existing_cabinet_is_announced_and_kept_by_a_failure(
    machine: Machine, work: Path
) -> None:
    (work / "db.cab").write_bytes(b"old")
    machine.fail["DoSnapshotSet"] = refusing()
    ran = diskshadow(machine, work, *creates(work))
    assert "The existing file will be overwritten." in ran.lines
    assert (work / "db.cab").read_bytes() == b"old"


def test_excluded_and_verified_writers(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, "writer exclude Stock Writer", *creates(work))
    assert ran.status == 0
    assert "AddComponent" not in machine.log
    ran = diskshadow(
        machine, work, 'writer verify "Stock Writer:\\none"', "add volume F:", "create"
    )
    assert ran.status == 2
    assert "component \\none of writer 'Stock Writer' is not included" in ran.text
    ran = diskshadow(machine, work, "writer verify Mail Writer", "add volume F:", "create")
    assert "'Mail Writer' is not on this computer" in ran.text
    ran = diskshadow(machine, work, "writer verify stock writer", "add volume F:", "create")
    assert ran.status == 0


def test_a_full_disk_at_the_end_takes_the_set_back(
    machine: Machine, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    ran = diskshadow(machine, work, *creates(work))
    assert ran.status == 2
    assert "cannot be written: No space left on device. Use SET METADATA" in ran.text
    assert machine.sets == {}
    assert [path.name for path in work.iterdir()] == ["script.dsh"]
