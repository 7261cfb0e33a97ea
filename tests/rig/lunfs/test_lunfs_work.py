"""Operations over asynchronous I/O: results, errors, what comes together, what waits."""

import errno
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.lunfs.chains import directory, sparse, wait
from vssemu_fuse.lunfs.io.buffers import aligned
from vssemu_fuse.lunfs.io.disk import FileDisk
from vssemu_fuse.lunfs.io.work import Gate, Operation, Worker

BLOCK = 4096
SIZE = 1 << 20


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker(depth=8) as worker:
        yield worker


@pytest.fixture
def path() -> Iterator[Path]:
    with directory() as made:
        yield made / "file"


@pytest.fixture
def disk(path: Path) -> Iterator[FileDisk]:
    disk = sparse(path, SIZE)
    yield disk
    disk.close()


def test_rooms_are_written_and_read_one_after_the_other(
    worker: Worker, disk: FileDisk, path: Path
) -> None:
    room = aligned(4 * BLOCK)
    room[: 2 * BLOCK] = b"a" * BLOCK + b"b" * BLOCK
    pieces = [room[BLOCK : 2 * BLOCK], room[:BLOCK]]
    assert wait(worker, disk.write(pieces, BLOCK)) == 2 * BLOCK
    assert path.read_bytes()[BLOCK : 3 * BLOCK] == b"b" * BLOCK + b"a" * BLOCK
    assert wait(worker, disk.read([room[3 * BLOCK :], room[2 * BLOCK : 3 * BLOCK]], BLOCK))
    assert bytes(room[2 * BLOCK :]) == b"a" * BLOCK + b"b" * BLOCK


def test_more_requests_than_there_is_depth_are_all_done(worker: Worker, disk: FileDisk) -> None:
    room = aligned(SIZE)

    def all_blocks() -> Operation[list[int]]:
        works = [
            disk.write(room[at : at + BLOCK], SIZE - BLOCK - at) for at in range(0, SIZE, BLOCK)
        ]
        counts: list[int] = yield works
        return counts

    assert wait(worker, all_blocks()) == [BLOCK] * (SIZE // BLOCK)
    assert worker.idle


def test_a_transfer_past_the_end_is_an_error_where_it_was_asked_for(
    worker: Worker, disk: FileDisk
) -> None:
    def careful() -> Operation[int]:
        try:
            yield disk.read(aligned(2 * BLOCK), SIZE - BLOCK)
        except OSError as error:
            return error.errno or 0
        return 0

    assert wait(worker, careful()) == errno.EIO


def test_one_of_several_fails_and_the_others_are_waited_for(
    worker: Worker, disk: FileDisk, path: Path
) -> None:
    room = aligned(BLOCK)
    room[:] = b"x" * BLOCK

    def several() -> Operation[None]:
        yield [disk.read(aligned(BLOCK), SIZE), disk.write(room, 0), slow()]

    done = []

    def slow() -> Operation[None]:
        yield disk.flush()
        yield disk.flush()
        done.append(True)

    with pytest.raises(OSError, match="0 of 4096 bytes"):
        wait(worker, several())
    assert done
    assert path.read_bytes()[:BLOCK] == bytes(room)


def test_a_request_that_the_kernel_refuses_is_answered(worker: Worker, disk: FileDisk) -> None:
    disk.close()
    closed = FileDisk.__new__(FileDisk)
    closed._fd = 1 << 20
    with pytest.raises(OSError, match="Bad file descriptor"):
        wait(worker, closed.read(aligned(BLOCK), 0))
    assert worker.idle


def test_a_gate_lets_those_go_on_who_wait_now(worker: Worker) -> None:
    gate, seen = Gate(), []

    def waits(name: str) -> Operation[None]:
        yield gate
        seen.append(name)
        yield gate
        seen.append(name)

    worker.start(waits("a"), lambda result: None)
    worker.start(waits("b"), lambda result: None)
    assert not worker.turn()
    gate.open()
    assert worker.turn()
    assert seen == ["a", "b"]
    gate.open()
    worker.turn()
    assert seen == ["a", "b", "a", "b"]


def test_a_time_makes_the_descriptor_readable(worker: Worker) -> None:
    called: list[int] = []
    now = time.monotonic()
    worker.at(now + 0.03, lambda: called.append(2))
    worker.at(now + 0.01, lambda: called.append(1))
    poll = select.poll()
    poll.register(worker.fileno(), select.POLLIN)
    while len(called) < 2:
        assert poll.poll(5000)
        worker.turn()
    assert called == [1, 2]
    assert time.monotonic() >= now + 0.03
    assert not poll.poll(0)
