import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vssemu.linux import locks


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Any]:
    """A lock file that somebody else has locked."""
    fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield fd
    os.close(fd)


def test_a_lock_excludes_others_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    other = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        with locks.locked(path, seconds=1):
            assert not locks.try_lock(other)
        assert locks.try_lock(other)
    finally:
        os.close(other)


def test_shared_locks_do_not_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        locks.locked(path, seconds=1, shared=True, flags=os.O_RDWR | os.O_CREAT),
        locks.locked(path, seconds=1, shared=True) as second,
    ):
        assert not locks.try_lock(second)


def test_at_the_limit_the_file_is_named(tmp_path: Path, held: int) -> None:
    started = time.monotonic()
    with (
        pytest.raises(TimeoutError, match=r"still locked by others after 0\.3 s") as caught,
        locks.locked(tmp_path / "lock", seconds=0.3),
    ):
        pass
    assert caught.value.filename == str(tmp_path / "lock")
    assert 0.3 <= time.monotonic() - started < 5


def test_a_lock_that_is_given_up_in_time_is_obtained_and_kept(tmp_path: Path, held: int) -> None:
    """This test will let go of the lock while flock(1) waits for it in our place."""
    release = threading.Timer(0.3, locks.unlock, [held])
    release.start()
    with locks.locked(tmp_path / "lock", seconds=30):
        release.join()
        assert not locks.try_lock(held)
    assert locks.try_lock(held)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locks.locked(tmp_path / "none", seconds=1):
        pass


def test_a_locked_byte_is_one_open_files_and_no_other_byte_is(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.touch()
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    try:
        assert locks.try_lock_byte(first, 4000)
        assert locks.try_lock_byte(first, 4000), "its own again"
        assert not locks.try_lock_byte(second, 4000)
        assert locks.try_lock_byte(second, 4001)
        assert locks.try_lock(second), "a lock of the whole file is another thing"
        locks.unlock_byte(first, 4000)
        assert locks.try_lock_byte(second, 4000)
    finally:
        os.close(first)
        os.close(second)


def test_a_byte_is_free_when_its_holder_has_closed_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.touch()
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    assert locks.try_lock_byte(first, 7)
    os.close(first)
    assert locks.try_lock_byte(second, 7)
    os.close(second)


def test_a_byte_of_a_file_opened_for_reading_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(OSError, match="bytes"):
        locks.try_lock_byte(fd, 0)
    os.close(fd)
