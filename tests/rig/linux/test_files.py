"""Reflinks, hints and direct I/O on real file systems; what a new one says of itself."""

import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.linux.conftest import MIB, Device, Image, bind, make_image
from vssemu.linux import directio, filesystems, freeze, fsxattr, mount, reflink, run
from vssemu.linux.filesystems import Filesystem


@pytest.fixture
def pool(scratch: Path) -> Any:
    """An xfs that can share blocks, mounted."""
    image = make_image(scratch / "pool.image", 1024 * MIB)
    device = bind(image.fd)
    os.close(image.fd)
    filesystems.make_xfs(device.path, timeout=60, allocation_groups=8, label="pool")
    target = scratch / "pool"
    target.mkdir()
    mount.mount(device.path, target, "xfs")
    os.close(device.fd)
    return target


@pytest.fixture
def origin(pool: Path) -> Iterator[Any]:
    fd = os.open(pool / "origin", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"a" * MIB, 0)
    os.fsync(fd)
    yield fd
    os.close(fd)


@pytest.fixture
def target(pool: Path) -> Iterator[Any]:
    fd = os.open(pool / "target", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_xfs_can_clone_and_ext4_cannot(pool: Path, mounted: Path) -> None:
    before = sorted(os.listdir(pool))
    assert reflink.can_clone(pool)
    assert not reflink.can_clone(mounted)
    assert sorted(os.listdir(pool)) == before


def test_a_clone_keeps_its_bytes_when_the_origin_is_written(origin: int, target: int) -> None:
    reflink.clone(origin, target)
    os.pwrite(origin, b"b" * 4096, 0)
    assert os.pread(target, 2 * MIB, 0) == b"a" * MIB


def test_a_range_is_cloned_and_a_hole_punches(origin: int, target: int) -> None:
    os.pwrite(target, b"c" * MIB, 0)
    reflink.clone_range(origin, target, source_offset=0, length=4096, offset=8192)
    assert os.pread(target, 4 * 4096, 0) == b"c" * 8192 + b"a" * 4096 + b"c" * 4096
    os.ftruncate(origin, 2 * MIB)
    reflink.clone_range(origin, target, source_offset=MIB, length=4096, offset=0)
    assert os.pread(target, 4096, 0) == bytes(4096)


def test_a_clone_across_file_systems_names_the_target(origin: int, scratch: Path) -> None:
    with (scratch / "other").open("wb") as other:
        with pytest.raises(OSError, match="cross-device") as caught:
            reflink.clone(origin, other.fileno())
        assert caught.value.filename == str(scratch / "other")


def test_the_copy_on_write_hint_is_what_xfs_io_reads(pool: Path, origin: int) -> Any:
    def hint() -> Any:
        argv = ["xfs_io", "-r", "-c", "cowextsize", str(pool / "origin")]
        return run.run(argv, timeout=10).stdout.split()[0]

    fsxattr.set_cow_extent_size(origin, 4096)
    assert hint() == "[4096]"
    seen = fsxattr.attributes(origin)
    assert seen.cow_extent_size == 4096
    assert fsxattr.FileFlag.COW_EXTENT_SIZE in seen.flags
    fsxattr.set_cow_extent_size(origin, 0)
    assert hint() == "[0]"


def test_a_small_hint_saves_the_space_of_scattered_writes(pool: Path, origin: int) -> Any:
    """This test will write one block in 32 of a clone's origin, without and with the hint."""

    def grown(name: str, hint: int) -> Any:
        fd = os.open(pool / name, os.O_RDWR | os.O_CREAT)
        try:
            fsxattr.set_cow_extent_size(fd, hint)
            os.pwrite(fd, b"a" * 4 * MIB, 0)
            os.fsync(fd)
            with (pool / f"{name}.clone").open("wb") as clone:
                reflink.clone(fd, clone.fileno())
            before = os.fstat(fd).st_blocks
            for offset in range(0, 4 * MIB, 128 * 1024):
                directio.pwrite(fd, b"b" * 4096, offset)
            return (os.fstat(fd).st_blocks - before) * 512
        finally:
            os.close(fd)

    assert grown("small", 4096) < MIB < grown("large", 0)


def test_a_hint_on_ext4_is_refused(mounted: Path) -> None:
    fd = freeze.open_directory(mounted)
    try:
        with pytest.raises(OSError, match="does not keep") as caught:
            fsxattr.set_cow_extent_size(fd, 4096)
        assert caught.value.filename == str(mounted)
    finally:
        os.close(fd)


def test_direct_io_sees_through_the_cache_of_another_device(image: Image, device: Device) -> None:
    """This test will write through a second device over the same bytes."""
    assert os.pread(device.fd, 4096, 0) == bytes(4096)
    part = bind(image.fd, offset=0, size_limit=MIB)
    try:
        directio.pwrite(part.fd, b"n" * 4096, 0)
        assert os.pread(device.fd, 4096, 0) == bytes(4096), "the stale cache is the premise"
        assert directio.pread(device.fd, 4096, 0) == b"n" * 4096
    finally:
        os.close(part.fd)


def test_direct_reads_of_any_place_and_length(image: Image) -> None:
    content = os.urandom(3 * MIB + 100)
    os.pwrite(image.fd, content, 0)
    os.ftruncate(image.fd, len(content))
    for offset, length in [(0, 1), (5000, 3), (4095, 2 * MIB), (MIB - 1, 4 * MIB), (4 * MIB, 9)]:
        assert directio.pread(image.fd, length, offset) == content[offset : offset + length]


def test_the_flags_of_the_given_descriptor_stay(image: Image) -> None:
    before = fcntl.fcntl(image.fd, fcntl.F_GETFL)
    directio.pwrite(image.fd, b"x" * 8192, 4096)
    assert fcntl.fcntl(image.fd, fcntl.F_GETFL) == before
    direct = os.open(image.path, os.O_RDWR | os.O_DIRECT)
    try:
        directio.pwrite(direct, b"y" * 2 * MIB, 0)
        assert directio.pread(direct, 3, 2 * MIB - 2) == b"yy\0"
    finally:
        os.close(direct)


def test_an_unaligned_direct_write_is_refused(image: Image) -> None:
    with pytest.raises(OSError, match="not aligned to 4096 bytes") as caught:
        directio.pwrite(image.fd, b"x", 0)
    assert caught.value.filename == str(image.path)


def test_a_file_whose_name_is_gone_is_still_read_directly(image: Image) -> None:
    os.pwrite(image.fd, b"x", 0)
    image.path.unlink()
    assert directio.pread(image.fd, 1, 0) == b"x"


def blkid(device: Device) -> Any:
    printed = run.run(["blkid", "-p", "-o", "export", str(device.path)], timeout=10).stdout
    return dict(line.split("=", 1) for line in printed.splitlines())


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        (["mkfs.ext4", "-q", "-F", "-b", "4096"], Filesystem.EXT4),
        (["mkfs.ext3", "-q", "-F", "-b", "4096"], Filesystem.EXT3),
        (["mkfs.ext2", "-q", "-F", "-b", "4096"], Filesystem.EXT2),
    ],
)
def test_probe_agrees_with_blkid(device: Device, program: Any, kind: Any) -> None:
    run.run([*program, "-L", "über", str(device.path)], timeout=60)
    facts = filesystems.probe(device.fd)
    seen = blkid(device)
    assert facts is not None
    assert facts.kind is kind
    assert (facts.kind.value, facts.uuid, facts.label) == (
        seen["TYPE"], seen["UUID"], "über",
    )  # fmt: skip
    assert facts.block_size == 4096


