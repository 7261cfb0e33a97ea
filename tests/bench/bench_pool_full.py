"""How much room is left when a pool fills at full speed: `python -m tests.bench.bench_pool_full`.

One LUN is written at random while snapshots of it are taken as fast as the array allows; the
room of the pool is looked at every 2 ms. A rate is survived when the least room was above
nothing and no write failed. Root; pools of 1 to 4 GiB below the temporary
directory.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from tests.bench.figures import Row, show
from tests.rig.array.arrayrig import MIB, ONE, ArrayProcess, Site, connected, running
from tests.rig.array.fullrig import events, take
from vssemu.linux import loop
from vssemu.vss.errors import InsufficientStorage
from vssemu.vss.identity import LunId

SECONDS: Final = 12
PATTERNS: Final = (("4k", 1024 * MIB), ("64k", 2048 * MIB), ("1m", 4096 * MIB))
"""Block sizes, and pools that such writes fill within these seconds."""

_LUN_SHARE: Final = 0.375
_LOOK_SECONDS: Final = 0.002
_SNAPSHOT_SECONDS: Final = 1.0


@dataclass(kw_only=True)
class Seen:
    """What happened to the room. least: bytes."""

    least: int
    snapshots: int = 0


def rows() -> Sequence[Row]:
    """Measure; return the rows."""
    return [trio.run(_measure, block, size) for block, size in PATTERNS]


async def _measure(block: str, pool: int) -> Row:
    directory = Path(await trio.to_thread.run_sync(tempfile.mkdtemp))
    try:
        process = ArrayProcess(directory, pool_size=pool)
        async with running(process), connected(process) as site:
            return await _storm(site, block, pool)
    finally:
        shutil.rmtree(directory)


async def _storm(site: Site, block: str, pool: int) -> Row:
    size = int(pool * _LUN_SHARE) // MIB * MIB
    lun = await site.lun(ONE, size=size)
    seen = Seen(least=pool)
    async with site.one.bound(lun.id) as number:
        await _fio(number, "--rw=write", "--bs=1m", f"--size={size}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_look, site, seen)
            nursery.start_soon(_take_snapshots, site, lun.id, seen)
            storm = ["--rw=randwrite", f"--bs={block}", f"--size={size}", "--norandommap"]
            bandwidth, failed = await _fio(number, *storm, "--time_based", f"--runtime={SECONDS}")
            nursery.cancel_scope.cancel()
    ended = events(site.process, "snapshot_ended")
    slowest = max((event["seconds"] for event in ended), default=0.0)
    return Row(
        name=f"{block} writes at {bandwidth / 1e6:,.0f} MB/s, {pool // MIB:,} MiB pool",
        figure="writes failed" if failed else f"{seen.least / MIB:,.0f} MiB left at the least",
        against=f"{seen.snapshots} snapshots, {len(ended)} ended, one in {slowest:.2f} s at most",
    )


async def _fio(number: int, *options: str) -> tuple[float, bool]:
    """Write a device; return bytes a second, and whether a write failed."""
    words = ["fio", "--name=w", f"--filename={loop.node(number)}", "--direct=1"]
    words += ["--ioengine=libaio", "--iodepth=16", "--output-format=json", *options]
    done = await trio.run_process(words, capture_stdout=True, capture_stderr=True, check=False)
    report = json.loads(done.stdout)
    return float(report["jobs"][0]["write"]["bw_bytes"]), done.returncode != 0


async def _look(site: Site, seen: Seen) -> None:
    place = f"/proc/{site.process.pid}/root{site.process.pool}/root/luns"
    while True:
        facts = os.statvfs(place)
        seen.least = min(seen.least, facts.f_bavail * facts.f_frsize)
        await trio.sleep(_LOOK_SECONDS)


async def _take_snapshots(site: Site, lun: LunId, seen: Seen) -> None:
    while True:
        with suppress(InsufficientStorage):
            await take(site, lun, auto_release=seen.snapshots % 2 == 0)
            seen.snapshots += 1
        await trio.sleep(_SNAPSHOT_SECONDS)


if __name__ == "__main__":
    show("A pool that fills", rows())
