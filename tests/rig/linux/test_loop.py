import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.rig.linux.conftest import MIB, Device, Image, bind, make_image
from vssemu.linux import blockdev, devices, loop, run


def losetup(number: int, columns: str) -> Any:
    argv = ["losetup", "--raw", "--noheadings", "-O", columns, str(loop.node(number))]
    return run.run(argv, timeout=10).stdout.split()


def wait_unbound(number: int) -> None:
    deadline = time.monotonic() + 5
    while loop.sysfs_facts(number) is not None:
        assert time.monotonic() < deadline, f"loop{number} stays bound"


def test_a_bound_image_is_direct_autoclear_and_has_4096_byte_blocks(
    image: Image, device: Device
) -> None:
    facts = loop.sysfs_facts(device.number)
    assert facts == loop.BoundLoop(
        number=device.number,
        backing_file=str(image.path),
        offset=0,
        size_limit=0,
        direct_io=True,
        autoclear=True,
        read_only=False,
        size=64 * MIB,
        logical_block_size=4096,
    )
    assert losetup(device.number, "AUTOCLEAR,DIO,RO,LOG-SEC") == ["1", "1", "0", "4096"]
    assert facts in loop.bound_loops()


def test_status_names_the_file_by_device_and_inode(image: Image, device: Device) -> None:
    status = loop.status(device.fd)
    assert (status.device, status.inode) == image.identity
    assert status.number == device.number
    assert status.flags == loop.LoopFlag.DIRECT_IO | loop.LoopFlag.AUTOCLEAR


def test_offset_and_limit_make_a_device_of_a_part_of_the_file(image: Image) -> None:
    made = bind(image.fd, offset=MIB, size_limit=2 * MIB)
    try:
        assert blockdev.size(made.fd) == 2 * MIB
        assert blockdev.logical_block_size(made.fd) == 4096
        facts = loop.sysfs_facts(made.number)
        assert facts is not None
        assert (facts.offset, facts.size_limit) == (MIB, 2 * MIB)
    finally:
        os.close(made.fd)


def test_closing_the_last_descriptor_frees_an_autoclear_device(image: Image) -> None:
    made = bind(image.fd)
    os.close(made.fd)
    wait_unbound(made.number)
    assert loop.bindings_of({image.identity}) == []


def test_a_descriptor_opened_read_only_makes_a_device_that_root_cannot_write(image: Image) -> None:
    backing = os.open(image.path, os.O_RDONLY)
    made = bind(backing)
    os.close(backing)
    try:
        before = loop.sysfs_facts(made.number)
        assert before is not None
        assert before.read_only
        blockdev.set_read_only(made.fd, False)
        assert loop.sysfs_facts(made.number) == before
        with pytest.raises(PermissionError):
            os.pwrite(made.fd, b"x" * 4096, 0)
    finally:
        os.close(made.fd)


def test_the_size_limit_can_be_cut_and_brought_back(device: Device) -> None:
    before = loop.status(device.fd)
    loop.set_size_limit(device.fd, 4096)
    assert blockdev.size(device.fd) == 4096
    assert loop.status(device.fd).flags == before.flags
    loop.set_size_limit(device.fd, 0)
    assert blockdev.size(device.fd) == 64 * MIB
    assert loop.status(device.fd) == before


def test_a_grown_file_is_taken_over(image: Image, device: Device) -> None:
    os.ftruncate(image.fd, 96 * MIB)
    assert blockdev.size(device.fd) == 64 * MIB
    loop.set_capacity(device.fd)
    assert blockdev.size(device.fd) == 96 * MIB


def test_bindings_are_found_after_the_file_was_renamed_and_deleted(
    image: Image, device: Device
) -> None:
    image.path.rename(image.path.with_name("elsewhere"))
    second = bind(image.fd, offset=MIB)
    try:
        image.path.with_name("elsewhere").unlink()
        found = loop.bindings_of({image.identity})
        assert {status.number for status in found} == {device.number, second.number}
        assert {status.offset for status in found} == {0, MIB}
    finally:
        os.close(second.fd)


def test_a_copy_of_the_image_is_not_a_binding_of_it(
    image: Image, device: Device, scratch: Path
) -> None:
    shutil.copy(image.path, scratch / "copy")
    status = (scratch / "copy").stat()
    assert loop.bindings_of({(status.st_dev, status.st_ino)}) == []


def test_bindings_are_found_without_nodes(image: Image, device: Device) -> Any:
    def by_number(number: int) -> Any:
        return devices.open_by_number(devices.DeviceKind.BLOCK, loop.MAJOR, number)

    found = loop.bindings_of({image.identity}, open_device=by_number)
    assert [status.number for status in found] == [device.number]


def test_a_bound_device_without_a_node_is_an_error_not_a_no(
    image: Image, device: Device, tmp_path: Path
) -> Any:
    def nowhere(number: int) -> Any:
        return os.open(tmp_path / f"loop{number}", os.O_RDONLY)

    with pytest.raises(FileNotFoundError):
        loop.bindings_of({image.identity}, open_device=nowhere)


def test_a_bound_device_cannot_be_configured_again(scratch: Path, device: Device) -> None:
    other = make_image(scratch / "other", MIB)
    try:
        with pytest.raises(OSError, match="busy") as caught:
            loop.configure(device.fd, other.fd, block_size=4096, flags=loop.LoopFlag.DIRECT_IO)
        assert caught.value.filename == str(device.path)
    finally:
        os.close(other.fd)


def test_clear_unbinds(image: Image) -> None:
    made = bind(image.fd, flags=loop.LoopFlag.DIRECT_IO)
    loop.clear(made.fd)
    os.close(made.fd)
    wait_unbound(made.number)


def test_an_unbound_number_has_no_facts() -> None:
    assert loop.sysfs_facts(10**6) is None


def test_a_device_can_be_added_and_removed() -> None:
    number = max(loop.free_number(), 900) + os.getpid() % 97
    loop.add(number)
    try:
        with pytest.raises(FileExistsError) as caught:
            loop.add(number)
        assert caught.value.filename == "/dev/loop-control"
    finally:
        loop.remove(number)


def test_a_discard_punches_a_hole_into_the_image(image: Image, device: Device) -> None:
    os.pwrite(image.fd, b"x" * MIB, 0)
    os.fsync(image.fd)
    before = os.fstat(image.fd).st_blocks
    blockdev.discard(device.fd, 0, MIB)
    assert os.fstat(image.fd).st_blocks <= before - MIB // 512
    assert os.pread(image.fd, MIB, 0) == bytes(MIB)


def test_zero_out_makes_zeroes(image: Image, device: Device) -> None:
    os.pwrite(image.fd, b"x" * MIB, 0)
    os.fsync(image.fd)
    blockdev.zero_out(device.fd, 4096, 8192)
    blockdev.flush_buffers(device.fd)
    seen = os.pread(device.fd, 4 * 4096, 0)
    assert seen == b"x" * 4096 + bytes(8192) + b"x" * 4096


def test_device_number_of_a_loop_device(device: Device, image: Image) -> None:
    assert blockdev.device_number(device.fd) == blockdev.DeviceNumber(
        major=loop.MAJOR, minor=device.number
    )
    with pytest.raises(OSError, match="No such device") as caught:
        blockdev.device_number(image.fd)
    assert caught.value.filename == str(image.path)


def test_size_of_what_has_none_is_refused() -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(OSError, match="neither a block device nor a file"):
            blockdev.size(read)
    finally:
        os.close(read)
        os.close(write)
