"""A shard over a pool, for tests of faults: LUNs, snapshots, direct I/O, many requests at once."""

import itertools
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tests.rig.lunfs.lunfsrig import BLOCK, MIB, Device, LunfsRig, running, wait_until, xfs_pool
from vssemu.api import lunfaults as faults
from vssemu.api import shard as api
from vssemu.faults.luns import LunFault, LunFaultKind, parse_sectors
from vssemu.rpc.interface import Method
from vssemu.vss.engine import CopyPair
from vssemu.vss.identity import LunId

P = ParamSpec("P")
R = TypeVar("R")


class FaultRig:
    """One shard, whose LUNs are numbered."""

    def __init__(self, rig: LunfsRig, pool: Path) -> None:
        self.rig = rig
        self.pool = pool
        self._numbers = itertools.count(1)

    def call(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.rig.call(0, method, *args, **kwargs)

    def lun(self, size: int = 16 * MIB) -> LunId:
        """Make a LUN."""
        lun = self.name()
        self.call(api.create, lun, size)
        return lun

    def snapshot(self, source: LunId) -> LunId:
        """Take a snapshot, which outlives a loss of power."""
        pair = CopyPair(source=source, target=self.name())
        self.call(api.prepare, [pair])
        self.call(api.commit, [pair])
        self.call(api.settle, [pair.target])
        return pair.target

    def name(self) -> LunId:
        """Return the name of a LUN that is to be."""
        return LunId(f"naa.6{next(self._numbers):031x}")

    def fault(self, lun: LunId, kind: LunFaultKind, sectors: str = "", **more: Any) -> LunFault:
        """Set a fault."""
        ranges = parse_sectors(sectors) if sectors else ()
        return self.call(faults.set_lun_fault, lun, LunFault(kind=kind, sectors=ranges, **more))

    def clear(self, lun: LunId | None = None) -> int:
        return self.call(faults.clear_lun_faults, lun)

    def standing(self, lun: LunId) -> int:
        """Return how many requests are stuck."""
        found = self.call(faults.list_lun_faults)
        return sum(one.standing for one in found if one.lun == lun)

    def met(self, lun: LunId) -> int:
        """Return how many requests met a fault."""
        return sum(one.met for one in self.call(faults.list_lun_faults) if one.lun == lun)


@contextmanager
def fault_rig(directory: Path, size: int = 1 << 30) -> Iterator[FaultRig]:
    """Run a shard over a pool of its own during the block."""
    with xfs_pool(directory, size) as pool, running(directory) as rig:
        rig.serve(pool)
        try:
            yield FaultRig(rig, pool)
        except BaseException:
            print(rig.log()[-5000:])
            raise


def write(device: Device, block: int, data: bytes) -> None:
    """Write past every cache. Raises OSError."""
    with mmap.mmap(-1, len(data)) as room:
        room[:] = data
        with memoryview(room) as view, _direct(device) as fd:
            assert os.pwritev(fd, [view], block * BLOCK) == len(data)


def read(device: Device, block: int, count: int = 1) -> bytes:
    """Read past every cache. Raises OSError."""
    with mmap.mmap(-1, count * BLOCK) as room, memoryview(room) as view:
        with _direct(device) as fd:
            assert os.preadv(fd, [view], block * BLOCK) == len(view)
        return bytes(view)


def flush(device: Device) -> None:
    """Have durable what was written. Raises OSError."""
    os.fsync(device.fd)


@contextmanager
def _direct(device: Device) -> Iterator[int]:
    fd = os.open(device.path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def failing_blocks(device: Device, blocks: Sequence[int]) -> set[int]:
    """Return which of some blocks cannot be read."""
    failed = set()
    for block in blocks:
        try:
            read(device, block)
        except OSError:
            failed.add(block)
    return failed


class Started:
    """Calls in threads of their own, whose results are asked for later."""

    def __init__(self, calls: Sequence[Callable[[], Any]]) -> None:
        self.results: list[Any] = []
        self._threads = [
            threading.Thread(target=self._run, args=(call,), daemon=True) for call in calls
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self.results.append(call())
        except OSError as error:
            self.results.append(error)

    def wait(self) -> list[Any]:
        """Return the results when all have ended."""
        wait_until(lambda: len(self.results) == len(self._threads), "the requests end")
        return self.results
