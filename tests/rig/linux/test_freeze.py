import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.linux.conftest import Image, bind
from vssemu.linux import filesystems, freeze, loop, mount, unmounted


@pytest.fixture
def directory(mounted: Path) -> Iterator[Any]:
    fd = freeze.open_directory(mounted)
    yield fd
    os.close(fd)


def blocked_in_kernel(thread: threading.Thread) -> Any:
    """The state of one of our own threads, from /proc."""
    stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    return stat[stat.rindex(")") + 2] == "D"


def test_a_writer_waits_for_the_thaw(mounted: Path, directory: int) -> None:
    freeze.syncfs(directory)
    freeze.freeze(directory)
    writer = threading.Thread(target=(mounted / "file").write_bytes, args=(b"x",))
    try:
        writer.start()
        deadline = time.monotonic() + 5
        while not blocked_in_kernel(writer):
            assert time.monotonic() < deadline, "the writer was not blocked"
    finally:
        freeze.thaw(directory)
        writer.join(10)
    assert not writer.is_alive()
    assert (mounted / "file").read_bytes() == b"x"


def test_second_freeze_and_second_thaw_are_told_apart(mounted: Path, directory: int) -> None:
    freeze.freeze(directory)
    try:
        with pytest.raises(OSError, match="busy") as caught:
            freeze.freeze(directory)
        assert caught.value.errno == errno.EBUSY
        assert caught.value.filename == str(mounted)
    finally:
        freeze.thaw(directory)
    with pytest.raises(OSError, match="Invalid argument"):
        freeze.thaw(directory)


def test_a_path_descriptor_does_not_do(mounted: Path) -> None:
    fd = os.open(mounted, os.O_PATH)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            freeze.freeze(fd)
    finally:
        os.close(fd)


def test_a_file_system_that_is_shut_down_answers_eio(mounted: Path, directory: int) -> None:
    (mounted / "file").write_bytes(b"x")
    freeze.shut_down(directory, freeze.Shutdown.FLUSH_DATA)
    with pytest.raises(OSError, match="Input/output error"):
        (mounted / "other").write_bytes(b"x")
    mount.unmount(mounted, mount.UnmountFlag.DETACH)


def test_a_frozen_file_system_outlives_its_mount_and_is_found_by_its_image(
    scratch: Path, image: Image
) -> None:
    """This test will lose every descriptor of a frozen file system, as a crash does."""
    device = bind(image.fd)
    filesystems.make_ext4(device.path, timeout=30)
    target = scratch / "mnt"
    target.mkdir()
    mount.mount(device.path, target, "ext4")
    os.close(device.fd)
    fd = freeze.open_directory(target)
    freeze.freeze(fd)
    mount.unmount(target, mount.UnmountFlag.DETACH)
    os.close(fd)
    left = loop.bindings_of({image.identity})
    # Mounted again, thawed, and let go of: the only way to free it. Asserts come after it.
    held = mount.detached_mount("ext4", device.path, read_only=False)
    again = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=held)
    freeze.thaw(again)
    os.close(again)
    os.close(held)
    assert [status.number for status in left] == [device.number]
    deadline = time.monotonic() + 5
    while loop.bindings_of({image.identity}):
        assert time.monotonic() < deadline, "the image stays bound"


def test_tmpfs_cannot_be_frozen(scratch: Path) -> None:
    mount.mount("tmpfs", scratch, "tmpfs")
    fd = freeze.open_directory(scratch)
    try:
        with pytest.raises(OSError, match=r"Operation not supported|Inappropriate"):
            freeze.freeze(fd)
    finally:
        os.close(fd)
        mount.unmount(scratch)


def test_a_freeze_ends_although_nothing_can_be_read_of_the_device_any_more(
    mounted: Path, directory: int, device: Any, image: Image
) -> None:
    """As when the server of its backing file was ended."""
    freeze.freeze(directory)
    os.ftruncate(image.fd, 0)
    with pytest.raises(OSError, match="Input/output"):
        filesystems.probe(device.fd)
    assert unmounted.thaw_device(device.number)
    assert not unmounted.thaw_device(device.number)
