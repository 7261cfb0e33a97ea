"""devicefs killed and started again, under readers, by a starter that keeps nothing."""

import contextlib
import errno
import json
import os
import subprocess
import sys

import pytest

from tests.rig.fuse.rig import Daemon, RawDevice, Rig, run, wait_until
from tests.rig.fuse.test_devicefs_surfacing import is_waiting_in_look_up, start_stats
from vssemu.linux import mount
from vssemu_fuse.devicefs import mounting

WATCHER = """
import collections, errno, json, os, sys
seen = collections.Counter()
path = sys.argv[1]
print("ready", flush=True)
os.set_blocking(0, False)
while (command := sys.stdin.read(1)) != "q":
    if command == "c":
        print("walked", flush=True)
    try:
        os.stat(path)
    except OSError as error:
        seen[errno.errorcode[error.errno]] += 1
    else:
        seen["ok"] += 1
print(json.dumps(seen))
"""


def test_a_killed_devicefs_leaves_mounted_trees_readable_and_the_rest_disconnected(
    rig: Rig, daemon: Daemon
) -> None:
    os.stat(rig.path("Device"))
    image = os.open(rig.path("Image"), os.O_RDONLY)
    try:
        daemon.kill()
        assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"
        with pytest.raises(OSError, match=r".") as caught:
            os.pread(image, 4096, 1 << 20)
        assert caught.value.errno in {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO}
    finally:
        with contextlib.suppress(OSError):
            os.close(image)
    with pytest.raises(OSError, match=r".") as caught:
        os.listdir(rig.mountpoint / "Device")
    assert caught.value.errno == errno.ENOTCONN


def test_the_next_devicefs_takes_the_place_of_a_killed_one(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    os.stat(rig.path("Device"))
    before = os.stat(rig.path("Image")).st_ino
    daemon.kill()
    successor = rig.daemon()
    successor.publish(raw.facts(1))
    assert len(rig.mounts("fuse")) == 1
    assert not rig.mounts("ext4")
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"
    assert successor.count(mounted=1) == 1
    assert os.stat(rig.path("Image")).st_ino == before
    run("cmp", rig.path("Image"), raw.image)


def test_a_walker_during_a_restart_never_finds_the_path_missing(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    os.stat(rig.path("Device"))
    path = rig.path("Device") / "hello.txt"
    watcher = rig.start(sys.executable, "-c", WATCHER, path)
    assert watcher.stdout is not None
    assert watcher.stdin is not None
    assert watcher.stdout.readline() == "ready\n"
    for _ in range(5):
        daemon.kill()
        daemon = rig.daemon()
        daemon.publish(raw.facts(1))
        os.stat(path)
        # A walk that was waiting for devicefs at the kill would unmount the tree.
        watcher.stdin.write("c")
        watcher.stdin.flush()
        assert watcher.stdout.readline() == "walked\n"
    out, _ = watcher.communicate("q", timeout=20)
    seen = json.loads(out)
    print("a walker during five restarts saw", seen)
    assert set(seen) == {"ok"}


def test_tar_through_the_tree_does_not_notice_a_restart(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    # The pipe is smaller than the first file: tar is in its middle when devicefs dies.
    with subprocess.Popen(
        [
            "tar",
            "--create",
            "--file=-",
            f"--directory={rig.path('Device')}",
            "folder",
            "hello.txt",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as tar:
        assert tar.stdout is not None
        start = os.read(tar.stdout.fileno(), 1024)
        daemon.kill()
        rig.daemon().publish(raw.facts(1))
        assert (rig.path("Device") / "hello.txt").exists()
        rest, complaints = tar.communicate(timeout=20)
    assert (tar.returncode, complaints) == (0, b"")
    archive = rig.directory / "archive.tar"
    archive.write_bytes(start + rest)
    restored = rig.directory / "restored"
    restored.mkdir()
    run("tar", "--extract", f"--file={archive}", f"--directory={restored}")
    run("diff", "--recursive", restored, rig.tree)


def test_an_open_file_of_a_tree_reads_on_after_a_restart(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    with (rig.path("Device") / "folder" / "random.bin").open("rb") as file:
        start = file.read(4096)
        daemon.kill()
        rig.daemon().publish(raw.facts(1))
        assert start + file.read() == (rig.tree / "folder" / "random.bin").read_bytes()


def test_walkers_waiting_in_a_killed_devicefs_get_an_error(rig: Rig, daemon: Daemon) -> None:
    daemon.tell(hold=1)
    stats = start_stats(rig, 5)
    wait_until(lambda: all(map(is_waiting_in_look_up, stats)), "all walkers wait")
    daemon.kill()
    for each in stats:
        assert "No such" not in each.communicate(timeout=20)[1]
        assert each.returncode != 0


def test_two_killed_ones_on_top_of_each_other_are_cleared(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    run("mount", "--bind", rig.mountpoint, rig.mountpoint)
    daemon.kill()
    assert len(rig.mounts("fuse")) == 2
    rig.daemon().publish(raw.facts(1))
    assert len(rig.mounts("fuse")) == 1
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"


def test_a_second_devicefs_does_not_push_a_living_one_away(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    second = rig.daemon()
    second.tell(list=[raw.facts(1)], revision=1)
    assert second.process.wait(20) != 0
    assert "another devicefs serves this mount point" in second.log
    assert (rig.path("Device") / "hello.txt").read_text() == "hello\n"


def test_devicefs_ends_when_somebody_unmounts_it(rig: Rig, daemon: Daemon) -> None:
    run("umount", rig.mountpoint)
    daemon.process.wait(20)
    assert os.listdir(rig.mountpoint) == []


def test_sigterm_unmounts_and_ends_quietly(rig: Rig, daemon: Daemon) -> None:
    os.stat(rig.path("Device"))
    daemon.stop()
    assert daemon.process.returncode == 0
    assert not rig.mounts()
    assert "Traceback" not in daemon.log


def test_a_kernel_without_mounts_beneath_gets_them_one_after_the_other(
    rig: Rig, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = mount.attach

    def attach_of_old(mounted: int, directory: int, *, beneath: bool = False) -> None:
        if beneath:
            raise OSError(errno.EINVAL, "Invalid argument")
        attach(mounted, directory)

    monkeypatch.setattr(mount, "attach", attach_of_old)
    dead = rig.mounts("fuse")[0].mount_id
    daemon.kill()
    fuse = mounting.make()
    try:
        mounting.install(fuse.mounted, rig.mountpoint)
        (installed,) = rig.mounts("fuse")
        assert installed.mount_id != dead
    finally:
        os.close(fuse.connection)


def test_an_impossible_list_is_refused_and_the_last_one_stays(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    daemon.tell(list=[raw.facts(2), raw.facts(2)], revision=77)
    daemon.wait_log("list refused")
    assert os.listdir(rig.mountpoint / "Image") == ["HarddiskVolumeShadowCopy1"]
    daemon.publish(raw.facts(1), raw.facts(3))
    assert daemon.count(settled=77) == 0
    assert os.listdir(rig.mountpoint / "Image") == [
        "HarddiskVolumeShadowCopy1",
        "HarddiskVolumeShadowCopy3",
    ]
