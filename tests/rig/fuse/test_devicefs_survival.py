"""devicefs killed below a starter that keeps its descriptors: nobody notices."""

import errno
import json
import os
import random
import signal
import sys
import time

import pytest

from tests.rig.fuse.rig import PATIENCE, KeptDaemon, RawDevice, Rig, run, wait_until
from tests.rig.fuse.test_devicefs_surfacing import is_waiting_in_look_up, start_stats
from vssemu.linux import fdstore, fuse
from vssemu_fuse.devicefs import session
from vssemu_fuse.devicefs.holdings import Holdings

KILLS = 10
READER = """
import collections, errno, hashlib, json, os, sys
root = sys.argv[1]
name = "HarddiskVolumeShadowCopy1"

def walk():
    path = f"{root}/Device/{name}/folder/random.bin"
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read()).hexdigest()

def image():
    digest = hashlib.blake2b()
    with open(f"{root}/Image/{name}", "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()

def listing():
    return [sorted(os.listdir(f"{root}/{each}")) for each in sorted(os.listdir(root))]

def properties():
    with open(f"{root}/Properties/{name}", "rb", buffering=0) as file:
        return (file.read(10) + file.read()).decode()

act = globals()[sys.argv[2]]
seen = collections.Counter()
print("ready", flush=True)
os.set_blocking(0, False)
while sys.stdin.read(1) != "q":
    try:
        seen[json.dumps(act())] += 1
    except OSError as error:
        seen[str(error)] += 1
print(json.dumps(seen))
"""
ACTS = ("walk", "image", "listing", "properties")


@pytest.fixture
def kept(rig: Rig, raw: RawDevice) -> KeptDaemon:
    if not fuse.kernel_resends():
        pytest.skip("this kernel does not send requests again (6.9 does)")
    daemon = rig.kept_daemon()
    daemon.publish(raw.facts(1))
    return daemon


def test_nothing_fails_during_ten_kills(rig: Rig, raw: RawDevice, kept: KeptDaemon) -> None:
    readers = {act: rig.start(sys.executable, "-c", READER, rig.mountpoint, act) for act in ACTS}
    for each in readers.values():
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    before = rig.mounts("fuse")
    for _ in range(KILLS):
        time.sleep(random.uniform(0, 0.2))
        kept.kill()
        if random.random() < 0.7:
            kept.wait_ready()
    kept.wait_ready()
    for act, each in readers.items():
        out, complaints = each.communicate("q", timeout=PATIENCE)
        assert complaints == ""
        seen = json.loads(out)
        print(act, seen.values())
        assert len(seen) == 1, f"{act}: {seen}"
    assert rig.mounts("fuse") == before
    run("cmp", rig.path("Image"), raw.image)
    assert kept.facts()["starts"] == KILLS + 1
    assert "Traceback" not in kept.log


@pytest.mark.parametrize("is_pinned", [True, False], ids=["pinned", "not pinned"])
def test_walkers_that_wait_for_a_tree_get_it_from_the_next_one(
    rig: Rig, kept: KeptDaemon, is_pinned: bool
) -> None:
    if is_pinned:
        kept.tell(pin=1)
    kept.tell(hold=1)
    stats = start_stats(rig, 5)
    wait_until(lambda: all(map(is_waiting_in_look_up, stats)), "all walkers wait")
    kept.kill()
    kept.wait_ready()
    kept.tell(let=1)
    for each in stats:
        assert each.communicate(timeout=PATIENCE)[1] == ""
        assert each.returncode == 0
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"


