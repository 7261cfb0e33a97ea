"""Copies that go: their names, what is open of them, and their numbers' next owners."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from tests.rig.fuse.rig import Daemon, RawDevice, Rig, run, wait_until
from tests.rig.fuse.test_devicefs_surfacing import is_waiting_in_look_up, start_stats

VIEWS = ("Device", "RawDevice", "Image", "Properties")


def test_the_names_of_a_removed_copy_are_gone_at_once(rig: Rig, daemon: Daemon) -> None:
    for view in VIEWS:
        os.stat(rig.path(view))
    daemon.publish()
    for view in VIEWS:
        with pytest.raises(FileNotFoundError):
            os.stat(rig.path(view))
        assert os.listdir(rig.mountpoint / view) == []
    with pytest.raises(FileNotFoundError):
        os.stat(rig.path("Device") / "hello.txt")


def test_the_service_can_unmount_the_tree_of_a_removed_copy(rig: Rig, daemon: Daemon) -> None:
    os.stat(rig.path("Device"))
    assert rig.mounts("ext4")
    daemon.publish()
    assert not rig.mounts("ext4")


def test_open_files_of_a_removed_copy_are_stale_even_what_was_cached(
    rig: Rig, daemon: Daemon
) -> None:
    with rig.path("Image").open("rb") as image, rig.path("Properties").open("rb") as text:
        assert len(os.pread(image.fileno(), 1 << 20, 0)) == 1 << 20
        daemon.publish()
        for act in (
            lambda: os.pread(image.fileno(), 4096, 0),
            lambda: os.pread(text.fileno(), 1, 0),
            lambda: os.fstat(image.fileno()),
        ):
            with pytest.raises(OSError, match="Stale") as caught:
                act()
            assert caught.value.errno == errno.ESTALE


def test_a_mapping_of_a_removed_copy_gets_no_further_pages(rig: Rig, daemon: Daemon) -> None:
    program = (
        "import mmap, sys\n"
        "file = open(sys.argv[1], 'rb')\n"
        "view = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)\n"
        "view[5000]; print('read', flush=True); input(); view[60 << 20]; print('read again')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, rig.path("Image")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "read\n"
        daemon.publish()
        out, _ = reader.communicate("go\n", timeout=20)
    assert (out, reader.returncode) == ("", -signal.SIGBUS)


def test_devicefs_lets_the_raw_device_go(rig: Rig, raw: RawDevice, daemon: Daemon) -> None:
    with rig.path("Image").open("rb") as image:
        image.read(1)
        held = f"/proc/{daemon.process.pid}/fd"
        assert str(raw.node) in {os.readlink(f"{held}/{fd}") for fd in os.listdir(held)}
        daemon.publish()
        assert str(raw.node) not in {os.readlink(f"{held}/{fd}") for fd in os.listdir(held)}


def test_the_raw_device_outlives_a_service_that_had_it_open(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    """A loop device lives while somebody has it open; the next service finds it bound."""
    raw.let_go()
    assert raw.is_bound()
    assert run("dd", f"if={rig.path('Image')}", "of=/dev/null", "bs=1M").returncode == 0
    assert raw.is_bound()
    daemon.publish()
    wait_until(lambda: not raw.is_bound(), "the device is free")


def test_walkers_waiting_for_a_removed_copy_are_let_go(rig: Rig, daemon: Daemon) -> None:
    daemon.tell(hold=1)
    stats = start_stats(rig, 5)
    wait_until(lambda: all(map(is_waiting_in_look_up, stats)), "all walkers wait")
    daemon.publish()
    for each in stats:
        assert "No such file" in each.communicate(timeout=20)[1]


@pytest.mark.parametrize("at_once", [True, False], ids=["in one list", "in the next list"])
@pytest.mark.parametrize("was_mounted", [True, False], ids=["mounted", "bare"])
def test_a_number_used_again_is_another_copy(
    rig: Rig, raw: RawDevice, daemon: Daemon, at_once: bool, was_mounted: bool
) -> None:
    before = {view: os.lstat(rig.path(view)).st_ino for view in VIEWS[not was_mounted :]}
    (rig.tree / "hello.txt").write_text("the next copy\n")
    other = rig.raw_device("other", size=32 << 20)
    with rig.path("Image").open("rb") as image:
        if not at_once:
            daemon.publish()
        daemon.publish(other.facts(1))
        with pytest.raises(OSError, match="Stale"):
            image.read(1)
    assert (rig.path("Device") / "hello.txt").read_text() == "the next copy\n"
    assert os.stat(rig.path("Image")).st_size == 32 << 20
    assert os.stat(rig.path("RawDevice")).st_rdev == os.stat(other.node).st_rdev
    for view in ("RawDevice", "Image", "Properties"):
        assert os.stat(rig.path(view)).st_ino != before[view]
    assert len(rig.mounts("ext4")) == 1


def test_other_copies_do_not_notice(rig: Rig, raw: RawDevice, daemon: Daemon) -> None:
    other = rig.raw_device("other")
    daemon.publish(raw.facts(1), other.facts(2))
    with rig.path("Image", 2).open("rb") as image:
        (rig.path("Device", 2) / "hello.txt").read_text()
        daemon.publish(other.facts(2))
        assert image.read(4096) == other.image.read_bytes()[:4096]
    assert [each.mount_point for each in rig.mounts("ext4")] == [rig.path("Device", 2)]
