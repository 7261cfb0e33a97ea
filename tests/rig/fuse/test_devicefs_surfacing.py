"""The Device view: when trees are mounted, and what happens when they cannot be."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.rig.fuse.rig import Daemon, RawDevice, Rig, run, wait_until
from vssemu.linux import mount


def start_stats(rig: Rig, count: int) -> list[subprocess.Popen[str]]:
    return [rig.start("stat", "-c", "%d %i", rig.path("Device")) for _ in range(count)]


def is_waiting_in_look_up(process: subprocess.Popen[str]) -> bool:
    return "fuse" in Path(f"/proc/{process.pid}/wchan").read_text() or (
        "request_wait_answer" in Path(f"/proc/{process.pid}/stack").read_text()
    )


def test_fifty_first_look_ups_at_once_mount_the_tree_once(rig: Rig, daemon: Daemon) -> None:
    daemon.tell(hold=1)
    stats = start_stats(rig, 50)
    wait_until(lambda: all(map(is_waiting_in_look_up, stats)), "all walkers wait")
    daemon.tell(let=1)
    seen = {each.communicate(timeout=20) for each in stats}
    root = os.stat(rig.path("Device"))
    assert seen == {(f"{root.st_dev} {root.st_ino}\n", "")}
    assert daemon.count(surface=1) == daemon.count(mounted=1) == 1
    assert len(rig.mounts("ext4")) == 1


def test_more_walkers_than_the_fuse_library_has_tasks_do_not_shut_the_service_out(
    rig: Rig, daemon: Daemon
) -> None:
    daemon.tell(hold=1)
    stats = start_stats(rig, 150)
    wait_until(lambda: all(map(is_waiting_in_look_up, stats)), "all walkers wait")
    daemon.tell(let=1)
    assert not [each for each in stats if each.wait(20) != 0 or each.communicate()[1]]


def test_listing_the_view_mounts_nothing(rig: Rig, daemon: Daemon) -> None:
    for _ in range(3):
        assert os.listdir(rig.mountpoint / "Device") == ["HarddiskVolumeShadowCopy1"]
        run("ls", "--color=never", rig.mountpoint / "Device")
        with os.scandir(rig.mountpoint / "Device") as entries:
            assert [each.is_dir(follow_symlinks=False) for each in entries] == [True]
    assert daemon.count(surface=1) == 0
    assert not rig.mounts("ext4")


def test_a_listed_name_still_surfaces_on_the_first_look_up(rig: Rig, daemon: Daemon) -> None:
    os.listdir(rig.mountpoint / "Device")
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"


@pytest.mark.parametrize(
    "command",
    [
        ["stat", "-c", "%n", "{}/hello.txt"],
        ["ls", "{}"],
        ["ls", "-ld", "{}"],
        ["cat", "{}/hello.txt"],
        ["getfattr", "-d", "{}"],
        ["test", "-e", "{}/folder/random.bin"],
        ["sh", "-c", "cd {} && test -f hello.txt"],
        ["df", "{}"],
        ["find", "{}", "-name", "hello.txt"],
    ],
    ids=lambda command: command[0],
)
def test_any_kind_of_first_walk_finds_the_tree(
    rig: Rig, daemon: Daemon, command: list[str]
) -> None:
    run(*(each.format(rig.path("Device")) for each in command))
    assert daemon.count(mounted=1) == 1


def test_a_tree_is_reachable_through_its_name_alone(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    os.stat(rig.path("Device"))
    assert [each.mount_point for each in mount.mounts() if each.source == str(raw.node)] == [
        rig.path("Device")
    ]
    daemon.stop()
    assert not rig.mounts()
    assert os.listdir(rig.mountpoint) == []


def test_a_tree_that_cannot_be_mounted_is_an_input_output_error(rig: Rig, daemon: Daemon) -> None:
    daemon.tell(fail=1, reason="the array is away")
    for walk in (os.stat, os.listdir, os.listxattr, lambda path: os.stat(path / "hello.txt")):
        with pytest.raises(OSError, match=r"Input/output error") as caught:
            walk(rig.path("Device"))
        assert caught.value.errno == errno.EIO
    assert daemon.log.count("the array is away") == 1
    assert daemon.count(surface=1) >= 4


def test_the_look_up_after_a_failure_tries_again(rig: Rig, daemon: Daemon) -> None:
    daemon.tell(fail=1, reason="the array is away")
    with pytest.raises(OSError, match=r"Input/output error"):
        os.stat(rig.path("Device"))
    daemon.tell(mend=1)
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"


def test_a_descriptor_pinned_before_a_failure_still_takes_the_mount(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    daemon.tell(fail=1, reason="the array is away")
    pinned = os.open(rig.path("Device"), os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match=r"Input/output error"):
            os.stat(rig.path("Device"))
        tree = mount.detached_mount("ext4", raw.node, read_only=True)
        mount.attach(tree, pinned)
        os.close(tree)
    finally:
        os.close(pinned)
    daemon.tell(mend=1)
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"
    assert len(rig.mounts("ext4")) == 1


def test_a_service_that_never_answers_costs_the_limit(rig: Rig, raw: RawDevice) -> None:
    daemon = rig.daemon(limit=0.3)
    daemon.publish(raw.facts(1))
    daemon.tell(hold=1)
    with pytest.raises(OSError, match=r"Input/output error"):
        os.stat(rig.path("Device"))
    assert "no answer within 0.3 s" in daemon.log


def test_a_tree_unmounted_by_an_administrator_comes_back(rig: Rig, daemon: Daemon) -> None:
    os.stat(rig.path("Device"))
    run("umount", rig.path("Device"))
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"
    assert daemon.count(surface=1) == 2


def test_a_surfaced_tree_needs_devicefs_no_more(rig: Rig, daemon: Daemon) -> None:
    os.stat(rig.path("Device"))
    daemon.process.send_signal(19)  # SIGSTOP: a walk that asked would hang
    try:
        run("ls", "-lR", rig.path("Device"))
    finally:
        daemon.process.send_signal(18)


def test_memory_pressure_on_names_does_not_unmount(rig: Rig, daemon: Daemon) -> None:
    os.stat(rig.path("Device"))
    Path("/proc/sys/vm/drop_caches").write_text("2")
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"
    assert daemon.count(surface=1) == 1


def test_with_a_pinned_directory_even_a_first_bind_or_path_open_meets_the_tree(
    rig: Rig, raw: RawDevice
) -> None:
    for open_first in (True, False):
        daemon = rig.daemon()
        daemon.publish(raw.facts(1))
        daemon.tell(pin=1)
        daemon.count(mounted=1)
        if open_first:
            fd = os.open(rig.path("Device"), os.O_PATH)
            assert sorted(os.listdir(f"/proc/self/fd/{fd}")) == [
                "folder",
                "hello.txt",
                "lost+found",
            ]
            os.close(fd)
        else:
            mount.bind(rig.path("Device"), rig.tree)
            assert (rig.tree / "lost+found").exists()
            run("umount", rig.tree)
        assert daemon.count(surface=1) == 1
        daemon.stop()
