"""DiskShadow scripts on real hosts: a set goes from host to host, is kept, masked and broken."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig.lab.labrig import GLOBALROOT, ONE, THREE, TWO, Rig, digest, eventually
from vssemu.api import array as api
from vssemu.api import disks
from vssemu.api.errors import decode_error
from vssemu.lab.paths import RUN
from vssemu.linux import loop
from vssemu.rpc import client as rpc
from vssemu.vss.array import ArrayLun, LunState, View
from vssemu.vss.identity import LunId

DISKSHADOW = str(Path(sys.executable).with_name("diskshadow"))

Ran = subprocess.CompletedProcess[str]

IMPORT = ("reset", "load metadata %DISKSH_PARAM_1%/db.cab", "import")


def diskshadow(lab: Rig, host: str, scratch: Path, *lines: str, name: str = "run.dsh") -> Ran:
    """Run a script on a host; the scratch directory is its first parameter."""
    script = scratch / name
    script.write_text("\r\n".join(lines) + "\r\n")
    return lab.exec(host, DISKSHADOW, "/s", str(script), str(scratch), cwd=scratch)


def did(lab: Rig, host: str, scratch: Path, *lines: str) -> str:
    """Run a script that must succeed; return its output."""
    ran = diskshadow(lab, host, scratch, *lines)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def program(scratch: Path, name: str, *lines: str) -> None:
    (scratch / name).write_text("\n".join(("#!/bin/sh", "set -e", *lines)) + "\n")
    (scratch / name).chmod(0o755)


def created(lab: Rig, scratch: Path, *volumes: str) -> list[ArrayLun]:
    """Create a persistent transportable set of volumes on systemOne; return its LUNs."""
    before = lab.lun_ids()
    did(
        lab,
        ONE,
        scratch,
        "reset",
        "set context persistent",
        "set option differential transportable",
        "set metadata %DISKSH_PARAM_1%/db.cab",
        "begin backup",
        *(f"add volume {volume}" for volume in volumes or ("F: alias data",)),
        "create",
        "end backup",
        "exit",
    )
    return [lun for lun in lab.inventory() if lun.id not in before]


def copy_of(lab: Rig, lun: LunId) -> ArrayLun:
    (found,) = [each for each in lab.inventory() if each.id == lun]
    return found


def assert_off(lab: Rig, host: str, lun: LunId) -> None:
    """Fail while anything of a LUN is on a host."""
    with lab.vss(host) as vss:
        assert lun not in {disk.lun_id for disk in vss.client.call(disks.list_disks)}
        assert lun not in {v.luns[0].lun_id for v in vss.client.call(disks.list_volumes)}
    assert list(lab.path(host, f"{GLOBALROOT}/Device").iterdir()) == []
    eventually(lambda: not [b for b in loop.bound_loops() if lun in b.backing_file])


def test_a_set_is_created_with_an_exec_and_copied_to_tape_on_another_host(
    lab: Rig, scratch: Path
) -> None:
    frozen = {letter: digest(lab.path(ONE, f"/mnt/{letter}/data")) for letter in "FG"}
    changed = lab.path(ONE, "/mnt/F/data/d0/f0")
    before = changed.read_bytes()
    program(
        scratch, "drive.cmd", 'env | grep -i "^data=\\|^VSS_SHADOW_SET=" > "$DISKSH_PARAM_1/env"'
    )
    program(
        scratch,
        "tape.cmd",
        'mkdir "$DISKSH_PARAM_1/tape"',
        'cp -a /mnt/R/data "$DISKSH_PARAM_1/tape/F"',
        'cp -a /mnt/logs/data "$DISKSH_PARAM_1/tape/G"',
    )
    try:
        said = did(
            lab,
            ONE,
            scratch,
            "set context persistent",
            "set option differential transportable",
            "set metadata %DISKSH_PARAM_1%/db.cab",
            "begin backup",
            "add volume F: alias data",
            "add volume G: alias logs",
            "create",
            "exec %DISKSH_PARAM_1%/drive.cmd",
            "end backup",
        )
        copy, set_id = (
            re.search(rf"(?im)^{name}={{(.*)}}$", (scratch / "env").read_text())
            for name in ("data", "VSS_SHADOW_SET")
        )
        assert copy is not None
        assert set_id is not None
        assert copy[1] in said
        assert set_id[1] in said
        changed.write_bytes(b"after the instant")
        lab.path(TWO, "/mnt/logs").mkdir()
        said = did(
            lab,
            TWO,
            scratch,
            *IMPORT,
            "expose %data% R:",
            "expose %logs% /mnt/logs",
            "exec %DISKSH_PARAM_1%/tape.cmd",
            "unexpose %data%",
            "unexpose %logs%",
            "delete shadows set %VSS_SHADOW_SET%",
            "exit",
        )
        assert "Number of shadow copies deleted: 2" in said
        assert {letter: digest(scratch / "tape" / letter) for letter in "FG"} == frozen
        assert [lun.set_id for lun in lab.inventory() if lun.set_id is not None] == []
    finally:
        changed.write_bytes(before)


def test_a_masked_set_is_kept_by_the_array_and_imported_again_on_a_third_host(
    lab: Rig, scratch: Path
) -> None:
    frozen = digest(lab.path(ONE, "/mnt/F/data"))
    (lun,) = created(lab, scratch)
    did(lab, TWO, scratch, *IMPORT, "expose %data% R:", "mask %VSS_SHADOW_SET%")
    assert_off(lab, TWO, lun.id)
    assert not lab.path(TWO, "/mnt/R").is_mount()
    kept = copy_of(lab, lun.id)
    assert (kept.state, kept.masked_to, kept.set_id) == (LunState.COMMITTED, (), lun.set_id)
    program(scratch, "read.cmd", 'cp -a /mnt/T/data "$DISKSH_PARAM_1/read"')
    did(
        lab,
        THREE,
        scratch,
        *IMPORT,
        "expose %data% T:",
        "exec %DISKSH_PARAM_1%/read.cmd",
        "mask %data%",
    )
    assert digest(scratch / "read") == frozen
    assert_off(lab, THREE, lun.id)
    # And where it was before, on the host that made it too.
    for host in (TWO, ONE):
        last = "mask %data%" if host == TWO else "delete shadows set %VSS_SHADOW_SET%"
        did(lab, host, scratch, *IMPORT, last)
        assert_off(lab, host, lun.id)


def test_a_set_that_is_elsewhere_is_imported_only_after_its_mask(lab: Rig, scratch: Path) -> None:
    created(lab, scratch)
    did(lab, TWO, scratch, *IMPORT)
    ran = diskshadow(lab, THREE, scratch, *IMPORT)
    assert ran.returncode == 2
    assert "VSS_E_BAD_STATE" in ran.stdout
    assert "its state is claimed" in ran.stdout
    did(lab, TWO, scratch, "load metadata %DISKSH_PARAM_1%/db.cab", "mask %VSS_SHADOW_SET%")
    did(lab, THREE, scratch, *IMPORT, "delete shadows set %VSS_SHADOW_SET%")


def test_a_file_that_is_open_in_a_masked_copy_shows_no_byte_of_it_any_more(
    lab: Rig, scratch: Path
) -> None:
    (lun,) = created(lab, scratch)
    did(lab, TWO, scratch, *IMPORT)
    (device,) = lab.path(TWO, f"{GLOBALROOT}/Device").iterdir()
    with (device / "data/d0/f0").open("rb") as held:
        did(lab, TWO, scratch, "load metadata %DISKSH_PARAM_1%/db.cab", "mask %VSS_SHADOW_SET%")
        os.posix_fadvise(held.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with pytest.raises(OSError):  # noqa: PT011  (which one is the file system's choice)
            os.read(held.fileno(), 1)
        did(lab, THREE, scratch, *IMPORT, "delete shadows set %VSS_SHADOW_SET%")
    assert lun.id not in lab.lun_ids()


@contextmanager
def in_use(lab: Rig, host: str, lun: LunId) -> Iterator[None]:
    """Have a LUN bound on a host by somebody whom VSS does not know."""
    socket = RUN / lab.name / "hosts" / host / "array.sock"
    with rpc.connect(socket, decode_error=decode_error) as array:
        number = array.call(api.reserve_device)
        _, backing = array.call_with_descriptor(api.attach, lun, View.LUN, False)
    device = loop.open_device(number)
    try:
        loop.configure(device, backing, block_size=4096, flags=loop.LoopFlag.AUTOCLEAR)
        yield
    finally:
        os.close(backing)
        os.close(device)


def test_a_mask_that_the_array_refuses_leaves_device_object_and_exposure_as_they_were(
    lab: Rig, scratch: Path
) -> None:
    frozen = digest(lab.path(ONE, "/mnt/F/data"))
    (lun,) = created(lab, scratch)
    did(lab, TWO, scratch, *IMPORT, "expose %data% R:")
    (device,) = lab.path(TWO, f"{GLOBALROOT}/Device").iterdir()
    masking = ("load metadata %DISKSH_PARAM_1%/db.cab", "mask %VSS_SHADOW_SET%")
    with in_use(lab, TWO, lun.id):
        ran = diskshadow(lab, TWO, scratch, *masking)
        assert ran.returncode == 2
        assert "is in use" in ran.stdout
        assert "the set stays on this host as it was" in ran.stdout
        assert copy_of(lab, lun.id).state is LunState.CLAIMED
        assert digest(device / "data") == frozen
        assert digest(lab.path(TWO, "/mnt/R/data")) == frozen
        said = did(lab, TWO, scratch, "list shadows all")
        assert f"Device/{device.name}" in said
        assert "Exposed locally as: R:\\" in said, said
    did(lab, TWO, scratch, *masking)
    assert_off(lab, TWO, lun.id)
    did(lab, TWO, scratch, *IMPORT, "delete shadows set %VSS_SHADOW_SET%")


def test_break_writable_leaves_volumes_that_take_writes(lab: Rig, scratch: Path) -> None:
    frozen = digest(lab.path(ONE, "/mnt/F/data"))
    (lun,) = created(lab, scratch)
    did(lab, TWO, scratch, *IMPORT, "break writable %VSS_SHADOW_SET%")
    assert list(lab.path(TWO, f"{GLOBALROOT}/Device").iterdir()) == []
    assert "No shadow copies found" in did(lab, TWO, scratch, "list shadows all")
    with lab.vss(TWO) as vss:
        (volume,) = vss.client.call(disks.list_volumes)
        assert volume.flags == 0
        vss.client.call(disks.add_access_path, volume.name, "R:\\")
        try:
            assert digest(lab.path(TWO, "/mnt/R/data")) == frozen
            lab.run(TWO, "sh", "-c", "echo new > /mnt/R/data/new && sync /mnt/R/data/new")
        finally:
            vss.client.call(disks.remove_access_path, "R:\\")
            vss.client.call(disks.mask, lun.id)
    assert copy_of(lab, lun.id).state is LunState.INDEPENDENT
    with lab.lab.array() as array:
        array.call(api.delete_lun, lun.id)


@pytest.mark.parametrize(
    ("lines", "status", "text"),
    [
        (("frobnicate",), 1, 'The command "frobnicate" is not known.'),
        (("expose %nothing% R:",), 2, "%nothing% is not set"),
        (("mask %VSS_SHADOW_SET%",), 2, "%VSS_SHADOW_SET% is not set"),
        (("import",), 2, "LOAD METADATA"),
        (("mask {11111111-2222-3333-4444-555555555555}",), 2, "There is no shadow copy set"),
        (("exec no-such.cmd",), 1, "The script file name is not valid."),
    ],
)
def test_what_is_wrong_in_a_script_ends_it_there(
    lab: Rig, scratch: Path, lines: tuple[str, ...], status: int, text: str
) -> None:
    ran = diskshadow(lab, TWO, scratch, *lines, "list shadows all")
    assert ran.returncode == status
    assert text in ran.stdout
    assert "-> list shadows all" not in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr


def test_an_exec_that_fails_leaves_writers_untold_and_the_set_kept(
    lab: Rig, scratch: Path
) -> None:
    program(scratch, "fails.cmd", "exit 3")
    ran = diskshadow(
        lab,
        ONE,
        scratch,
        "set context persistent",
        "set option transportable",
        "set metadata %DISKSH_PARAM_1%/db.cab",
        "begin backup",
        "add volume G: alias data",
        "create",
        "exec %DISKSH_PARAM_1%/fails.cmd",
        "end backup",
    )
    assert ran.returncode == 2
    assert "exit status 3" in ran.stdout
    assert "writers not notified BackupComplete" in ran.stdout
    did(lab, TWO, scratch, *IMPORT, "delete shadows set %VSS_SHADOW_SET%")