def test_a_copy_is_bound_while_nobody_but_the_starter_has_it(
    rig: Rig, raw: RawDevice, kept: KeptDaemon
) -> None:
    """As when service and devicefs are killed at the same moment."""
    with rig.path("Image").open("rb", buffering=0) as image:
        start = image.read(1 << 20)
        kept.stop_service()
        raw.let_go()
        kept.kill()
        assert raw.is_bound()
        os.posix_fadvise(image.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        rest = image.readall()
    assert start + rest == raw.image.read_bytes()


def test_a_copy_removed_while_devicefs_is_away_is_stale_and_its_device_free(
    rig: Rig, raw: RawDevice, kept: KeptDaemon
) -> None:
    other = rig.raw_device("other")
    kept.publish(raw.facts(1), other.facts(2))
    before = os.stat(rig.path("Image", 2)).st_ino
    with rig.path("Image").open("rb") as image, rig.path("Properties").open("rb") as text:
        raw.let_go()
        kept.kill()
        kept.publish(other.facts(2))
        for file in (image, text):
            with pytest.raises(OSError, match="Stale"):
                os.pread(file.fileno(), 4096, 0)
    wait_until(lambda: not raw.is_bound(), "the device is free")
    assert os.listdir(rig.mountpoint / "Image") == ["HarddiskVolumeShadowCopy2"]
    assert os.stat(rig.path("Image", 2)).st_ino == before
    assert kept.facts()["kept"] == [f"device-7-{other.minor}", "fuse"]


def test_settled_means_that_the_starter_has_closed_the_device(
    rig: Rig, raw: RawDevice, kept: KeptDaemon
) -> None:
    raw.let_go()
    kept.process.send_signal(signal.SIGSTOP)
    try:
        kept.revision += 1
        kept.tell(list=[], revision=kept.revision)
        kept.wait_log("names removed")
        time.sleep(0.2)
        assert kept.count(settled=kept.revision) == 0
    finally:
        kept.process.send_signal(signal.SIGCONT)
    kept.wait_event(settled=kept.revision)
    assert not raw.is_bound()


def test_the_next_owner_of_a_number_is_another_copy_after_a_kill_too(
    rig: Rig, raw: RawDevice, kept: KeptDaemon
) -> None:
    other = rig.raw_device("other")
    seen = [os.stat(rig.path("Image")).st_ino]
    for device in (other, raw):
        kept.publish()
        kept.kill()
        kept.publish(device.facts(1))
        seen.append(os.stat(rig.path("Image")).st_ino)
        run("cmp", rig.path("Image"), device.image)
    assert len(set(seen)) == 3


def test_a_text_reads_on_unless_it_changed_meanwhile(
    rig: Rig, raw: RawDevice, kept: KeptDaemon
) -> None:
    with rig.path("Properties").open("rb", buffering=0) as text:
        start = text.read(10)
        kept.kill()
        assert json.loads(start + text.read())["m_SnapshotId"] == "id-1"
        text.seek(0)
        kept.kill()
        kept.publish(raw.facts(1, m_SnapshotId="another"))
        with pytest.raises(OSError, match="Stale"):
            text.read()
    assert json.loads(rig.path("Properties").read_text())["m_SnapshotId"] == "another"


def test_nothing_is_kept_of_one_that_was_stopped(rig: Rig, kept: KeptDaemon) -> None:
    os.stat(rig.path("Device"))
    kept.tell_supervisor(op="stop")
    wait_until(lambda: kept.facts()["pid"] == 0, "devicefs has ended")
    assert not rig.mounts()
    assert kept.facts()["kept"] == []
    assert not list(rig.directory.glob("*.state"))


def test_who_waits_for_one_that_does_not_come_back_gets_an_error(
    rig: Rig, kept: KeptDaemon
) -> None:
    kept.tell(hold=1)
    stats = start_stats(rig, 3)
    wait_until(lambda: all(map(is_waiting_in_look_up, stats)), "all walkers wait")
    kept.kill()
    kept.tell_supervisor(op="stop")
    for each in stats:
        each.communicate(timeout=PATIENCE)
        assert each.returncode != 0


def test_everything_ends_with_the_starter(rig: Rig, raw: RawDevice, kept: KeptDaemon) -> None:
    """As at a power-off, where PID 1 is killed and takes devicefs with it."""
    with rig.path("Image").open("rb", buffering=0) as image:
        kept.tell(hold=1)
        stats = start_stats(rig, 3)
        wait_until(lambda: all(map(is_waiting_in_look_up, stats)), "all walkers wait")
        devicefs = kept.facts()["pid"]
        kept.process.kill()
        os.kill(devicefs, signal.SIGKILL)
        for each in stats:
            each.communicate(timeout=PATIENCE)
            assert each.returncode != 0
        with pytest.raises(OSError, match=r".") as caught:
            os.pread(image.fileno(), 4096, 1 << 20)
        assert caught.value.errno in {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO}
    raw.let_go()
    assert not rig.mounts("ext4")
    wait_until(lambda: not raw.is_bound(), "the device is free")


@pytest.mark.parametrize("lost", ["unmounted", "record", "library"])
def test_what_cannot_go_on_begins_anew(rig: Rig, kept: KeptDaemon, lost: str) -> None:
    os.stat(rig.path("Device"))
    starts = kept.facts()["starts"]
    record = rig.directory / "GLOBALROOT.state"
    if lost == "unmounted":
        run("umount", "--lazy", rig.mountpoint)
    elif lost == "record":
        record.write_text("{}")
        kept.kill()
    else:
        # As if the FUSE library had been replaced by one that asks the kernel for other things.
        known = json.loads(record.read_text())
        record.write_text(json.dumps({**known, "reply": known["init"]}))
        kept.kill()
    wait_until(lambda: kept.facts()["starts"] > starts, "devicefs is started again")
    kept.wait_ready()
    assert ("not the one of the last start" in kept.log) is (lost == "library")
    (mounted,) = rig.mounts("fuse")
    assert kept.log.count('"took_over": false') == 2
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"
    kept.kill()
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"
    assert rig.mounts("fuse") == [mounted]


def test_nothing_is_kept_where_the_kernel_does_not_send_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuse, "offers_resend", lambda _init: False)
    store = rig.directory / "store"
    with fdstore.listen(store) as starter:
        link = session.connect(fdstore.Store(str(store)), {}, rig.mountpoint)
        try:
            Holdings(link, fdstore.Store(str(store)), {}, rig.mountpoint).begin(b"a reply")
            assert fdstore.receive(starter) is None
            assert not list(rig.directory.glob("*.state"))
        finally:
            assert link.mounted is not None
            os.close(link.mounted)
            os.close(link.connection)
