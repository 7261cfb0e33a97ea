"""The four views: their contents, who may read them, and that nobody may write."""

import contextlib
import errno
import json
import mmap
import os
import stat
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.rig.fuse.rig import OPERATORS_GID, Daemon, RawDevice, Rig, run

VIEWS = ("Device", "RawDevice", "Image", "Properties")
NOBODY = 65534


def test_the_views_and_names_are_those_of_the_contract(rig: Rig, daemon: Daemon) -> None:
    assert sorted(os.listdir(rig.mountpoint)) == sorted(VIEWS)
    for view in VIEWS:
        assert os.listdir(rig.mountpoint / view) == ["HarddiskVolumeShadowCopy1"]
    for name in ("HarddiskVolumeShadowCopy2", "HarddiskVolumeShadowCopy01", "x", "\\"):
        with pytest.raises(FileNotFoundError):
            os.stat(rig.mountpoint / "Device" / name)
        with pytest.raises(FileNotFoundError):
            os.stat(rig.mountpoint / name)


def test_a_long_listing_is_complete(rig: Rig, raw: RawDevice) -> None:
    daemon = rig.daemon()
    daemon.publish(*(raw.facts(number) for number in range(1, 513)))
    for view in VIEWS:
        listed = os.listdir(rig.mountpoint / view)
        assert len(listed) == len(set(listed)) == 512
    assert not rig.mounts("ext4")


