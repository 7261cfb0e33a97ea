"""Labs of the cow engine, beside labs of the usual one: the main job, and lunfs killed in it.

`VSSEMU_ENGINE=cow` has every other test of this directory run on the engine as well.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.rig.lab.conftest import Labs
from tests.rig.lab.killrig import Requester
from tests.rig.lab.labrig import (
    HOSTS,
    LUNFS,
    ONE,
    PERSISTENT,
    TWO,
    VSSEMU,
    Rig,
    assert_nothing_left,
    create,
    digest,
    eventually,
    fill,
    import_set,
    sigkill_everything,
)
from tests.rig.lab.requesting import outcome
from tests.rig.lab.test_lab_flow import (  # noqa: F401 - they run here, on this module's lab
    test_a_broken_set_is_plain_disks_that_can_be_written_and_given_to_a_third_host,
    test_a_set_that_is_not_transportable_comes_up_on_its_creator,
    test_a_set_travels_is_read_elsewhere_deleted_there_and_only_then_completed,
    test_two_volumes_are_copied_at_one_instant_and_travel_together,
)
from vssemu import Context, ObjectType
from vssemu.lab.config import LabConfig
from vssemu.linux import processes
from vssemu.vss.errors import BadState

WRITES = """
import os, sys
number = 0
while True:
    number += 1
    with open(f'/mnt/F/load-{number % 20}', 'wb') as file:
        file.write(os.urandom(50000))
        os.fsync(file.fileno())
    print(number, flush=True)
