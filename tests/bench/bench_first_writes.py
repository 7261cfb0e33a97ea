"""What the first write of a block costs while a snapshot is live.

`python -m tests.bench.bench_first_writes [ROUNDS]`, as root, with qemu-storage-daemon there.
4 KiB random writes at depth 16 through a loop device with direct I/O, in rounds, one after
the other in each: a LUN without a snapshot, the same LUN right after one was made, and an
image of the same size on the same disk behind QEMU's copy-before-write filter on its FUSE
export.
"""

import contextlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from tests.bench import benchqemu
from tests.bench.figures import Row, fill, median, random_writes, show
from tests.rig.array import arrayrig
from tests.rig.array.arrayrig import ONE, ArrayProcess, Site
from vssemu.api import array as api
from vssemu.linux import loop
from vssemu.vss.errors import VssError
from vssemu.vss.identity import LunId

SIZE = 2 << 30
WRITES = 12_000
"""Few against the LUN's blocks, for QEMU copies 64 KiB at the first write of any 4 KiB in it."""

POOL = 16 << 30


def rows(rounds: int = 3) -> Sequence[Row]:
    """Measure; return the rows."""
    plain, first, other = trio.run(_measure, rounds)
    ratios = [b / a for a, b in zip(plain, first, strict=True)]
    result = [
        Row(
            name="first 4 KiB writes with a live snapshot, depth 16",
            figure=f"{median(first):,.0f}/s",
            against=f"{median(plain):,.0f}/s without one",
            ratio=median(ratios),
            target="0.5",
        )
    ]
    if other:
        result.append(
            Row(
                name="the same",
                figure=f"{median(first):,.0f}/s",
                against=f"{median(other):,.0f}/s of QEMU's copy-before-write",
                ratio=median([a / b for a, b in zip(first, other, strict=True)]),
                target="above 2.0",
            )
        )
    return result


async def _measure(rounds: int) -> tuple[list[float], list[float], list[float]]:
    directory = arrayrig.SCRATCH / "bench"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    process = ArrayProcess(directory, pool_size=POOL)
    plain: list[float] = []
    first: list[float] = []
    other: list[float] = []
    try:
        async with arrayrig.running(process), arrayrig.connected(process) as site:
            for _ in range(rounds):
                await _round(site, plain, first)
                if benchqemu.is_there():
                    other.append(_behind_qemu(directory))
    finally:
        shutil.rmtree(directory)
    return plain, first, other


async def _round(site: Site, plain: list[float], first: list[float]) -> None:
    lun = await site.lun(ONE, size=SIZE)
    async with site.one.bound(lun.id) as number:
        device = loop.node(number)
        await trio.to_thread.run_sync(fill, device, SIZE)
        for figures, with_snapshot in ((plain, False), (first, True)):
            if with_snapshot:
                _, (copy,) = await site.one.copy(lun.id)
            figures.append(
                await trio.to_thread.run_sync(
                    lambda: random_writes(device, WRITES, size=SIZE), abandon_on_cancel=True
                )
            )
    assert copy.naa
    await _remove(site, copy.naa, lun.id)


def _behind_qemu(directory: Path) -> float:
    """Measure QEMU's filter; image and store lie on the same disk as the pool."""
    image = directory / "image"
    try:
        with image.open("wb") as file:
            file.truncate(SIZE)
        fill(image, SIZE)
        with benchqemu.exported(directory / "qemu", image, copying=True) as (device,):
            return random_writes(device, WRITES, size=SIZE)
    finally:
        image.unlink()


async def _remove(site: Site, *luns: LunId) -> None:
    for lun in luns:
        with contextlib.suppress(VssError):  # a copy is masked already
            await site.call(api.mask_lun, lun, ONE)
        await site.call(api.delete_lun, lun)


if __name__ == "__main__":
    show("First writes", rows(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
