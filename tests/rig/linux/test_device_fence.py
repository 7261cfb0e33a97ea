"""The fence as root inside it meets it."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.linux.conftest import Device, bind, make_image
from vssemu.linux import cgroup, device_fence, devices, loop, run
from vssemu.linux.device_fence import DeviceAccess, DeviceRule
from vssemu.linux.devices import DeviceKind

CHARACTERS = [
    DeviceRule(kind=DeviceKind.CHARACTER, major=1, minor=None),
    DeviceRule(kind=DeviceKind.CHARACTER, major=5, minor=None),
]

# Joins the group given first, mounts a devtmpfs of its own in a new mount namespace, and
# prints for each further argument, "path:mode", what opening it answers.
INSIDE = """
import errno, os, sys, tempfile
from pathlib import Path
from vssemu.linux import cgroup, mount, namespaces
cgroup.move(Path(sys.argv[1]), 0)
namespaces.unshare(namespaces.Namespace.MOUNT)
mount.set_propagation("/", mount.Propagation.PRIVATE, recursive=True)
mount.mount("devtmpfs", sys.argv[2], "devtmpfs")
for word in sys.argv[3:]:
    name, mode = word.split(":")
    flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}
    try:
        if mode == "mknod":
            os.mknod(sys.argv[2] + "/shm-node", 0o600 | 0o60000, os.makedev(7, int(name)))
            os.unlink(sys.argv[2] + "/shm-node")
        else:
            fd = os.open(sys.argv[2] + "/" + name, flags[mode])
            if mode != "w":
                os.read(fd, 512)
        print("ok")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""

# Joins the group given first, makes it the root of a cgroup namespace, and tries to detach
# the program from the group with the inode number given third, by its file handle (bytes:
# length 8, type 0xfe, number; fs/kernfs/mount.c).
LIFT = """
import ctypes, os, struct, sys
from pathlib import Path
from vssemu.linux import capabilities, cgroup, device_fence, mount, namespaces
from vssemu.linux.namespaces import Namespace
cgroup.move(Path(sys.argv[1]), 0)
namespaces.unshare(Namespace.MOUNT | Namespace.CGROUP)
mount.set_propagation("/", mount.Propagation.PRIVATE, recursive=True)
if sys.argv[4] == "without":
    capabilities.drop([capabilities.Capability.DAC_READ_SEARCH])
mount.mount("cgroup2", sys.argv[2], "cgroup2")
tree = os.open(sys.argv[2], os.O_RDONLY)
handle = struct.pack("IiQ", 8, 0xFE, int(sys.argv[3]))
call = ctypes.CDLL(None, use_errno=True).open_by_handle_at
fd = call(tree, handle, os.O_RDONLY | os.O_DIRECTORY)
if fd < 0:
    print(os.strerror(ctypes.get_errno()))
else:
    device_fence.clear_fence(Path(f"/proc/self/fd/{fd}"))
    print("lifted")
"""


@pytest.fixture
def fenced() -> Iterator[Any]:
    root = cgroup.find_cgroup2()
    if root is None:
        pytest.skip("no cgroup version 2 is mounted")
    group = root / f"vssemu-test-{os.getpid()}"
    cgroup.create(group / "inside")
    yield group
    cgroup.kill(group)
    assert cgroup.wait_empty(group, time.monotonic() + 10)
    cgroup.remove(group)
    assert not group.exists()


@pytest.fixture
def other(scratch: Path) -> Iterator[Any]:
    image = make_image(scratch / "other")
    made = bind(image.fd)
    os.close(image.fd)
    yield made
    os.close(made.fd)


def block(number: int, access: DeviceAccess = DeviceAccess.ALL) -> Any:
    return DeviceRule(kind=DeviceKind.BLOCK, major=loop.MAJOR, minor=number, access=access)


def inside(group: Path, scratch: Path, *words: str) -> Any:
    directory = scratch / "dev"
    directory.mkdir(exist_ok=True)
    argv = [sys.executable, "-c", INSIDE, str(group), str(directory), *words]
    return run.run(argv, env={"PYTHONPATH": os.getcwd()}, timeout=30).stdout.split()


def test_root_inside_opens_what_is_granted_and_nothing_else(
    fenced: Path, scratch: Path, device: Device, other: Device
) -> None:
    """This test will mount a devtmpfs inside the fence, where all nodes of the machine are."""
    granted, refused = f"loop{device.number}", f"loop{other.number}"
    device_fence.set_fence(fenced, [*CHARACTERS, block(device.number)])
    words = [f"{granted}:rw", f"{refused}:r", f"{refused}:w", "null:rw"]
    assert inside(fenced / "inside", scratch, *words) == ["ok", "EPERM", "EPERM", "ok"]
    device_fence.set_fence(fenced, [*CHARACTERS, block(device.number), block(other.number)])
    assert inside(fenced / "inside", scratch, *words) == ["ok"] * 4
    assert len(device_fence.fences(fenced)) == 1
    device_fence.set_fence(fenced, CHARACTERS)
    assert inside(fenced / "inside", scratch, *words) == ["EPERM", "EPERM", "EPERM", "ok"]