def test_a_new_ext4_has_the_asked_identity_and_blocks_of_4096_bytes(device: Device) -> None:
    identity = uuid.uuid4()
    filesystems.make_ext4(device.path, timeout=30, label="DATA", identity=identity)
    assert filesystems.probe(device.fd) == filesystems.FilesystemFacts(
        kind=Filesystem.EXT4, label="DATA", uuid=str(identity), block_size=4096
    )


def test_a_new_xfs_has_sectors_of_4096_bytes_and_the_asked_groups(pool: Path) -> None:
    printed = run.run(["xfs_info", str(pool)], timeout=10).stdout
    assert "agcount=8" in printed
    assert "reflink=1" in printed
    assert "sectsz=4096" in printed
    (facts,) = [each for each in mount.mounts() if each.mount_point == pool]
    fd = os.open(facts.source, os.O_RDONLY)
    try:
        assert filesystems.probe(fd) == filesystems.FilesystemFacts(
            kind=Filesystem.XFS, label="pool", uuid=blkid_uuid(facts.source), block_size=4096
        )
    finally:
        os.close(fd)


def blkid_uuid(source: str) -> Any:
    argv = ["blkid", "-p", "-s", "UUID", "-o", "value", source]
    return run.run(argv, timeout=10).stdout.strip()


def test_an_empty_device_holds_no_file_system(device: Device) -> None:
    assert filesystems.probe(device.fd) is None


def test_mkfs_on_nothing_tells_why(scratch: Path) -> None:
    with pytest.raises(run.ProgramFailed, match=r"mkfs\.ext4.*exit status 1"):
        filesystems.make_ext4(scratch / "none", timeout=30)
