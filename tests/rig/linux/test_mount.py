import os
from pathlib import Path
from typing import Any

import pytest

from tests.rig.linux.conftest import Device
from vssemu.linux import blockdev, filesystems, mount
from vssemu.linux.mount import MountAttribute, MountFlag, Propagation


def table(directory: Path) -> Any:
    return [facts for facts in mount.mounts() if facts.mount_point == directory]


@pytest.fixture
def ext4(device: Device) -> Any:
    filesystems.make_ext4(device.path, timeout=30)
    return device


def test_the_classic_mount_and_its_end(mounted: Path, device: Device) -> None:
    (facts,) = table(mounted)
    assert (facts.fstype, facts.source) == ("ext4", str(device.path))
    assert (facts.device.major, facts.device.minor) == (7, device.number)
    mount.unmount(mounted)
    assert table(mounted) == []


def test_a_detached_mount_is_in_no_table_until_it_is_attached(ext4: Device, scratch: Path) -> None:
    target = scratch / "a b"
    target.mkdir()
    held = mount.detached_mount(
        "ext4",
        ext4.path,
        {"errors": "remount-ro"},
        read_only=False,
        attributes=MountAttribute.NOSUID | MountAttribute.NODEV,
    )
    try:
        device = blockdev.DeviceNumber(major=7, minor=ext4.number)
        assert [facts for facts in mount.mounts() if facts.device == device] == []
        assert os.stat("lost+found", dir_fd=held).st_nlink == 2
        directory = os.open(target, os.O_PATH)
        mount.attach(held, directory)
        os.close(directory)
    finally:
        os.close(held)
    (facts,) = table(target)
    assert {"nosuid", "nodev", "rw"} <= set(facts.options)
    assert "errors=remount-ro" in facts.super_options
    assert (target / "lost+found").is_dir()


def test_a_detached_mount_ends_with_its_descriptor(ext4: Device, scratch: Path) -> None:
    os.close(mount.detached_mount("ext4", ext4.path, read_only=False))
    # A second, different mount of the device would fail while the first one lives.
    os.close(mount.detached_mount("ext4", ext4.path, read_only=True))


def test_a_read_only_mount_refuses_writes(ext4: Device, scratch: Path) -> None:
    held = mount.detached_mount("ext4", ext4.path, read_only=True)
    try:
        with pytest.raises(OSError, match="Read-only file system"):
            os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=held)
    finally:
        os.close(held)


def test_a_wrong_file_system_is_told_with_the_device(device: Device) -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        mount.detached_mount("ext4", device.path, read_only=True)
    assert caught.value.filename == str(device.path)


def test_an_unknown_option_is_named(device: Device) -> None:
    with pytest.raises(OSError, match="nonsense") as caught:
        mount.detached_mount("ext4", device.path, {"nonsense": "1"}, read_only=True)
    assert caught.value.filename == "nonsense=1"


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(OSError, match="No such device") as caught:
        mount.fsopen("nofs")
    assert caught.value.filename == "nofs"


def test_a_bind_mount_and_its_attributes(mounted: Path, scratch: Path) -> None:
    second = scratch / "second"
    second.mkdir()
    mount.bind(mounted, second)
    mount.change_attributes(second, add=MountAttribute.READ_ONLY)
    with pytest.raises(OSError, match="Read-only file system"):
        (second / "x").touch()
    (mounted / "x").touch()
    mount.change_attributes(second, remove=MountAttribute.READ_ONLY)
    (second / "x").unlink()


def test_a_cloned_tree_is_changed_before_anybody_sees_it(mounted: Path, scratch: Path) -> None:
    # What is attached below a shared mount, as / is under systemd, becomes shared.
    private = scratch / "private"
    private.mkdir()
    mount.bind(private, private)
    mount.set_propagation(private, Propagation.PRIVATE)
    second = private / "second"
    second.mkdir()
    held = mount.clone_tree(mounted)
    mount.change_attributes(
        held, add=MountAttribute.READ_ONLY, propagation=Propagation.PRIVATE, recursive=True
    )
    directory = os.open(second, os.O_PATH)
    mount.attach(held, directory)
    os.close(directory)
    os.close(held)
    (facts,) = table(second)
    assert "ro" in facts.options
    assert facts.propagation == ()


def test_propagation_is_shown_by_the_table(mounted: Path) -> None:
    mount.set_propagation(mounted, Propagation.SHARED)
    assert table(mounted)[0].propagation[0].startswith("shared:")
    mount.set_propagation(mounted, Propagation.PRIVATE, recursive=True)
    assert table(mounted)[0].propagation == ()


def test_errors_name_the_target(scratch: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        mount.mount("tmpfs", scratch / "none", "tmpfs", MountFlag.NOSUID)
    assert caught.value.filename == str(scratch / "none")
    with pytest.raises(OSError, match="Invalid argument") as caught:
        mount.unmount(scratch)
    assert caught.value.filename == str(scratch)
    directory = os.open(scratch, os.O_PATH)
    try:
        with pytest.raises(OSError, match="Invalid argument") as caught:
            mount.attach(directory, directory)
        assert caught.value.filename == str(scratch)
    finally:
        os.close(directory)
