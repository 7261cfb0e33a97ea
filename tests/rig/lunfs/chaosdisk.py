"""Files whose requests are done late and in any order, and which forget what was not flushed."""

import errno
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from vssemu.linux.aio import Rooms
from vssemu_fuse.lunfs.io.disk import FileDisk
from vssemu_fuse.lunfs.io.work import Gate, Operation

BLOCK = 4096


class Chaos:
    """The order of things: requests wait here until they are let go."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []

    def let_go(self, order: random.Random) -> bool:
        """Have some request done, if any waits."""
        if not self.waiting:
            return False
        self.waiting.pop(order.randrange(len(self.waiting))).gate.open()
        return True


class Waiting:
    """A request that has not been done. pieces: what it writes."""

    def __init__(
        self, disk: "ChaosDisk", pieces: Sequence[memoryview] = (), offset: int = 0
    ) -> None:
        self.gate = Gate()
        self.disk = disk
        self.pieces = pieces
        self.offset = offset


class ChaosDisk:
    """A file of the pool. failures: so many of the next writes and flushes fail.

    is_full: nothing can be written but the header.

    versions: for blocks of which a power loss may bring an older state, what that may be, in
    the order of writing: (number, bytes).
    """

    def __init__(self, path: Path, chaos: Chaos) -> None:
        self.path = path
        self._inner = FileDisk.open(path)
        self._plain = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._chaos = chaos
        self._number = 0
        self.size = self._inner.size
        self.versions: dict[int, list[tuple[int, bytes]]] = {}
        self.failures = 0
        self.is_full = False

    def raw(self, offset: int, length: int) -> bytes:
        return os.pread(self._plain, length, offset)

    def read(self, rooms: Rooms, offset: int) -> Operation[int]:
        yield from self._wait(Waiting(self))
        count: int = yield self._inner.read(rooms, offset)
        return count

    def write(self, rooms: Rooms, offset: int) -> Operation[int]:
        pieces = [rooms] if isinstance(rooms, memoryview) else list(rooms)
        waiting = Waiting(self, pieces, offset)
        yield from self._wait(waiting)
        if self.is_full and offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._check()
        self.do(waiting)
        return sum(map(len, pieces))

    def flush(self) -> Operation[None]:
        number = self._number
        yield from self._wait(Waiting(self))
        self._check()
        yield self._inner.flush()
        for block, versions in list(self.versions.items()):
            done = sum(each[0] <= number for each in versions)
            del versions[: max(done - 1, 0)]
            if len(versions) == 1:
                del self.versions[block]

    def zero(self, offset: int, length: int) -> None:
        self._note(bytes(length), offset)
        self._inner.zero(offset, length)

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        return self._inner.data_extents(offset, length)

    def refresh(self) -> None:
        self._inner.refresh()

    def close(self) -> None:
        self._inner.close()
        if self._plain >= 0:
            os.close(self._plain)
            self._plain = -1

    # --- what the machine does to it

    def do(self, waiting: Waiting) -> None:
        """Do a write. It takes its bytes from memory now, as a device does."""
        data = b"".join(waiting.pieces)
        self._note(data, waiting.offset)
        os.pwrite(self._plain, data, waiting.offset)

    def lose_power(self, order: random.Random) -> None:
        """Have any of the versions in each block that was not flushed."""
        for block, versions in self.versions.items():
            os.pwrite(self._plain, order.choice(versions)[1], block * BLOCK)
        self.versions.clear()

    # --- inside

    def _check(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _wait(self, waiting: Waiting) -> Operation[None]:
        self._chaos.waiting.append(waiting)
        yield waiting.gate

    def _note(self, data: bytes, offset: int) -> None:
        self._number += 1
        was = os.pread(self._plain, len(data), offset)
        for at in range(0, len(data), BLOCK):
            old, new = was[at : at + BLOCK], data[at : at + BLOCK]
            block = (offset + at) // BLOCK
            if old != new or block in self.versions:
                self.versions.setdefault(block, [(0, old)]).append((self._number, new))
