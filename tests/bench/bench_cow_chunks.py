"""What the chunk size of the cow engine costs and saves, to choose the default.

`python -m tests.bench cow_chunks`, as root, with fio there. A LUN without holes, a snapshot with
each chunk size, then first writes: 4 KiB at random at depth 16, or 1 MiB one after the other; and
what its store takes on the disk, in bytes for a byte that was written.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.bench.benchcow import GIB, MIB, pool_for_bench, site
from tests.bench.figures import Row, fio, median, random_writes, show
from vssemu.api import shard as api

SIZE = 2 * GIB
RANDOM, LARGE = 12_000, 512
CHUNKS = (4096, 16384, 65536, 262144, 1048576)


def rows(rounds: int = 3) -> Sequence[Row]:
    """Measure; return the rows."""
    measured: dict[int, list[tuple[float, float, float]]] = {chunk: [] for chunk in CHUNKS}
    with pool_for_bench() as luns:
        for _ in range(rounds):
            for chunk in CHUNKS:
                measured[chunk].append(_measure(luns, chunk))
    return [row for chunk in CHUNKS for row in _rows(chunk, measured[chunk], measured[CHUNKS[0]])]


def _measure(luns: Path, chunk: int) -> tuple[float, float, float]:
    """Return random first writes a second, MiB a second, bytes kept for a byte written."""
    with site(luns, chunk_size=chunk) as ours:
        lun = ours.lun(SIZE)
        copy = ours.snapshot(lun)
        with ours.rig.loop(lun) as device:
            random = random_writes(device.path, RANDOM, size=SIZE)
            kept = ours.rig.call(0, api.usage, copy).allocated / (RANDOM * 4096)
            other = ours.snapshot(lun)
            large = fio([device.path], "write", size=SIZE, block="1M", requests=LARGE)
        for each in (copy, other, lun):
            ours.remove(each)
    return random, large, kept


def _rows(
    chunk: int, own: list[tuple[float, float, float]], first: list[tuple[float, float, float]]
) -> list[Row]:
    name = f"chunks of {chunk // 1024} KiB" if chunk < MIB else "chunks of 1 MiB"
    random, large, kept = (median(values) for values in zip(*own, strict=True))
    pairs = list(zip(own, first, strict=True))
    return [
        Row(
            name=f"{name}: first 4 KiB random writes",
            figure=f"{random:,.0f}/s",
            against=f"{kept:.1f} bytes kept for one written",
            ratio=median([a[0] / b[0] for a, b in pairs]),
        ),
        Row(
            name=f"{name}: first 1 MiB writes in order",
            figure=f"{large:,.0f} MiB/s",
            ratio=median([a[1] / b[1] for a, b in pairs]),
        ),
    ]


if __name__ == "__main__":
    show("Chunk sizes of the cow engine; ratios to the smallest", rows())
