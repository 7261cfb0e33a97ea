"""How long the array holds writes: the commit of the reflink engine against one plain FICLONE.

`python -m tests.bench.bench_hold [ROUNDS]`, as root, with fio there. A 2 GiB LUN under an ext4
that is fragmented by 200,000 random 4 KiB writes, an older snapshot being live, and written to
at 1,000 writes a second all the time: in each round a copy is prepared, the file system is
frozen, the commit is timed, and then one FICLONE of the same image, in the same freeze. And 16
idle LUNs of 64 MiB in one set.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import trio

from tests.bench.figures import Row, median, ms, show
from tests.rig.array.convergingrig import MIB, Bench, bound, end, mounted, pool, start_fio
from vssemu.linux import filesystems, freeze, loop, reflink
from vssemu.vss.array import LunKind
from vssemu.vss.engine import CopyPair

SIZE = 2048 * MIB
FILE = 1800 * MIB
WRITES = 200_000
RATE = 1000
LUNS, LUN = 16, 64 * MIB
SCRATCH = Path("/tmp/vssemu-bench")


@dataclass
class Times:
    """Seconds by round. extents: of the image at the end."""

    hold: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)
    prepare: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    extents: int = 0


def rows(rounds: int = 3) -> Sequence[Row]:
    """Measure; return the rows."""
    times = trio.run(_measure, rounds)
    ratios = [hold / plain for hold, plain in zip(times.hold, times.plain, strict=True)]
    return [
        Row(
            name=f"hold, 2 GiB LUN in {times.extents:,} extents, written to",
            figure=ms(median(times.hold)),
            against=f"{ms(median(times.plain))} for one FICLONE",
            ratio=median(ratios),
            target="0.25",
        ),
        Row(
            name="the same",
            figure=ms(median(times.hold)),
            against=f"{ms(median(times.predicted))} as EndPrepareSnapshots predicted",
            ratio=median([a / b for a, b in zip(times.hold, times.predicted, strict=True)]),
        ),
        Row(name="its preparation, before the hold", figure=ms(median(times.prepare))),
        Row(
            name=f"hold, {LUNS} idle LUNs of {LUN // MIB} MiB in one set",
            figure=ms(median(times.idle)),
            target="100 ms",
        ),
    ]


async def _measure(rounds: int) -> Times:
    directory, times = SCRATCH / uuid4().hex[:8], Times()
    directory.mkdir(parents=True)
    try:
        with pool(directory, 16 * 1024 * MIB, groups=32, in_memory=False) as luns:
            bench = Bench(luns)
            try:
                await _many(bench, rounds, times)
                await _fragmented(bench, rounds, times)
            finally:
                bench.engine.close()
    finally:
        shutil.rmtree(directory)
    return times


async def _many(bench: Bench, rounds: int, times: Times) -> None:
    sources = [await bench.lun(LUN) for _ in range(LUNS)]
    for source in sources:
        with bench.image(source).open("r+b") as image:
            image.write(os.urandom(LUN // 2))
            os.fsync(image.fileno())
    for _ in range(rounds):
        pairs = [CopyPair(source=source, target=bench.new_id()) for source in sources]
        deadline = trio.current_time() + 600
        prepared = await bench.engine.prepare(pairs, LunKind.DIFFERENTIAL, deadline)
        begin = time.perf_counter()
        bench.engine.commit(prepared)
        times.idle.append(time.perf_counter() - begin)
        await bench.engine.abort(prepared)


async def _fragmented(bench: Bench, rounds: int, times: Times) -> None:
    lun = await bench.lun(SIZE)
    with contextlib.ExitStack() as stack:
        number = stack.enter_context(bound(bench.image(lun)))
        filesystems.make_ext4(loop.node(number), timeout=60.0)
        place = bench.luns.parent.parent / "volume"
        stack.enter_context(mounted(number, place, "ext4"))
        root = freeze.open_directory(place)
        stack.callback(os.close, root)
        await _write(place / "data", "--rw=write", "--bs=1m")
        await bench.copy(lun)
        await _write(place / "data", "--rw=randwrite", "--bs=4k", f"--number_ios={WRITES}")
        times.extents = await bench.engine.extents(lun)
        stack.callback(end, start_fio(place / "data", size=FILE, rate=RATE))
        await trio.sleep(1)
        for _ in range(rounds):
            begin = time.perf_counter()
            prepared, copy = await bench.prepare(lun)
            times.prepare.append(time.perf_counter() - begin)
            times.predicted.append(prepared.hold_seconds)
            freeze.freeze(root)
            try:
                begin = time.perf_counter()
                bench.engine.commit(prepared)
                times.hold.append(time.perf_counter() - begin)
                times.plain.append(_plain_clone(bench.image(lun), bench.luns.parent / "plain"))
            finally:
                freeze.thaw(root)
            await bench.engine.settle(prepared)
            await bench.engine.delete(copy)


async def _write(path: Path, *options: str) -> None:
    argv = ["fio", "--name=bench", f"--filename={path}", f"--size={FILE}", "--direct=1"]
    argv += ["--ioengine=libaio", "--iodepth=16", "--output=/dev/null", *options]
    await trio.run_process(argv, check=True, stdout=subprocess.DEVNULL)


def _plain_clone(source: Path, target: Path) -> float:
    with source.open("rb") as origin, target.open("wb") as clone:
        begin = time.perf_counter()
        reflink.clone(origin.fileno(), clone.fileno())
        seconds = time.perf_counter() - begin
    target.unlink()
    return seconds


def main() -> None:
    """Print the rows."""
    show("hold", rows(int(sys.argv[1]) if len(sys.argv) > 1 else 3))


if __name__ == "__main__":
    main()