def test_the_raw_device_is_a_block_node_of_the_read_only_device(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    seen = os.stat(rig.path("RawDevice"))
    assert stat.S_ISBLK(seen.st_mode)
    assert seen.st_rdev == os.stat(raw.node).st_rdev
    assert (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid) == (0o440, 0, OPERATORS_GID)
    assert 'TYPE="ext4"' in run("blkid", "-p", rig.path("RawDevice")).stdout


def test_raw_device_and_image_have_the_bytes_of_the_image_file(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    for view in ("RawDevice", "Image"):
        for options in (["bs=1M"], ["bs=4096", "count=64"], ["bs=1M", "iflag=direct"]):
            copy = rig.directory / "copy-of-bytes"
            run("dd", f"if={rig.path(view)}", f"of={copy}", *options)
            compared = run("cmp", f"--bytes={copy.stat().st_size}", copy, raw.image)
            assert compared.stdout == ""
        assert rig.path("Image").stat().st_size == raw.size


def test_the_image_reads_at_any_offset_and_through_mmap(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    truth = raw.image.read_bytes()
    with rig.path("Image").open("rb") as file:
        for offset, length in ((0, 1), (1023, 3), (4095, 2), (raw.size - 5, 100), (raw.size, 1)):
            assert os.pread(file.fileno(), length, offset) == truth[offset : offset + length]
        with mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            assert view[:] == truth
    run("debugfs", "-R", "cat /hello.txt", rig.path("Image"))


def test_properties_are_json_and_extended_attributes(
    rig: Rig, raw: RawDevice, daemon: Daemon
) -> None:
    path = rig.path("Properties")
    assert json.loads(path.read_text()) == {"m_SnapshotId": "id-1", "m_lSnapshotsCount": 1}
    assert sorted(os.listxattr(path)) == ["user.vss.m_SnapshotId", "user.vss.m_lSnapshotsCount"]
    assert os.getxattr(path, "user.vss.m_SnapshotId") == b"id-1"
    assert os.getxattr(path, "user.vss.m_lSnapshotsCount") == b"1"
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(path, "user.vss.m_none")


def test_changed_properties_are_seen_at_once(rig: Rig, raw: RawDevice, daemon: Daemon) -> None:
    path = rig.path("Properties")
    with path.open() as before:
        assert "m_pwszExposedName" not in path.read_text()
        daemon.publish(raw.facts(1, m_pwszExposedName="X:\\"))
        assert json.loads(path.read_text())["m_pwszExposedName"] == "X:\\"
        assert path.stat().st_size == len(path.read_text())
        assert "m_pwszExposedName" not in before.read()
    assert os.getxattr(path, "user.vss.m_pwszExposedName") == b"X:\\"


def as_user(command: list[str | Path], *groups: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(each) for each in command],
        user=NOBODY,
        group=NOBODY,
        extra_groups=groups,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("view", VIEWS)
def test_only_root_and_operators_get_past_the_root(rig: Rig, daemon: Daemon, view: str) -> None:
    for directory in (rig.directory, rig.directory.parent):
        directory.chmod(0o755)
    for path in (rig.mountpoint, rig.mountpoint / view, rig.path(view)):
        assert "Permission denied" in as_user(["ls", path]).stderr
        assert as_user(["ls", path], OPERATORS_GID).returncode == 0
    read: list[str | Path] = ["head", "-c", "1", rig.path(view)]
    if view == "Device":
        read[-1] = rig.path(view) / "hello.txt"
    assert as_user(read, OPERATORS_GID).returncode == 0
    assert as_user(read).returncode != 0


def test_an_operator_surfaces_a_tree_like_root(rig: Rig, daemon: Daemon) -> None:
    for directory in (rig.directory, rig.directory.parent):
        directory.chmod(0o755)
    done = as_user(["cat", rig.path("Device") / "hello.txt"], OPERATORS_GID)
    assert (done.stdout, done.stderr) == ("hello\n", "")


def attempts(rig: Rig) -> dict[str, Callable[[], object]]:
    """Return every way to change something, by name."""
    root = rig.mountpoint
    changes: dict[str, Callable[[], object]] = {
        "create in the root": partial((root / "new").touch),
        "mkdir in the root": partial((root / "new").mkdir),
        "rename a view": partial((root / "Image").rename, root / "Other"),
        "remove a view": partial((root / "Image").rmdir),
    }
    for view in VIEWS:
        path = rig.path(view)
        new = path.with_name("new")
        node = (stat.S_IFBLK | 0o600, os.makedev(7, 0))
        changes |= {
            f"create in {view}": partial(new.touch),
            f"mkdir in {view}": partial(new.mkdir),
            f"mknod in {view}": partial(os.mknod, new, *node),
            f"symlink in {view}": partial(new.symlink_to, "x"),
            f"rename in {view}": partial(path.rename, new),
            f"remove in {view}": partial(path.rmdir if view == "Device" else path.unlink),
            f"chmod in {view}": partial(path.chmod, 0o777),
            f"chown in {view}": partial(os.chown, path, 1, 1),
            f"utime in {view}": partial(os.utime, path, (1, 1)),
            f"setxattr in {view}": partial(os.setxattr, path, "user.vss.x", b"1"),
            f"removexattr in {view}": partial(os.removexattr, path, "user.vss.m_SnapshotId"),
        }
    for view in ("Image", "Properties"):
        path = rig.path(view)
        changes |= {
            f"open {view} for writing": partial(os.open, path, os.O_RDWR),
            f"truncate {view}": partial(os.truncate, path, 0),
            f"hard link {view}": partial(os.link, path, path.with_name("new")),
        }
    tree = rig.path("Device")
    return changes | {
        "create in the tree": partial((tree / "new").touch),
        "remove in the tree": partial((tree / "hello.txt").unlink),
        "open in the tree for writing": partial(os.open, tree / "hello.txt", os.O_WRONLY),
    }


REFUSALS = {errno.EROFS, errno.EPERM, errno.EACCES, errno.EBUSY}


@pytest.mark.parametrize("remounted", [False, True], ids=["as mounted", "remounted rw"])
def test_root_can_change_nothing_through_any_view(
    rig: Rig, raw: RawDevice, daemon: Daemon, remounted: bool
) -> None:
    os.stat(rig.path("Device"))
    if remounted:
        run("mount", "-i", "-o", "remount,rw", rig.mountpoint)
    before = raw.image.read_bytes()
    outcomes = {}
    for name, attempt in attempts(rig).items():
        with pytest.raises(OSError, match=r".") as caught:
            attempt()
        outcomes[name] = caught.value.errno
    assert {name: code for name, code in outcomes.items() if code not in REFUSALS} == {}
    assert raw.image.read_bytes() == before


def test_root_cannot_write_the_raw_device(rig: Rig, raw: RawDevice, daemon: Daemon) -> None:
    before = raw.image.read_bytes()
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_DIRECT):
        with contextlib.suppress(PermissionError):
            fd = os.open(rig.path("RawDevice"), flags)
            try:
                with pytest.raises(OSError, match="not permitted"):
                    os.pwrite(fd, mmap.mmap(-1, 4096), 0)
            finally:
                os.close(fd)
    assert run("blockdev", "--setrw", rig.path("RawDevice"), check=False) is not None
    done = run(
        "dd", "if=/dev/zero", f"of={rig.path('RawDevice')}", "bs=4096", "count=1",
        "oflag=direct", check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert raw.image.read_bytes() == before
