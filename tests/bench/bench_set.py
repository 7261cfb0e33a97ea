"""A set of many small idle volumes, each on a LUN of its own, from freeze to thaw.

`python -m tests.bench.bench_set [VOLUMES]`, as root.
"""

import string
import sys
import time
from collections.abc import Sequence

from tests.bench import benchlab
from tests.bench.benchlab import MIB, ONE
from tests.bench.figures import Row, median, ms, show
from vssemu.lab.config import VolumeSpec

ROUNDS = 5


def rows(volumes: int = 16) -> Sequence[Row]:
    """Measure; return the rows."""
    letters = string.ascii_uppercase[3 : 3 + volumes]
    specs = [VolumeSpec(letter=letter, size=64 * MIB) for letter in letters]
    holds, whole = [], []
    with benchlab.running(*specs) as lab, benchlab.connect(lab, ONE) as one:
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            with one.backup_components() as backup:
                benchlab.create(backup, volumes=[f"{letter}:\\" for letter in letters])
                whole.append(time.perf_counter() - begin)
            holds.append(benchlab.last_hold(lab))
    return [
        Row(
            name=f"hold of {volumes} idle volumes of 64 MiB, freeze to thaw",
            figure=ms(median(holds)),
            against="100.0 ms",
            ratio=median(holds) / 0.1,
            target="under 1.0",
        ),
        Row(name="  the whole creation", figure=ms(median(whole))),
    ]


if __name__ == "__main__":
    show("A set", rows(int(sys.argv[1]) if len(sys.argv) > 1 else 16))
