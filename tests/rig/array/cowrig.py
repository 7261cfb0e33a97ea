"""The cow engine alone, over shards and a pool of its own, without an array."""

import mmap
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from tests.rig.lunfs.lunfsrig import BLOCK, MIB, LunfsRig
from vssemu.array.engines.cow.engine import CowEngine
from vssemu.array.naming import mint_lun_id
from vssemu.vss.array import LunKind
from vssemu.vss.engine import CopyPair, Prepared
from vssemu.vss.identity import LunId


class CowBench:
    """An engine over two shards. luns: the directory of the LUNs' directories."""

    def __init__(self, rig: LunfsRig, luns: Path, engine: CowEngine) -> None:
        self.rig = rig
        self.luns = luns
        self.engine = engine
        self._counter = 0

    def name(self) -> LunId:
        """Return an id that was not used before."""
        self._counter += 1
        return mint_lun_id(self._counter)

    async def lun(self, size: int = 16 * MIB) -> LunId:
        """Make a LUN."""
        lun = self.name()
        await self.engine.create(lun, size)
        return lun

    def shard_of(self, lun: LunId) -> int:
        """Return the shard that has a node."""
        (found,) = [n for n in range(self.rig.shards) if os.path.lexists(self.rig.path(lun, n))]
        return found

    async def prepare(
        self, *luns: LunId, kind: LunKind = LunKind.DIFFERENTIAL
    ) -> tuple[Prepared, list[LunId]]:
        """Prepare copies; give what is prepared, and the copies."""
        pairs = [CopyPair(source=lun, target=self.name()) for lun in luns]
        prepared = await self.engine.prepare(pairs, kind, trio.current_time() + 60)
        return prepared, [pair.target for pair in pairs]

    async def copy(self, *luns: LunId, kind: LunKind = LunKind.DIFFERENTIAL) -> list[LunId]:
        """Take copies, all the way."""
        prepared, copies = await self.prepare(*luns, kind=kind)
        await trio.to_thread.run_sync(self.engine.commit, prepared)
        await self.engine.settle(prepared)
        return copies

    async def write(self, lun: LunId, data: bytes, offset: int = 0) -> None:
        """Write to a node."""
        backing = await self.engine.activate(lun, writable=True)
        await self.write_at(backing.path, data, offset)

    @staticmethod
    async def write_at(path: str, data: bytes, offset: int = 0) -> None:
        """Write to the file of a node."""

        def write() -> None:
            with open(path, "r+b", buffering=0) as file:
                assert os.pwrite(file.fileno(), data, offset) == len(data)

        await trio.to_thread.run_sync(write)

    async def read(self, lun: LunId, length: int, offset: int = 0) -> bytes:
        """Read from a node."""
        backing = await self.engine.activate(lun, writable=False)
        return await trio.to_thread.run_sync(os.pread, backing.descriptor, length, offset)


@asynccontextmanager
async def benched(rig: LunfsRig, luns: Path) -> AsyncIterator[CowBench]:
    """Open an engine over shards during the block."""
    engine = CowEngine(luns, rig.directory)
    try:
        await engine.open()
        yield CowBench(rig, luns, engine)
    finally:
        with trio.CancelScope(shield=True):
            await engine.aclose()


class Numbered:
    """Two nodes in whose first blocks the same numbers are written, one after the other."""

    def __init__(self, first: str, second: str) -> None:
        self._paths = first, second
        self.count = 0
        self.stopped = False

    def run(self) -> None:
        """Write until told to stop: a number to the first, and only then to the second."""
        with (
            _direct(self._paths[0]) as first,
            _direct(self._paths[1]) as second,
            mmap.mmap(-1, BLOCK) as room,
        ):
            while not self.stopped:
                self.count += 1
                room[:8] = self.count.to_bytes(8, "little")
                for descriptor in (first, second):
                    assert os.pwrite(descriptor, room, 0) == BLOCK


@contextmanager
def _direct(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened_directory(path: Path) -> Iterator[int]:
    """Have a directory open during the block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
