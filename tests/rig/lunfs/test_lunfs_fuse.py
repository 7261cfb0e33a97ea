"""Files of a lunfs's mount: names and numbers, sizes, bytes of any alignment, holes."""

import mmap
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.lunfs import plainserver
from tests.rig.lunfs.conftest import make_images, scratch
from tests.rig.lunfs.lunfsrig import BLOCK, MIB, LunfsRig, run, running
from vssemu.linux import libc, loop, statx
from vssemu.rpc.client import connect
from vssemu_fuse.lunfs.fuse.names import inode_of

PUNCH_KEEPING_SIZE, ZERO_RANGE, COLLAPSE = 3, 16, 8


def look(rig: LunfsRig) -> None:
    """Have the shard take over new files and sizes."""
    with connect(rig.socket(0), timeout=10) as client:
        client.call(plainserver.look)


@pytest.fixture(scope="module")
def shard() -> Iterator[tuple[LunfsRig, Path]]:
    """One shard for all tests here, and the directory of its images."""
    with scratch() as directory:
        images = make_images(directory)
        with running(directory, images=images) as rig:
            yield rig, images


@pytest.fixture
def images(shard: tuple[LunfsRig, Path]) -> Path:
    return shard[1]


@pytest.fixture
def plain(shard: tuple[LunfsRig, Path]) -> LunfsRig:
    """The shard, its first image all zero."""
    rig, images = shard
    os.truncate(images / "first", 0)
    os.truncate(images / "first", 64 * MIB)
    look(rig)
    return rig


def test_the_directory_lists_the_files_with_their_numbers(plain: LunfsRig) -> None:
    directory = plain.mount()
    with plain.guarded():
        listed = os.listdir(f"/proc/self/fd/{directory}")
        root = os.fstat(directory)
        first = os.stat("first", dir_fd=directory)
    assert {"first", "second"} <= set(listed)
    assert root.st_ino == 1
    assert (first.st_ino, first.st_size) == (inode_of("first"), 64 * MIB)
    assert first.st_blksize == BLOCK


def test_there_may_be_more_names_than_one_answer_holds(plain: LunfsRig, images: Path) -> None:
    names = {f"naa.{number:032x}" for number in range(200)}
    for name in names:
        (images / name).write_bytes(bytes(BLOCK))
    look(plain)
    with plain.guarded():
        assert set(os.listdir(f"/proc/self/fd/{plain.mount()}")) == names | {"first", "second"}


def test_numbers_are_the_same_after_a_restart(plain: LunfsRig) -> None:
    held = plain.open("first")
    before = os.fstat(held)
    plain.restart()
    plain.forget_mount()
    again = plain.open("first")
    with plain.guarded():
        after = os.fstat(again)
        os.pwrite(held, b"seen through both", 0)
        assert os.pread(again, 17, 0) == b"seen through both"
    assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino)
    os.close(held)
    os.close(again)


def test_what_is_not_there_and_what_is_not_done(plain: LunfsRig) -> None:
    with pytest.raises(FileNotFoundError):
        plain.open("third")
    with pytest.raises(OSError, match="not implemented"):
        plain.open("third", flags=os.O_RDWR | os.O_CREAT)
    fd = plain.open("first")
    with plain.guarded():
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(fd, MIB)
        os.ftruncate(fd, 64 * MIB)
        os.utime(fd)
        with pytest.raises(OSError, match="too large"):
            os.pwrite(fd, bytes(BLOCK), 64 * MIB)
        assert os.pread(fd, BLOCK, 64 * MIB) == b""
        assert len(os.pread(fd, 2 * BLOCK, 64 * MIB - BLOCK)) == BLOCK
        with pytest.raises(OSError, match="not supported"):
            libc.fallocate(fd, COLLAPSE, 0, BLOCK)
        with pytest.raises(OSError, match="No such device"):
            os.lseek(fd, 64 * MIB, os.SEEK_DATA)
        assert os.lseek(fd, 5, os.SEEK_DATA) == 5
        assert os.lseek(fd, 5, os.SEEK_HOLE) == 64 * MIB
        assert os.statvfs(fd).f_bsize == BLOCK
    os.close(fd)


def test_bytes_of_any_alignment(plain: LunfsRig, images: Path) -> None:
    chance = random.Random(5)
    model = bytearray(4 * MIB)
    fd = plain.open("first")
    with plain.guarded():
        for _ in range(150):
            length = chance.choice([1, 511, 4096, 5000, 70_000, 300_000, MIB + 512])
            offset = chance.randrange(len(model) - length)
            if chance.random() < 0.5:
                data = chance.randbytes(length)
                assert os.pwrite(fd, data, offset) == length
                model[offset : offset + length] = data
            else:
                assert os.pread(fd, length, offset) == model[offset : offset + length]
    os.close(fd)
    assert (images / "first").read_bytes()[: len(model)] == model


def test_parts_of_one_block_written_at_once_are_all_there(plain: LunfsRig, images: Path) -> None:
    fd = plain.open("first")

    def write(part: int) -> None:
        for block in range(50):
            os.pwrite(fd, bytes([part + 1]) * 512, block * BLOCK + part * 512)

    threads = [threading.Thread(target=write, args=[part]) for part in range(8)]
    with plain.guarded():
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    os.close(fd)
    block = b"".join(bytes([part + 1]) * 512 for part in range(8))
    assert (images / "first").read_bytes()[: 50 * BLOCK] == block * 50


