"""Chains on real files, driven without a FUSE connection."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.chain.chain import Chain, prepare_store
from vssemu_fuse.lunfs.io.buffers import Scratch, aligned
from vssemu_fuse.lunfs.io.disk import FileDisk
from vssemu_fuse.lunfs.io.view import View
from vssemu_fuse.lunfs.io.work import Work, Worker

LIMIT = 10_000
"""Milliseconds that one request may take."""


@contextmanager
def directory() -> Iterator[Path]:
    """A directory whose files can be opened with O_DIRECT; in memory where that can be."""
    for parent in (Path("/dev/shm"), None):
        with TemporaryDirectory(prefix="vssemu-chain-", dir=parent) as name:
            path = Path(name, "probe")
            path.touch()
            try:
                os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
            except OSError:
                continue
            path.unlink()
            yield Path(name)
            return


def sparse(path: Path, size: int) -> FileDisk:
    with path.open("wb") as file:
        file.truncate(size)
    return FileDisk.open(path)


def wait(worker: Worker, work: Work[object]) -> object:
    """Run something to its end and return its result; an OSError is raised."""
    results: list[object] = []
    worker.run(work, results.append)
    poll = select.poll()
    poll.register(worker.fileno(), select.POLLIN)
    while not results:
        if not worker.turn() and not results:
            assert poll.poll(LIMIT), "nothing comes any more"
    if isinstance(results[0], OSError):
        raise results[0]
    return results[0]


class Driver:
    """A chain of one origin, one request at a time."""

    def __init__(self, path: Path, size: int, *, chunk_size: int, power: bool = True) -> None:
        self.path = path
        self.worker = Worker()
        self.chain = Chain(
            self.worker,
            Scratch(rooms=2),
            LunId("origin"),
            sparse(path / "origin", size),
            chunk_size=chunk_size,
            power=power,
        )

    def close(self) -> None:
        self.worker.close()
        self.chain.close()

    def snapshot(self, name: str, of: str = "origin", *, store: int) -> None:
        disk = sparse(self.path / name, store)
        wait(self.worker, prepare_store(disk, self.chain.chunk_size))
        hold = self.chain.hold(LunId(of), 10)
        assert wait(self.worker, hold.quiet())
        self.chain.insert(LunId(name), disk, LunId(of))
        hold.release()

    def view(self, name: str) -> View:
        return self.chain.view(LunId(name))

    def write(self, name: str, data: bytes, offset: int) -> None:
        room = aligned(len(data))
        room[:] = data
        assert wait(self.worker, self.view(name).write(room, offset)) == len(data)

    def read(self, name: str, length: int, offset: int) -> bytes:
        room = aligned(length)
        assert wait(self.worker, self.view(name).read(room, offset)) == length
        return bytes(room)

    def whole(self, name: str) -> bytes:
        return self.read(name, self.view(name).size, 0)

    def zero(self, name: str, offset: int, length: int) -> None:
        wait(self.worker, self.view(name).zero(offset, length))

    def remove(self, name: str) -> None:
        wait(self.worker, self.chain.remove(LunId(name)))