"""


@pytest.fixture(scope="module")
def shared_lab(labs: Labs) -> Iterator[Rig]:
    """One lab of the cow engine for all tests here, as that of the other tests."""
    rig = labs.new(engine="cow")
    try:
        rig.up("F:=128M", "G:=64M", hosts=HOSTS)
        fill(rig.path(ONE, "/mnt/F/data"))
        fill(rig.path(ONE, "/mnt/G/data"), files=5)
        yield rig
    finally:
        rig.down()


def printed(*argv: str) -> str:
    """Run a command that must succeed; return what it printed."""
    return subprocess.run([VSSEMU, *argv], check=True, capture_output=True, text=True).stdout


def test_a_lab_tells_its_engine_and_its_shards(lab: Rig) -> None:
    name = "--name", lab.name
    status = json.loads(printed("lab", "status", "--json", *name))
    pids = {shard["name"]: shard["pid"] for shard in status["shards"]}
    assert status["engine"] == "cow"
    assert sorted(pids.values()) == sorted(lab.pids(None, LUNFS))
    text = printed("lab", "status", *name)
    assert f"lab {lab.name}: running, engine cow\n" in text
    logs = printed("lab", "logs", *name)
    for shard, pid in pids.items():
        assert f"{shard} pid {pid}" in text
        assert f"/logs/{shard}.log <==" in logs
    luns = json.loads(printed("array", "lun", "list", "--json", *name))
    assert {lun["engine"] for lun in luns} == {"cow"}
    with pytest.raises(BadState, match="engine is cow, not reflink"):
        lab.lab.up(LabConfig(name=lab.name, hosts=HOSTS))


def test_shards_that_are_killed_while_copies_are_made_are_missed_by_nobody(lab: Rig) -> None:
    """Its writers neither fail nor lose what they wrote; each copy has the instant's bytes."""
    frozen = digest(lab.path(ONE, "/mnt/F/data"))
    socket = lab.path(ONE, "/run/vssemu/vss.sock")
    with lab.running(ONE, "python3", "-c", WRITES, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(2):
            assert writer.stdout.readline()
            requester = Requester(socket, "create", "0", killable=False)
            lab.restart_shards()
            assert requester.heard() == "ok"
        assert writer.poll() is None
    assert outcome("create", socket, "0") == "ok"
    assert digest(lab.path(ONE, "/mnt/F/data")) == frozen
    lab.run(ONE, "sh", "-c", "rm /mnt/F/load-*")


def test_shards_that_are_killed_while_a_copy_is_read_are_missed_by_nobody(lab: Rig) -> None:
    """tar reads on through the device object, and the copy has the bytes of its instant."""
    big = lab.path(ONE, "/mnt/F/big")
    big.write_bytes(os.urandom(24 << 20))
    frozen = digest(lab.path(ONE, "/mnt/F"))
    with lab.backup(ONE) as creator:
        made = create(creator, context=PERSISTENT)
        document = creator.save_as_xml()
    big.write_bytes(os.urandom(24 << 20))
    os.sync()
    with lab.backup(TWO) as importer:
        import_set(importer, document)
        device = importer.get_snapshot_properties(made.copy).device_object
    reader = (
        f"while tar -C {device} -cf - big | dd of=/dev/null bs=64k status=none;"
        " do echo x; done; echo failed"
    )
    with lab.running(TWO, "bash", "-o", "pipefail", "-c", reader, stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        subprocess.run(["sh", "-c", "echo 1 > /proc/sys/vm/drop_caches"], check=True)
        assert tar.stdout.readline() == b"x\n"
        lab.restart_shards()
        assert tar.stdout.readline() == b"x\n"
    assert digest(lab.path(TWO, device)) == frozen
    with lab.backup(TWO) as administrator:
        administrator.initialize_for_backup()
        administrator.set_context(Context.ALL)
        assert administrator.delete_snapshots(made.copy, ObjectType.SNAPSHOT, False).deleted == 1
    big.unlink()


# --- labs that end, whatever state they are in


def supervisor_of(rig: Rig) -> int:
    identity = rig.lab.known.supervisor()
    assert identity is not None
    return identity.pid


def stop_shards(rig: Rig) -> None:
    for pid in rig.pids(None, LUNFS):
        os.kill(pid, signal.SIGSTOP)


def kill_supervisor_then_shards(rig: Rig) -> None:
    shards = [processes.identity_of(pid) for pid in rig.pids(None, LUNFS)]
    os.kill(supervisor_of(rig), signal.SIGKILL)
    for shard in shards:
        processes.kill(shard, signal.SIGKILL)


def kill_shards_then_supervisor(rig: Rig) -> None:
    """The supervisor dies before it starts them again."""
    os.kill(supervisor_of(rig), signal.SIGSTOP)
    for pid in rig.pids(None, LUNFS):
        os.kill(pid, signal.SIGKILL)
    os.kill(supervisor_of(rig), signal.SIGKILL)


def test_a_host_is_switched_off_and_its_lab_ends_in_order_while_shards_hang(
    own_lab: Callable[..., Rig],
) -> None:
    """Under writes; what was written before is there when the host is back."""
    rig = own_lab("F:=64M", engine="cow", hosts=(ONE,))
    fill(rig.path(ONE, "/mnt/F/data"), files=5)
    frozen = digest(rig.path(ONE, "/mnt/F/data"))
    with rig.running(ONE, "python3", "-c", WRITES, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline()
        # The kernel has to ask for the inodes of their files anew.
        rig.restart_shards()
        assert writer.stdout.readline()
        stop_shards(rig)
        printed("lab", "poweroff", "--name", rig.name, ONE)
    printed("lab", "start", "--name", rig.name, ONE)
    assert digest(rig.path(ONE, "/mnt/F/data")) == frozen
    with rig.running(ONE, "python3", "-c", WRITES, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline()
        rig.seen_luns.update(rig.lun_ids())
        stop_shards(rig)
        printed("lab", "down", "--name", rig.name)
    assert_nothing_left(rig)


@pytest.mark.parametrize("end", [stop_shards, kill_shards_then_supervisor])
def test_a_lab_is_taken_away_whatever_of_it_is_dead_or_hangs(
    own_lab: Callable[..., Rig], end: Callable[[Rig], None]
) -> None:
    take_away_after(end, own_lab)


def take_away_after(end: Callable[[Rig], None], own_lab: Callable[..., Rig]) -> None:
    """Under writes: whoever waits for lunfs could not be killed."""
    rig = own_lab("F:=64M", engine="cow", hosts=(ONE,))
    rig.seen_luns.update(rig.lun_ids())
    with rig.running(ONE, "python3", "-c", WRITES, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline()
        end(rig)
        done = subprocess.run(
            [VSSEMU, "lab", "down", "--force", "--name", rig.name],
            timeout=60,
            check=False,
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert_nothing_left(rig)


def test_a_pool_is_of_one_engine_and_comes_back_with_it(
    own_lab: Callable[..., Rig], labs: Labs
) -> None:
    rig = own_lab("F:=64M", engine="cow", hosts=(ONE,), pool=True)
    fill(rig.path(ONE, "/mnt/F/data"), files=5)
    frozen = digest(rig.path(ONE, "/mnt/F/data"))
    with rig.backup(ONE) as creator:
        made = create(creator, context=Context.APP_ROLLBACK)
    rig.path(ONE, "/mnt/F/data/d0/f0").write_bytes(b"written since")
    sigkill_everything(rig)
    eventually(lambda: not rig.lab.status().running)
    rig.up("F:=64M", hosts=(ONE,))
    with rig.backup(ONE) as administrator:
        administrator.initialize_for_backup()
        administrator.set_context(Context.ALL)
        (copy,) = administrator.query()
        assert copy.snapshot_id == made.copy
    eventually(partial(Path.is_dir, rig.path(ONE, copy.device_object) / "data"))
    assert digest(rig.path(ONE, copy.device_object) / "data") == frozen
    rig.down()
    other = LabConfig(name=rig.name, pool=str(rig.pool), engine="reflink", hosts=(ONE,))
    with pytest.raises(BadState, match=r"is of the engine cow, not reflink.*--engine cow"):
        rig.lab.up(other)
    assert_nothing_left(rig)