def test_reading_writing_and_making_nodes_are_granted_apart(
    fenced: Path, scratch: Path, device: Device
) -> None:
    name = f"loop{device.number}"
    read_only = block(device.number, DeviceAccess.READ)
    device_fence.set_fence(fenced, [*CHARACTERS, read_only])
    words = [f"{name}:r", f"{name}:rw", f"{device.number}:mknod"]
    assert inside(fenced / "inside", scratch, *words) == ["ok", "EPERM", "EPERM"]
    device_fence.set_fence(
        fenced, [*CHARACTERS, block(device.number, DeviceAccess.READ | DeviceAccess.MKNOD)]
    )
    assert inside(fenced / "inside", scratch, *words) == ["ok", "EPERM", "ok"]


def test_a_group_below_cannot_lift_the_fence(fenced: Path, scratch: Path, device: Device) -> None:
    name = f"loop{device.number}"
    device_fence.set_fence(fenced, CHARACTERS)
    below = fenced / "inside"
    anything = [DeviceRule(kind=kind, major=None, minor=None) for kind in DeviceKind]
    with pytest.raises(PermissionError) as caught:
        device_fence.set_fence(below, anything)
    assert caught.value.filename == str(below)
    with pytest.raises(FileNotFoundError):
        device_fence.clear_fence(below)
    assert inside(below, scratch, f"{name}:r") == ["EPERM"]


@pytest.mark.parametrize(
    ("capability", "answer", "left"),
    [("with", "lifted", 0), ("without", "Operation not permitted", 1)],
)
def test_file_handles_lift_a_fence_unless_the_capability_is_gone(
    fenced: Path, scratch: Path, capability: str, answer: str, left: int
) -> None:
    """This test will prove the need first: with CAP_DAC_READ_SEARCH the fence comes off."""
    device_fence.set_fence(fenced, CHARACTERS)
    number = str(fenced.stat().st_ino)
    argv = [sys.executable, "-c", LIFT, str(fenced / "inside"), str(scratch), number, capability]
    printed = run.run(argv, env={"PYTHONPATH": os.getcwd()}, timeout=30).stdout
    assert printed.strip() == answer
    assert len(device_fence.fences(fenced)) == left


def test_a_fence_without_rules_refuses_all_and_comes_off(
    fenced: Path, scratch: Path, device: Device
) -> None:
    name = f"loop{device.number}"
    device_fence.set_fence(fenced, [])
    assert inside(fenced, scratch, "null:r", f"{name}:r") == ["EPERM", "EPERM"]
    device_fence.clear_fence(fenced)
    assert device_fence.fences(fenced) == ()
    assert inside(fenced, scratch, "null:r", f"{name}:r") == ["ok", "ok"]


def test_a_thousand_rules_fit(fenced: Path, scratch: Path, device: Device) -> None:
    rules = [block(number) for number in range(5000, 6000)]
    device_fence.set_fence(fenced, [*CHARACTERS, *rules, block(device.number)])
    assert inside(fenced, scratch, f"loop{device.number}:r") == ["ok"]


def test_a_directory_that_is_no_control_group_is_refused(scratch: Path) -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        device_fence.set_fence(scratch, [])
    assert caught.value.filename == str(scratch)


def test_nodes_are_made_with_the_asked_mode_and_opened_by_number(
    scratch: Path, device: Device
) -> None:
    directory = os.open(scratch, os.O_PATH)
    try:
        devices.make_node(directory, "node", DeviceKind.BLOCK, 7, device.number, mode=0o666)
        status = (scratch / "node").stat()
        assert status.st_mode == 0o60666
        assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (7, device.number)
        with pytest.raises(FileExistsError) as caught:
            devices.make_node(directory, "node", DeviceKind.BLOCK, 7, device.number)
        assert caught.value.filename == "node"
    finally:
        os.close(directory)
    fd = devices.open_by_number(DeviceKind.BLOCK, 7, device.number)
    try:
        assert loop.status(fd).number == device.number
    finally:
        os.close(fd)


def test_a_device_that_is_not_there_is_named_by_its_numbers() -> None:
    with pytest.raises(OSError, match="No such device") as caught:
        devices.open_by_number(DeviceKind.CHARACTER, 4000, 7)
    assert caught.value.filename == "character device 4000:7"
