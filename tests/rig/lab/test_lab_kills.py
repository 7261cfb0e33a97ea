"""SIGKILL of one part of a host while nothing is being done; the kill table has the rest."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.lab.labrig import (
    ONE,
    PERSISTENT,
    TWO,
    Rig,
    create,
    digest,
    eventually,
    import_set,
)
from vssemu import Context, ObjectType

VSSD = "vssemu.daemons.vssd"
DEVICEFS = "vssemu_fuse.devicefs"


def test_a_requester_killed_after_its_import_ends_the_nonpersistent_set(
    lab: Rig, scratch: Path
) -> None:
    before = lab.lun_ids()
    with lab.backup(ONE) as creator:
        create(creator)
        document = scratch / "set.xml"
        document.write_text(creator.save_as_xml())
        script = (
            "import vssemu, pathlib, signal\n"
            "from tests.rig.lab.labrig import import_set\n"
            "with vssemu.connect() as vss, vss.backup_components() as backup:\n"
            f"    import_set(backup, pathlib.Path({str(document)!r}).read_text())\n"
            "    print('imported', flush=True)\n"
            "    signal.pause()\n"
        )
        with lab.running(TWO, sys.executable, "-c", script, stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == b"imported\n"
            assert lab.lun_ids() != before
            lab.kill(TWO, script)
            eventually(lambda: lab.lun_ids() == before)


@pytest.mark.parametrize("victim", [VSSD, DEVICEFS])
def test_a_kill_during_a_backup_spares_a_persistent_copy(lab: Rig, victim: str) -> None:
    """tar reads through the device object meanwhile; afterwards the copy reads again."""
    big = lab.path(ONE, "/mnt/F/big")
    big.write_bytes(os.urandom(24 << 20))
    frozen = digest(lab.path(ONE, "/mnt/F"))
    with lab.backup(ONE) as creator:
        made = create(creator, context=PERSISTENT)
        document = creator.save_as_xml()
    big.unlink()
    with lab.backup(TWO) as importer:
        import_set(importer, document)
        device = importer.get_snapshot_properties(made.copy).device_object
    reader = (
        f"while tar -C {device} -cf - big | dd of=/dev/null bs=64k status=none; do echo x; done"
    )
    with lab.running(TWO, "bash", "-o", "pipefail", "-c", reader, stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        assert tar.stdout.readline()
        lab.kill(TWO, victim)
        eventually(lambda: lab.pids(TWO, victim))
        name = VSSD if victim == VSSD else DEVICEFS
        lab.wait_service(TWO, name.rpartition(".")[2])
    eventually(lambda: readable(lab, device, frozen), seconds=20)
    with lab.backup(TWO) as administrator:
        administrator.initialize_for_backup()
        administrator.set_context(Context.ALL)
        assert [p.snapshot_id for p in administrator.query()] == [made.copy]
        assert administrator.delete_snapshots(made.copy, ObjectType.SNAPSHOT, False).deleted == 1


def readable(rig: Rig, device: str, frozen: dict[str, str]) -> bool:
    try:
        return digest(rig.path(TWO, device)) == frozen
    except OSError:
        return False


def test_a_service_killed_on_the_importer_takes_a_nonpersistent_set_with_it(lab: Rig) -> None:
    before = lab.lun_ids()
    with lab.backup(ONE) as creator:
        create(creator)
        with lab.vss(TWO) as vss:
            importer = vss.backup_components()
            import_set(importer, creator.save_as_xml())
            lab.restart_vssd(TWO)
        eventually(lambda: lab.lun_ids() == before)
        names = lab.path(TWO, "/run/vssemu/GLOBALROOT/Device")
        eventually(lambda: not list(names.iterdir()))


def test_a_service_killed_on_the_creator_takes_its_nonpersistent_set_with_it(lab: Rig) -> None:
    before = lab.lun_ids()
    with lab.vss(ONE) as vss:
        backup = vss.backup_components()
        create(backup)
        assert lab.lun_ids() != before
        lab.restart_vssd(ONE)
    eventually(lambda: lab.lun_ids() == before)


def test_a_restarted_service_removes_nodes_of_devices_that_are_not_its_own(lab: Rig) -> None:
    """A service that was killed left them; the devices are free, or another host's, by now."""
    (theirs, *_) = [v for v in lab.path(ONE, "/dev").iterdir() if v.name[4:].isdigit()]
    for number in (4090, int(theirs.name[4:])):
        node = lab.path(TWO, f"/dev/loop{number}")
        os.mknod(node, 0o600 | stat.S_IFBLK, os.makedev(7, number))
    lab.restart_vssd(TWO)
    nodes = [path.name for path in lab.path(TWO, "/dev").iterdir() if path.is_block_device()]
    assert nodes == []