def test_direct_io_from_memory_that_lies_across_pages(plain: LunfsRig, images: Path) -> None:
    """The kernel cuts such a write at any 512 bytes; a database does so with malloc'd memory."""
    data = random.Random(7).randbytes(3 * MIB)
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with plain.loop("first") as device, mmap.mmap(-1, 8 * MIB, flags=private) as memory:
        # Huge pages make for requests that are larger than what goes over FUSE at once.
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory[:] = bytes(len(memory))
        room = memoryview(memory)[512 : 512 + len(data)]
        direct = os.open(device.path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
        with plain.guarded():
            room[:] = data
            assert os.pwritev(direct, [room], MIB) == len(data)
            room[:] = bytes(len(data))
            assert os.preadv(direct, [room], MIB) == len(data)
        assert room == data
        os.close(direct)
        room.release()
    assert (images / "first").read_bytes()[MIB : MIB + len(data)] == data


def test_a_loop_device_has_direct_io_blocks_and_discards(plain: LunfsRig) -> None:
    with plain.loop("first") as device:
        facts = device.facts
        queue = Path(f"/sys/block/loop{device.number}/queue")
        assert facts.direct_io
        assert (facts.logical_block_size, facts.size) == (BLOCK, 64 * MIB)
        assert int((queue / "discard_max_bytes").read_text()) > 0
        assert int((queue / "write_zeroes_max_bytes").read_text()) > 0


def test_discards_and_zeroes_make_holes(plain: LunfsRig, images: Path) -> None:
    image = images / "first"
    with plain.loop("first") as device:
        data = random.Random(9).randbytes(16 * MIB)
        with plain.guarded():
            os.pwrite(device.fd, data, 0)
            os.fsync(device.fd)
        assert image.stat().st_blocks * 512 >= 16 * MIB
        run("blkdiscard", "-o", 0, "-l", 8 * MIB, device.path)
        run("blkdiscard", "-z", "-o", 8 * MIB, "-l", 4 * MIB, device.path)
    assert image.stat().st_blocks * 512 <= 5 * MIB
    assert image.read_bytes()[: 16 * MIB] == bytes(12 * MIB) + data[12 * MIB :]
    # BLKZEROOUT on the file itself, as a loop device does it that must keep the room.
    fd = plain.open("first")
    with plain.guarded():
        libc.fallocate(fd, ZERO_RANGE, 12 * MIB, MIB)
        libc.fallocate(fd, PUNCH_KEEPING_SIZE, 13 * MIB, MIB)
    os.close(fd)
    assert image.read_bytes()[12 * MIB : 16 * MIB] == bytes(2 * MIB) + data[14 * MIB :]


def test_a_loop_device_sees_what_its_file_grew_to(plain: LunfsRig, images: Path) -> None:
    with plain.loop("first") as device:
        os.truncate(images / "first", 80 * MIB)
        look(plain)
        with plain.guarded():
            loop.set_capacity(device.fd)
        assert device.facts.size == 80 * MIB
        with plain.guarded():
            os.pwrite(device.fd, b"new", 79 * MIB)
            os.fsync(device.fd)
    assert (images / "first").read_bytes()[79 * MIB :][:3] == b"new"


def test_two_shards_have_two_mounts(directory: Path) -> None:
    images = make_images(directory)
    with running(directory, images=images, shards=2) as rig:
        with rig.guarded():
            numbers = [os.fstat(rig.mount(shard)).st_dev for shard in range(2)]
        assert numbers[0] != numbers[1]
        with rig.loop("first", 0) as one, rig.loop("second", 1) as other, rig.dead(0):
            # One is dead, the other goes on.
            with rig.guarded():
                os.pwrite(other.fd, b"other", 0)
                os.fsync(other.fd)
            assert one.facts.direct_io
    assert (images / "second").read_bytes()[:5] == b"other"


def test_a_look_at_a_loop_device_never_waits_for_a_dead_shard(plain: LunfsRig) -> None:
    """Looking at all loop devices of the machine asks for inodes, which the kernel keeps."""
    with plain.loop("first") as device:
        os.pwrite(device.fd, b"x", 0)
        os.fsync(device.fd)
        with plain.dead():
            seen: list[object] = []
            look_at = threading.Thread(target=lambda: seen.append(loop.status(device.fd)))
            look_at.start()
            look_at.join(2)
            assert seen


def test_what_a_file_is_can_be_told_while_its_shard_hangs(plain: LunfsRig) -> None:
    """After a restart the kernel asks for inodes anew: devices over others' files are passed."""
    with plain.loop("first") as device:
        fd = plain.open("first")
        facts = os.fstat(fd)
        plain.restart()
        os.kill(plain.pid(), signal.SIGSTOP)
        seen: list[object] = []

        def look_at() -> None:
            seen.append(statx.identity(fd))
            seen.append(loop.backing_file(device.number))
            seen.append(loop.bindings_of({(0, 0)}, may_be=lambda name: name.endswith("/other")))

        thread = threading.Thread(target=look_at)
        thread.start()
        thread.join(10)
        found = list(seen)
        os.kill(plain.pid(), signal.SIGCONT)
        thread.join()
        assert found == [(facts.st_dev, facts.st_ino), "/first", []]
        os.close(fd)
