"""Reading a raw device for several openers, on a plain file."""

import errno
import os
import threading
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from vssemu_fuse.devicefs import image
from vssemu_fuse.devicefs.image import RawImage

CONTENTS = os.urandom(5 * image.ALIGNMENT)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "device"
    path.write_bytes(CONTENTS)
    return path


class Opener:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[int] = []

    def __call__(self) -> int:
        self.opened.append(os.open(self.path, os.O_RDONLY))
        return self.opened[-1]

    def is_closed(self) -> bool:
        try:
            os.fstat(self.opened[-1])
        except OSError as error:
            return error.errno == errno.EBADF
        return False


@settings(max_examples=60)
@given(offset=st.integers(0, len(CONTENTS) + 9), length=st.integers(1, len(CONTENTS)))
def test_any_range_reads_as_it_is(path: Path, offset: int, length: int) -> None:
    async def read() -> bytes:
        raw = RawImage(Opener(path))
        try:
            return bytes(await raw.read(offset, length))
        finally:
            await raw.retire()

    assert trio.run(read) == CONTENTS[offset : offset + length]


async def test_readers_share_one_descriptor_until_the_copy_goes(path: Path) -> None:
    opener = Opener(path)
    raw = RawImage(opener)
    raw.open()
    for _ in range(2):
        assert bytes(await raw.read(1, 2)) == CONTENTS[1:3]
    assert len(opener.opened) == 1
    assert not opener.is_closed()
    await raw.retire()
    assert opener.is_closed()


async def test_an_image_that_nobody_used_is_retired_at_once(path: Path) -> None:
    opener = Opener(path)
    with trio.fail_after(20):
        await RawImage(opener).retire()
    assert opener.opened == []


async def test_a_retired_image_is_closed_and_stale(path: Path) -> None:
    opener = Opener(path)
    raw = RawImage(opener)
    raw.open()
    await raw.retire()
    assert opener.is_closed()
    with pytest.raises(OSError, match="Stale"):
        await raw.read(0, 1)
    with pytest.raises(OSError, match="Stale"):
        raw.open()


async def test_retiring_waits_for_reads_under_way(
    path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    device_answers = threading.Event()

    def slow_device(fd: int, offset: int, length: int) -> memoryview:
        assert device_answers.wait(20)
        return memoryview(os.pread(fd, length, offset))

    monkeypatch.setattr(image, "_read_direct", slow_device)
    opener = Opener(path)
    raw = RawImage(opener)
    raw.open()
    results: list[bytes] = []
    retired = trio.Event()

    async def read() -> None:
        results.append(bytes(await raw.read(0, 10)))

    async def retire() -> None:
        await raw.retire()
        retired.set()

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    nursery.start_soon(retire)
    await wait_all_tasks_blocked()
    assert not opener.is_closed()
    assert not retired.is_set()
    device_answers.set()
    with trio.fail_after(20):
        await retired.wait()
    assert opener.is_closed()
    assert results == [CONTENTS[:10]]


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="/sys/dev/block/7:999999"):
        image.open_block_device(7, 999999)
