"""SIGKILL of one part of a host, at a known point of a creation or an import.

Where the part stops is told by the faulty provider, so that each kill comes at the same
point in every run. After each one: no volume is frozen, and the next creation works.
"""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig.lab.conftest import Labs
from tests.rig.lab.faultrig import FAULTY_ID, faults_of, register, stopped_at
from tests.rig.lab.labrig import (
    ONE,
    PERSISTENT,
    TWO,
    VSSEMU,
    Rig,
    create,
    digest,
    eventually,
    fill,
    import_set,
    prepared,
)
from tests.rig.lab.witness import Witness, attending
from vssemu import Async, BackupComponents, Context, Hresult, ObjectType
from vssemu.api import disks
from vssemu.rpc.errors import RpcBroken, RpcClosed
from vssemu.vss.errors import VssError
from vssemu.vss.host import GptFlags

VSSD = "vssemu.daemons.vssd"
PROVIDER = "vssemu.daemons.provider_runner"
DEVICEFS = "vssemu_fuse.devicefs"
GUARD = "vssemu.daemons.holdguard"
ARRAYD = "vssemu.daemons.arrayd"

BEFORE_THE_HOLD = "end_prepare_snapshots"
APPLICATIONS_FROZEN = "pre_commit_snapshots"
IN_THE_HOLD = "commit_snapshots"
COPIES_TAKEN = "commit_snapshots.after"
APPLICATIONS_STILL_FROZEN = "post_commit_snapshots"
AFTER_THE_THAW = "get_target_luns"
AT_THE_END = "post_final_commit_snapshots.after"
POINTS = (
    BEFORE_THE_HOLD,
    APPLICATIONS_FROZEN,
    IN_THE_HOLD,
    COPIES_TAKEN,
    APPLICATIONS_STILL_FROZEN,
    AFTER_THE_THAW,
    AT_THE_END,
)


@pytest.fixture(scope="module")
def faulty_lab(labs: Labs) -> Iterator[Rig]:
    """A lab whose hosts have the faulty provider."""
    rig = labs.new()
    try:
        rig.up("F:=96M")
        for host in (ONE, TWO):
            with rig.vss(host) as vss:
                register(vss.client)
        fill(rig.path(ONE, "/mnt/F/data"), files=8)
        yield rig
    finally:
        rig.down()


@pytest.fixture
def lab(faulty_lab: Rig) -> Iterator[Rig]:
    """After the test: nothing is frozen, marked or left, and the next creation works."""
    rig = faulty_lab
    before = rig.lun_ids()
    yield rig
    rig.assert_writable(ONE)
    rig.wait_service(ONE)
    with rig.backup(ONE) as backup:
        create(backup, provider=FAULTY_ID)
        rig.assert_writable(ONE)
    (volume,) = [v for v in rig.volumes(ONE) if "F:\\" in v.letters]
    assert GptFlags(volume.flags) == GptFlags.NONE
    eventually(lambda: rig.lun_ids() == before)


@contextmanager
def doing(rig: Rig, point: str) -> Iterator[tuple[BackupComponents, Async]]:
    """Have a creation under way on systemOne that waits at a point."""
    with rig.vss(ONE) as vss, stopped_at(rig, point) as wait_reached:
        backup = vss.backup_components()
        prepared(backup, provider=FAULTY_ID)
        operation = backup.do_snapshot_set.begin()
        wait_reached()
        yield backup, operation


@pytest.mark.parametrize("point", POINTS)
def test_the_service_killed_in_a_creation_leaves_nothing_of_it(lab: Rig, point: str) -> None:
    before = lab.lun_ids()
    writer = Witness()
    with attending(lab, ONE, writer):
        with doing(lab, point) as (_, operation):
            lab.kill(ONE, VSSD)
            lab.assert_writable(ONE)
            with pytest.raises((RpcBroken, RpcClosed)):
                operation.wait()
        eventually(lambda: lab.pids(ONE, VSSD))
        lab.wait_service(ONE)
        if point in {APPLICATIONS_FROZEN, IN_THE_HOLD, COPIES_TAKEN, APPLICATIONS_STILL_FROZEN}:
            eventually(lambda: "abort" in writer.events)
    assert lab.lun_ids() == before


@pytest.mark.parametrize("point", POINTS)
def test_the_provider_killed_in_a_creation_fails_it_with_a_documented_code(
    lab: Rig, point: str
) -> None:
    before = lab.lun_ids()
    writer = Witness()
    with attending(lab, ONE, writer):
        with doing(lab, point) as (backup, operation):
            lab.kill(ONE, PROVIDER)
            lab.assert_writable(ONE)
            with pytest.raises(VssError) as failed:
                operation.wait(30)
            assert failed.value.hresult in {
                Hresult.VSS_E_UNEXPECTED_PROVIDER_ERROR,
                Hresult.VSS_E_PROVIDER_VETO,
            }
            backup.abort_backup()
        eventually(lambda: lab.lun_ids() == before)
        if point != BEFORE_THE_HOLD:
            assert "abort" in writer.events


