"""The data path of the cow engine without a snapshot: one shard and two, against QEMU's export.

`python -m tests.bench cow_raw`, as root, with fio and qemu-storage-daemon there. fio at depth 16
through loop devices with direct I/O and blocks of 4096 bytes; LUNs and QEMU's images lie in one
pool. In each round lunfs and QEMU take turns; the one that does not is idle. Two: a LUN in each
of two shards, against two images of one daemon, both loaded at once.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.bench import benchqemu
from tests.bench.benchcow import GIB, image, pool_for_bench, site
from tests.bench.figures import Row, fio, median, show

SIZE = 2 * GIB
SECONDS = 2.0
SMALL = (("randwrite", "4k", "4 KiB random writes"), ("randread", "4k", "4 KiB random reads"))
LARGE = (("write", "1M", "1 MiB writes"), ("read", "1M", "1 MiB reads"))


def rows(rounds: int = 5) -> Sequence[Row]:
    """Measure; return the rows."""
    with pool_for_bench() as luns, site(luns, shards=2) as ours:
        images = [image(luns, f"qemu{number}", SIZE) for number in range(2)]
        first, second = ours.lun(SIZE, 0), ours.lun(SIZE, 1)
        export = luns.parent / "export"
        with ours.rig.loop(first, 0) as one, ours.rig.loop(second, 1) as two:
            with benchqemu.exported(export, images[0]) as theirs:
                found = [_row(kind, [one.path], theirs, rounds, "0.5") for kind in SMALL]
                found += [_row(kind, [one.path], theirs, rounds, "1.0") for kind in LARGE]
            with benchqemu.exported(export, *images) as theirs:
                both = [one.path, two.path]
                found += [_row(kind, both, theirs, rounds, "0.7") for kind in SMALL]
    return found


def _row(
    kind: tuple[str, str, str],
    ours: Sequence[Path],
    theirs: Sequence[Path],
    rounds: int,
    target: str,
) -> Row:
    way, block, name = kind
    figures: list[tuple[float, float]] = []
    for _ in range(rounds):
        our, their = (
            fio(devices, way, size=SIZE, block=block, seconds=SECONDS)
            for devices in (ours, theirs)
        )
        figures.append((our, their))
    shards = "one shard" if len(ours) == 1 else "two shards, a LUN in each"
    return Row(
        name=f"{name}, {shards}",
        figure=f"{median([our for our, _ in figures]):,.0f}/s",
        against=f"{median([their for _, their in figures]):,.0f}/s of QEMU's export",
        ratio=median([our / their for our, their in figures]),
        target=target,
    )


if __name__ == "__main__":
    show("The data path of the cow engine", rows())
