"""The table as sgdisk and blkid see it, on a loop device with 4096-byte blocks."""

import os
import uuid
from typing import Any

import pytest

from tests.rig.linux.conftest import MIB, Device, Image
from vssemu.linux import blockdev, gpt, run
from vssemu.linux.gpt import GptAttribute

IDENTITY = uuid.UUID("7a1f0c7e-30f0-4d5a-9d0b-0123456789ab")


@pytest.fixture
def table() -> Any:
    first = gpt.Partition(
        number=1,
        type_guid=gpt.BASIC_DATA,
        unique_guid=IDENTITY,
        first_lba=256,
        last_lba=4095,
        attributes=GptAttribute.SHADOW_COPY | GptAttribute.NO_DRIVE_LETTER,
        name="Volume Ä",
    )
    second = gpt.Partition(
        number=4,
        type_guid=gpt.LINUX_DATA,
        unique_guid=uuid.uuid4(),
        first_lba=4096,
        last_lba=8191,
    )
    return gpt.create_table(64 * MIB, [first, second])


def sgdisk(device: Device, *options: str) -> Any:
    blockdev.flush_buffers(device.fd)
    return run.run(["sgdisk", *options, str(device.path)], timeout=30).stdout


def test_sgdisk_finds_no_fault_and_the_same_facts(
    image: Image, device: Device, table: gpt.Gpt
) -> None:
    gpt.write_table(image.fd, table)
    assert "No problems found" in sgdisk(device, "--verify")
    printed = sgdisk(device, "--info=1")
    assert f"Partition unique GUID: {str(IDENTITY).upper()}" in printed
    assert f"Partition GUID code: {str(gpt.BASIC_DATA).upper()}" in printed
    assert "First sector: 256 " in printed
    assert "Last sector: 4095 " in printed
    assert "Attribute flags: A000000000000000" in printed
    assert "Partition name: 'Volume Ä'" in printed
    assert str(table.disk_guid).upper() in sgdisk(device, "--print")


def test_a_table_made_by_sgdisk_is_read(image: Image, device: Device) -> None:
    sgdisk(
        device,
        "--new=1:256:1023",
        "--change-name=1:data",
        f"--partition-guid=1:{IDENTITY}",
        "--typecode=1:0700",
        "--attributes=1:set:61",
        "--new=128:1024:2047",
    )
    os.fsync(device.fd)
    read = gpt.read_table(image.fd)
    assert read.blocks == 64 * MIB // 4096
    assert [each.number for each in read.partitions] == [1, 128]
    assert read.partition(1) == gpt.Partition(
        number=1,
        type_guid=gpt.BASIC_DATA,
        unique_guid=IDENTITY,
        first_lba=256,
        last_lba=1023,
        attributes=GptAttribute.SHADOW_COPY,
        name="data",
    )
    created = gpt.create_table(64 * MIB, read.partitions, disk_guid=read.disk_guid)
    assert created == read


def test_a_change_is_valid_for_sgdisk_and_seen_past_the_cache(
    image: Image, device: Device, table: gpt.Gpt
) -> None:
    gpt.write_table(image.fd, table)
    os.pread(device.fd, MIB, 0)
    gpt.change_partition(image.fd, 1, attributes=GptAttribute(0), disk_guid=IDENTITY)
    assert gpt.read_table(device.fd).partition(1).attributes == 0
    assert "No problems found" in sgdisk(device, "--verify")
    assert "Attribute flags: 0000000000000000" in sgdisk(device, "--info=1")


def test_blkid_sees_a_gpt_behind_the_protective_mbr(
    image: Image, device: Device, table: gpt.Gpt
) -> None:
    gpt.write_table(device.fd, table)
    blockdev.flush_buffers(device.fd)
    printed = run.run(["blkid", "-p", "-o", "export", str(device.path)], timeout=30).stdout
    assert "PTTYPE=gpt" in printed
    assert f"PTUUID={table.disk_guid}" in printed


def test_a_write_through_a_read_only_descriptor_fails(image: Image, table: gpt.Gpt) -> None:
    fd = os.open(image.path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            gpt.write_table(fd, table)
        assert caught.value.filename == str(image.path)
    finally:
        os.close(fd)