@pytest.mark.parametrize("point", [BEFORE_THE_HOLD, IN_THE_HOLD, AFTER_THE_THAW])
def test_the_requester_killed_in_a_creation_ends_its_set(lab: Rig, point: str) -> None:
    before = lab.lun_ids()
    script = (
        "import vssemu\n"
        "from tests.rig.lab.labrig import create\n"
        "from tests.rig.lab.faultrig import FAULTY_ID\n"
        "with vssemu.connect() as vss, vss.backup_components() as backup:\n"
        "    create(backup, provider=FAULTY_ID)\n"
    )
    with stopped_at(lab, point) as wait_reached, lab.running(ONE, sys.executable, "-c", script):
        wait_reached()
        lab.kill(ONE, script)
        lab.assert_writable(ONE)
    eventually(lambda: lab.lun_ids() == before)


def test_the_watchdog_killed_in_the_hold_ends_the_hold_at_once(lab: Rig) -> None:
    with doing(lab, IN_THE_HOLD) as (backup, operation):
        guard = guard_of(lab, ONE)
        os.kill(guard, signal.SIGKILL)
        lab.assert_writable(ONE, seconds=5)
        with pytest.raises(VssError) as failed:
            operation.wait(30)
        assert failed.value.hresult == Hresult.VSS_E_HOLD_WRITES_TIMEOUT
        backup.abort_backup()
    eventually(lambda: guard_of(lab, ONE) not in {0, guard})


def guard_of(rig: Rig, host: str) -> int:
    """Return the pid of a host's watchdog, 0 when it is between two lives."""
    for pid in rig.pids(None, GUARD):
        if f"/hosts/{host}/" in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    return 0


def test_the_array_killed_in_the_hold_fails_the_creation(lab: Rig) -> None:
    with doing(lab, IN_THE_HOLD) as (backup, operation):
        lab.kill(None, ARRAYD)
        faults_of(lab).release("provider", IN_THE_HOLD)
        with pytest.raises(VssError):
            operation.wait(60)
        lab.assert_writable(ONE)
        backup.abort_backup()
    eventually(lambda: lab.pids(None, ARRAYD))
    eventually(lab.lab.paths.array_socket.exists)


def test_a_host_switched_off_in_the_hold_starts_again_and_works(lab: Rig) -> None:
    before = lab.lun_ids()
    with doing(lab, IN_THE_HOLD):
        command = [VSSEMU, "lab", "poweroff", "--name", lab.name, ONE]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        with pytest.raises(VssError):
            lab.path(ONE, "/")
    command = [VSSEMU, "lab", "start", "--name", lab.name, ONE]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    assert lab.run(ONE, "cat", "/proc/sys/kernel/hostname") == f"{ONE}\n"
    eventually(lambda: lab.path(ONE, "/mnt/F/data").is_dir())
    eventually(lambda: lab.lun_ids() == before)


@pytest.mark.parametrize("point", ["locate_luns", "locate_luns.after", "fill_in_lun_info"])
@pytest.mark.parametrize("victim", [VSSD, PROVIDER])
def test_a_kill_in_an_import_leaves_nothing_half_done(lab: Rig, point: str, victim: str) -> None:
    """What came stays listed for the clean-up verb, or the import ended well all the same."""
    with lab.backup(ONE) as creator:
        made = create(creator, provider=FAULTY_ID)
        document = creator.save_as_xml()
        with lab.vss(TWO) as vss:
            importer = vss.backup_components()
            with stopped_at(lab, point, TWO) as wait_reached:
                importer.initialize_for_backup(document)
                importer.set_context(Context.ALL)
                operation = importer.import_snapshots.begin()
                wait_reached()
                lab.kill(TWO, victim)
                failure: Exception | None = None
                try:
                    operation.wait(60)
                except (VssError, RpcBroken, RpcClosed) as error:
                    failure = error
        if victim == VSSD:
            assert isinstance(failure, RpcBroken | RpcClosed)
            eventually(lambda: lab.pids(TWO, VSSD))
        lab.wait_service(TWO)
        if failure is not None:
            with lab.backup(TWO) as other:
                other.initialize_for_backup()
                other.set_context(Context.ALL)
                assert other.query() == []
            clean_up(lab, str(made.set_id))
        devices = lab.path(TWO, "/run/vssemu/GLOBALROOT/Device")
        eventually(lambda: not list(devices.iterdir()))
    with lab.backup(ONE) as creator, lab.backup(TWO) as importer:
        create(creator, provider=FAULTY_ID)
        assert import_set(importer, creator.save_as_xml()) == Hresult.VSS_S_ASYNC_FINISHED


def clean_up(rig: Rig, set_id: str) -> None:
    """Run the clean-up verb for what is listed as failed on systemTwo, and see it work."""
    with rig.vss(TWO) as vss:
        listed = vss.client.call(disks.list_disks)
        failed = [disk for disk in listed if disk.status.value == "import-failed"]
        if failed:
            rig.run(TWO, "vssemu", "vds", "clean-up", set_id)
        assert not [
            disk
            for disk in vss.client.call(disks.list_disks)
            if disk.status.value == "import-failed"
        ]


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
