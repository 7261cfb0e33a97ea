"""First writes with live snapshots of the cow engine.

`python -m tests.bench cow_first`, as root, with fio and qemu-storage-daemon there. 4 KiB random
writes at depth 16, each to a block of its own, through loop devices with direct I/O:

- one snapshot, nothing flushed on either side, against QEMU's copy-before-write;
- one snapshot, safe from a loss of power, against one write at a time: what group commit gives;
- with 16 snapshots against one.

A round of each: a new snapshot (QEMU: a new, empty store), then the writes.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.bench import benchqemu
from tests.bench.benchcow import GIB, Site, image, pool_for_bench, site
from tests.bench.figures import Row, fio, median, random_writes, show
from vssemu.vss.identity import LunId

SIZE = 2 * GIB
WRITES = 12_000
"""Few against the LUN's blocks, for QEMU copies 64 KiB at the first write of any 4 KiB in it."""

ALONE = 1_500
"""Writes at depth 1."""

MANY = 16
BETWEEN = 500
"""Writes between two of many snapshots, so that each has something of its own."""


def rows(rounds: int = 5) -> Sequence[Row]:
    """Measure; return the rows."""
    with pool_for_bench() as luns:
        found = [_unsafe(luns, rounds)]
        with site(luns) as ours:
            found += _safe(ours, rounds)
            found += _many(ours, rounds)
    return found


def _unsafe(luns: Path, rounds: int) -> Row:
    theirs = image(luns, "qemu", SIZE)
    figures = []
    with site(luns, safety="process") as ours:
        lun = ours.lun(SIZE)
        for _ in range(rounds):
            our = _round(ours, lun)
            with benchqemu.exported(luns.parent / "export", theirs, copying=True) as (device,):
                figures.append((our, random_writes(device, WRITES, size=SIZE)))
        ours.remove(lun)
    theirs.unlink()
    return Row(
        name="first 4 KiB writes, stores not flushed",
        figure=f"{median([our for our, _ in figures]):,.0f}/s",
        against=f"{median([their for _, their in figures]):,.0f}/s of QEMU's copy-before-write",
        ratio=median([our / their for our, their in figures]),
        target="1.0",
    )


def _safe(ours: Site, rounds: int) -> list[Row]:
    lun = ours.lun(SIZE)
    deep, alone, without = [], [], []
    for _ in range(rounds):
        with ours.rig.loop(lun) as device:
            without.append(random_writes(device.path, WRITES, size=SIZE))
        deep.append(_round(ours, lun))
        alone.append(_round(ours, lun, writes=ALONE, depth=1))
    ours.remove(lun)
    name = "first 4 KiB writes, safe from a loss of power"
    return [
        Row(
            name=name,
            figure=f"{median(deep):,.0f}/s",
            against=f"{median(alone):,.0f}/s one at a time",
            ratio=median([a / b for a, b in zip(deep, alone, strict=True)]),
            target="as high as group commit takes it",
        ),
        Row(
            name="the same",
            figure=f"{median(deep):,.0f}/s",
            against=f"{median(without):,.0f}/s without a snapshot",
            ratio=median([a / b for a, b in zip(deep, without, strict=True)]),
        ),
    ]


def _many(ours: Site, rounds: int) -> list[Row]:
    one: list[float] = []
    many: list[float] = []
    reads_one: list[float] = []
    reads_many: list[float] = []
    for _ in range(rounds):
        lun = ours.lun(SIZE)
        taken = []
        with ours.rig.loop(lun) as device:
            for number in range(1, MANY + 1):
                taken.append(ours.snapshot(lun))
                writes = WRITES if number in {1, MANY} else BETWEEN
                rate = random_writes(device.path, writes, size=SIZE)
                if number in {1, MANY}:
                    (one if number == 1 else many).append(rate)
                    with ours.rig.loop(taken[0], writable=False) as eldest:
                        reads = fio([eldest.path], "randread", size=SIZE, seconds=1.0)
                    (reads_one if number == 1 else reads_many).append(reads)
        for each in (*taken, lun):
            ours.remove(each)
    return [
        Row(
            name=f"first 4 KiB writes, {MANY} snapshots",
            figure=f"{median(many):,.0f}/s",
            against=f"{median(one):,.0f}/s with one",
            ratio=median([a / b for a, b in zip(many, one, strict=True)]),
            target="0.9",
        ),
        Row(
            name=f"4 KiB random reads of the eldest of {MANY}",
            figure=f"{median(reads_many):,.0f}/s",
            against=f"{median(reads_one):,.0f}/s of an only one",
            ratio=median([a / b for a, b in zip(reads_many, reads_one, strict=True)]),
        ),
    ]


def _round(ours: Site, lun: LunId, *, writes: int = WRITES, depth: int = 16) -> float:
    copy = ours.snapshot(lun)
    try:
        with ours.rig.loop(lun) as device:
            return random_writes(device.path, writes, size=SIZE, depth=depth)
    finally:
        ours.remove(copy)


if __name__ == "__main__":
    show("First writes of the cow engine", rows())
