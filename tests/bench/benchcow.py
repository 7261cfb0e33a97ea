"""Shards over an XFS pool of a bench's own, QEMU's images beside the LUNs, and snapshots."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.figures import fill
from tests.rig.array.convergingrig import pool
from tests.rig.lunfs.lunfsrig import LunfsRig, running
from vssemu.api import shard as api
from vssemu.array.naming import mint_lun_id
from vssemu.vss.engine import CopyPair
from vssemu.vss.identity import LunId

MIB = 1 << 20
GIB = 1 << 30
SCRATCH = Path("/tmp/vssemu-bench")
HOLD_SECONDS = 10.0


class Site:
    """Shards that serve a pool. luns: the directory of the LUNs' directories."""

    def __init__(self, rig: LunfsRig, luns: Path, first: int) -> None:
        self.rig = rig
        self.luns = luns
        self._made = first

    def _new(self) -> LunId:
        self._made += 1
        return mint_lun_id(self._made)

    def lun(self, size: int, shard: int = 0, *, filled: bool = True) -> LunId:
        """Make an origin, by default without a hole."""
        lun = self._new()
        self.rig.call(shard, api.create, lun, size)
        if filled:
            with self.rig.loop(lun, shard) as device:
                fill(device.path, size)
        return lun

    def prepared(self, source: LunId, shard: int = 0) -> CopyPair:
        """Make the store of a snapshot that is to be."""
        pair = CopyPair(source=source, target=self._new())
        self.rig.call(shard, api.prepare, [pair])
        return pair

    def commit(self, pair: CopyPair, shard: int = 0) -> float:
        """Take a prepared snapshot; return the seconds of the call."""
        with self.rig.client(shard) as client:
            begin = time.perf_counter()
            client.call(api.commit, [pair])
            seconds = time.perf_counter() - begin
            client.call(api.settle, [pair.target])
        return seconds

    def snapshot(self, source: LunId, shard: int = 0) -> LunId:
        """Take a snapshot."""
        pair = self.prepared(source, shard)
        self.commit(pair, shard)
        return pair.target

    def remove(self, lun: LunId, shard: int = 0) -> None:
        """Remove a LUN whose file is not in use."""
        self.rig.call(shard, api.remove, lun)

    def directory(self, lun: LunId) -> Path:
        """Return where a LUN's files are."""
        return self.luns / lun


@contextmanager
def pool_for_bench(size: int = 16 * GIB) -> Iterator[Path]:
    """Give the directory of LUNs of an empty pool during the block."""
    SCRATCH.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=SCRATCH))
    try:
        with pool(directory, size, groups=32, in_memory=False) as luns:
            yield luns
    finally:
        shutil.rmtree(directory)


@contextmanager
def site(
    luns: Path, *, shards: int = 1, safety: str = "power", chunk_size: int | None = None
) -> Iterator[Site]:
    """Run shards over a pool during the block; several may be over one, one after the other."""
    arguments = ["--safety", safety]
    if chunk_size is not None:
        arguments += ["--chunk-size", str(chunk_size)]
    directory = Path(tempfile.mkdtemp(dir=SCRATCH))
    try:
        with running(directory, shards=shards, arguments=tuple(arguments)) as rig:
            rig.serve(luns)
            yield Site(rig, luns, first=time.monotonic_ns() // 1000 % 10**9)
    finally:
        shutil.rmtree(directory)


def image(luns: Path, name: str, size: int) -> Path:
    """Make an image without a hole in a pool, for whoever is compared with."""
    path = luns.parent / name
    with path.open("xb") as file:
        os.ftruncate(file.fileno(), size)
    fill(path, size)
    return path
