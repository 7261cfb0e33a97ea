"""Scripts after a creation: aliases, exposing, deleting, importing, breaking, running."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.tools.diskshadow.double import diskshadow
from tests.unit.tools.diskshadow.machine import G_GUID, Machine
from tests.unit.tools.diskshadow.scripts import NOTE, creates
from vssemu.vss.errors import ProviderVeto
from vssemu.vss.host import GptFlags

ID = r"\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}"


def test_unknown_command_and_unset_alias_are_one_clear_line(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, "frobnicate")
    assert ran.status == 1
    assert ran.lines[1] == 'The command "frobnicate" is not known.'
    ran = diskshadow(machine, work, "expose %nothing% R:")
    assert ran.status == 2
    assert ran.lines[1].startswith("%nothing% is not set")
    assert machine.log == []


def test_a_syntax_error_prints_the_help_block(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, "end")
    assert ran.status == 1
    assert ran.lines[:3] == ["-> end", "", "END { BACKUP }"]


def test_help_of_a_command_is_no_failure(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, "create /?", "help", "?")
    assert ran.status == 0
    assert "CREATE" in ran.lines


def test_an_alias_in_a_line_is_echoed_with_its_value(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, *creates(work), "expose %DATA% r:", "unexpose R:")
    (copy,) = machine.copies()
    at = ran.lines.index("-> expose %DATA% r:")
    assert ran.lines[at + 1 : at + 3] == [
        f"-> %DATA% = {{{copy.snapshot_id}}}",
        "The shadow copy was successfully exposed as r:\\.",
    ]
    assert copy.exposed_name is None


def test_unexposing_what_is_not_exposed_fails(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, "unexpose R:")
    assert ran.status == 2
    assert ran.lines[1] == "No shadow copy is exposed at R:."


def test_a_volume_nobody_supports_is_refused_at_once(machine: Machine, work: Path) -> None:
    other = "{11111111-2222-3333-4444-555555555555}"
    ran = diskshadow(machine, work, f"add volume F: provider {other}")
    assert ran.status == 2
    assert "VSS_E_VOLUME_NOT_SUPPORTED" in ran.lines[-1]
    assert diskshadow(machine, work, "add volume Q:").status == 2
    ran = diskshadow(machine, work, "add volume F:", f"add volume \\\\?\\Volume{{{G_GUID}}}",
                     "add volume f:\\")  # fmt: skip
    assert "is in the shadow copy set already" in ran.lines[-1]


def test_a_second_create_needs_an_end_or_a_reset(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, *creates(work), "create")
    assert ran.status == 2
    assert "END BACKUP or RESET" in ran.text
    ran = diskshadow(machine, work, *creates(work), "end backup", "add volume G:", "create")
    assert ran.status == 0


def test_delete_tells_each_copy_and_counts(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, *creates(work), "delete shadows set %VSS_SHADOW_SET%")
    assert ran.status == 0
    assert re.search(
        rf"Deleting shadow copy {ID} on volume .*Volume{ID}\\ from provider {ID}"
        r" \[Attributes: 0x00010009\]\.\.\.",
        ran.text,
    )
    assert "Number of shadow copies deleted: 1" in ran.lines
    assert machine.sets == {}


def test_deleting_by_volume_exposed_and_oldest(machine: Machine, work: Path) -> None:
    script = ("set context persistent", "add volume F: alias f", "create", "end backup")
    more = ("add volume F: alias g", "create", "end backup", "expose %g% R:")
    ran = diskshadow(machine, work, *script, *more, "delete shadows exposed r:\\")
    assert ran.status == 0
    ran = diskshadow(machine, work, *script, "delete shadows oldest F:")
    assert len(machine.copies()) == 1
    ran = diskshadow(machine, work, "delete shadows volume F:", "delete shadows volume F:")
    assert ran.status == 0
    assert ran.lines[-2] == "No shadow copies found in system."


@pytest.mark.parametrize(
    "line",
    ["delete shadows id", "delete shadows set", "list shadows id", "delete shadows volume"],
)
def test_an_id_that_nothing_has_is_a_failure(machine: Machine, work: Path, line: str) -> None:
    ran = diskshadow(machine, work, f"{line} {{11111111-2222-3333-4444-555555555555}}")
    assert ran.status == 2


def test_nothing_to_list_and_nothing_to_delete_are_no_failures(
    machine: Machine, work: Path
) -> None:
    ran = diskshadow(machine, work, "list shadows all", "delete shadows all")
    assert ran.status == 0
    assert ran.lines.count("No shadow copies found in system.") == 2


def transported(machine: Machine, work: Path, context: str = "persistent") -> None:
    """Create a transportable set whose creator goes on living."""
    ran = diskshadow(
        machine, work, "set option transportable", *creates(work)[:-1], "create", "end backup"
    )
    assert ran.status == 0, ran.text
    assert "not imported yet" in ran.text
    assert machine.copies() == []


def test_a_transported_set_is_imported_listed_and_deleted(machine: Machine, work: Path) -> None:
    transported(machine, work)
    ran = diskshadow(
        machine, work, f"load metadata {work}/db.cab", "import", "expose %data% R:",
        "unexpose %data%", "delete shadows set %VSS_SHADOW_SET%",
    )  # fmt: skip
    assert ran.status == 0, ran.text
    assert re.search(rf"Alias data for shadow ID {ID} set as environment variable\.", ran.text)
    assert re.search(rf"Alias VSS_SHADOW_SET for shadow set ID {ID} set", ran.text)
    assert " Transportable No_Auto_Release Persistent Hardware Imported" in ran.text
    assert machine.sets == {}


def test_import_without_metadata_and_of_a_local_set_fails(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, "import")
    assert ran.status == 2
    assert "LOAD METADATA" in ran.text
    diskshadow(machine, work, *creates(work))
    ran = diskshadow(machine, work, f"load metadata {work}/db.cab", "import")
    assert ran.status == 2
    assert "(0x800423fd)" in ran.text


def test_a_second_import_fails(machine: Machine, work: Path) -> None:
    transported(machine, work)
    ran = diskshadow(machine, work, f"load metadata {work}/db.cab", "import", "import")
    assert ran.status == 2
    assert "VSS_E_OBJECT_ALREADY_EXISTS" in ran.text
    assert len(machine.copies()) == 1


def test_an_import_that_lost_a_copy_lists_the_others_and_fails(
    machine: Machine, work: Path
) -> None:
    script = list(creates(work, "set option transportable"))
    script.insert(-1, "add volume G:")
    diskshadow(machine, work, *script)
    machine.lose_at_import = 1
    ran = diskshadow(machine, work, f"load metadata {work}/db.cab", "import")
    assert ran.status == 2
    assert "Number of shadow copies listed: 1" in ran.lines
    assert "VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED (0x00042321): 1 of 2" in ran.text


@pytest.mark.parametrize(
    ("line", "left"),
    [("break %VSS_SHADOW_SET%", GptFlags.READ_ONLY), ("break writable %data%", GptFlags.NONE)],
)
def test_break_leaves_plain_volumes_that_can_be_written_if_wanted(
    machine: Machine, work: Path, line: str, left: GptFlags
) -> None:
    transported(machine, work)
    ran = diskshadow(machine, work, f"load metadata {work}/db.cab", "import", line)
    assert ran.status == 0, ran.text
    (freed,) = [v for v in machine.volumes if not v.letters]
    assert freed.flags == left
    assert machine.sets == {}


def test_mask_takes_the_set_away_by_set_or_by_copy_and_it_is_imported_again(
    machine: Machine, work: Path
) -> None:
    transported(machine, work)
    load = (f"load metadata {work}/db.cab", "import")
    for target in ("%data%", "%VSS_SHADOW_SET%"):
        ran = diskshadow(machine, work, *load, f"mask {target}", "list shadows all")
        assert ran.status == 0, ran.text
        assert "No shadow copies found in system." in ran.lines
        assert [v for v in machine.volumes if not v.letters] == []
    assert diskshadow(machine, work, *load).status == 0
    assert len(machine.copies()) == 1


def test_a_mask_that_fails_names_the_call_and_says_how_the_set_is_left(
    machine: Machine, work: Path
) -> None:
    transported(machine, work)
    load = (f"load metadata {work}/db.cab", "import")
    fact = "the array does not answer; the set stays on this host as it was"
    machine.fail["BreakSnapshotSetEx"] = ProviderVeto(fact)
    ran = diskshadow(machine, work, *load, "mask %VSS_SHADOW_SET%", "list shadows all")
    assert ran.status == 2
    assert re.search(rf'"vssObject->BreakSnapshotSetEx\({ID}, 0x1\)" failed', ran.text)
    assert ran.lines[-1] == f"VSS_E_PROVIDER_VETO (0x80042306): {fact}"
    assert len(machine.copies()) == 1
    ran = diskshadow(machine, work, "mask {11111111-2222-3333-4444-555555555555}")
    assert (ran.status, ran.lines[-1][:31]) == (2, "There is no shadow copy set {11")


def test_list_writers_after_create_shows_the_state_in_the_backup(
    machine: Machine, work: Path
) -> None:
    ran = diskshadow(machine, work, *creates(work), "list writers status", "list writers")
    assert "Listing writer status ..." in ran.lines
    assert "\t- Status: 5 (VSS_WS_WAITING_FOR_BACKUP_COMPLETE)" in ran.lines
    assert ran.lines.count("1 writer listed.") == 2
    assert diskshadow(machine, work, "list writers detailed").status == 0
    assert "1 provider registered." in diskshadow(machine, work, "list providers").lines


def program(work: Path, name: str, text: str) -> None:
    (work / name).write_text(text)
    (work / name).chmod(0o755)


def test_exec_has_aliases_parameters_and_the_environment(machine: Machine, work: Path) -> None:
    program(work, "copy", "#!/bin/sh\nenv > out\n")
    ran = diskshadow(
        machine, work, *creates(work), "exec copy.cmd", "end backup",
        parameters=("/tmp/first",), environment={"KEPT": "yes", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert ran.status == 0, ran.text
    (copy,) = machine.copies()
    got = dict(line.split("=", 1) for line in (work / "out").read_text().splitlines())
    assert got["data"] == got["DATA"] == f"{{{copy.snapshot_id}}}"
    assert got["VSS_SHADOW_SET"] == f"{{{copy.snapshot_set_id}}}"
    assert got["DISKSH_PARAM_1"] == "/tmp/first"
    assert got["KEPT"] == "yes"


def test_a_failing_exec_ends_the_script_without_backup_complete(
    machine: Machine, work: Path
) -> None:
    program(work, "copy.cmd", "#!/bin/sh\nexit 3\n")
    ran = diskshadow(machine, work, *creates(work), f"exec {work}/copy.cmd", "end backup")
    assert ran.status == 2
    assert "exit status 3" in ran.text
    assert NOTE in ran.lines
    assert len(machine.copies()) == 1
    assert "BackupComplete" not in machine.log


def test_exec_takes_no_parameters(machine: Machine, work: Path) -> None:
    ran = diskshadow(machine, work, 'exec "cmd.exe" /c dir')
    assert ran.status == 1
    assert ran.lines[1:4] == ["The script file name is not valid.", "", "EXEC <file.cmd>"]


def test_exec_runs_a_script_without_an_interpreter_line(machine: Machine, work: Path) -> None:
    program(work, "tape.cmd", "echo hello > said\n")
    assert diskshadow(machine, work, "exec tape.cmd").status == 0
    assert (work / "said").read_text() == "hello\n"


def test_the_real_program_writes_its_log(work: Path) -> None:
    (work / "a.dsh").write_text("set verbose on\nset\nexit\n")
    ran = subprocess.run(
        [sys.executable, "-m", "vssemu.tools.diskshadow", "-S", "a.dsh", "-L", "log.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Verbose:  ON" in ran.stdout
    assert (work / "log.txt").read_text() == ran.stdout
