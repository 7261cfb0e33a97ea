"""Real loop devices and file systems for the tests of linux, and their removal."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vssemu.linux import filesystems, loop, mount

MIB = 1 << 20
SCRATCH = Path("/tmp/linux")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything below this directory needs root."""
    if os.geteuid() != 0:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skipif(True, reason="needs root"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    path: Path
    fd: int

    @property
    def identity(self) -> Any:
        status = os.fstat(self.fd)
        return status.st_dev, status.st_ino


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    number: int
    fd: int

    @property
    def path(self) -> Any:
        return loop.node(self.number)


@pytest.fixture
def scratch(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of its own on a file system that does direct I/O, empty again afterwards."""
    directory = SCRATCH / f"{request.node.name[:60].replace('/', '_')}-{os.getpid()}"
    directory.mkdir(parents=True)
    yield directory
    for facts in reversed(mount.mounts()):
        if directory in facts.mount_point.parents or directory == facts.mount_point:
            mount.unmount(facts.mount_point, mount.UnmountFlag.DETACH)
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    directory.rmdir()
    with contextlib.suppress(OSError):
        SCRATCH.rmdir()


def make_image(path: Path, size: int = 64 * MIB) -> Image:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
    os.ftruncate(fd, size)
    return Image(path=path, fd=fd)


@pytest.fixture
def image(scratch: Path) -> Iterator[Image]:
    made = make_image(scratch / "image")
    yield made
    os.close(made.fd)


def bind(
    backing: int,
    *,
    flags: loop.LoopFlag = loop.LoopFlag.DIRECT_IO | loop.LoopFlag.AUTOCLEAR,
    **more: Any,
) -> Any:
    deadline = time.monotonic() + 10
    while (found := loop.try_bind(backing, block_size=4096, flags=flags, **more)) is None:
        assert time.monotonic() < deadline, "no free loop device"
    return Device(number=found[0], fd=found[1])


@pytest.fixture
def device(image: Image) -> Iterator[Device]:
    """The image, bound; freed by autoclear when the test ends."""
    made = bind(image.fd)
    yield made
    os.close(made.fd)


@pytest.fixture
def mounted(scratch: Path, device: Device) -> Path:
    """An ext4 on the device, mounted; `scratch` unmounts it."""
    filesystems.make_ext4(device.path, timeout=30)
    target = scratch / "mnt"
    target.mkdir()
    mount.mount(device.path, target, "ext4")
    return target
