"""A shard that is killed: how long a write waits for the next one, and what a shard takes.

`python -m tests.bench cow_restart`, as root, with fio there. fio writes 4 KiB blocks at random,
one at a time, through a loop device with direct I/O; the LUN has a snapshot. Its longest write
is the one that a kill -9 came into.

- of a shard that had lived for long, and is started again at once;
- of one that was killed before it had lived for ten seconds.

Memory: what a shard has of its own when it has served that (PSS).
"""

import json
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.benchcow import MIB, Site, pool_for_bench, site
from tests.bench.figures import Row, median, ms
from vssemu.daemons.supervision import STEADY_SECONDS

SIZE = 256 * MIB
SECONDS = 3
"""Of writes, a kill after the first."""


def rows(rounds: int = 5) -> Sequence[Row]:
    """Measure; return the rows."""
    with pool_for_bench() as luns, site(luns) as ours:
        lun = ours.lun(SIZE)
        ours.snapshot(lun)
        with ours.rig.loop(lun) as device:
            without = _longest(ours, device.path, is_killed=False)
            steady, young = [], []
            for _ in range(rounds):
                time.sleep(STEADY_SECONDS + 1)
                steady.append(_longest(ours, device.path))
                young.append(_longest(ours, device.path))
            memory = _pss(ours.rig.pid())
    return [
        Row(
            name=f"longest write over {rounds} kills of a shard",
            figure=ms(max(steady)),
            against=f"median {ms(median(steady))}, {ms(without)} without a kill",
            target="500 ms",
            guard=True,
        ),
        Row(
            name=f"and of one that was killed {SECONDS} s before",
            figure=ms(max(young)),
            against=f"median {ms(median(young))}",
        ),
        Row(name="memory of a shard", figure=f"{memory / MIB:,.0f} MiB PSS"),
    ]


def _longest(ours: Site, device: Path, *, is_killed: bool = True) -> float:
    """Return the seconds of the longest write while a shard is killed."""
    load = subprocess.Popen(
        [
            "fio", "--name=load", f"--filename={device}", "--rw=randwrite", "--bs=4k",
            "--ioengine=libaio", "--iodepth=1", "--direct=1", "--time_based",
            f"--runtime={SECONDS}", "--output-format=json",
        ],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        time.sleep(1)
        if is_killed:
            ours.rig.restart()
        output, _ = load.communicate(timeout=60)
    except BaseException:
        load.send_signal(signal.SIGINT)
        raise
    (job,) = json.loads(output)["jobs"]
    assert not job["error"]
    return float(job["write"]["lat_ns"]["max"]) / 1e9


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("Pss:"))
    return int(kib) * 1024
