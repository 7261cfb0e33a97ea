"""The hundredth shadow copy of a volume against the first.

`python -m tests.bench.bench_hundredth [COPIES]`, as root: what a creation takes, a listing of
all copies, and the first writes to the volume after it.
"""

import sys
import time
from collections.abc import Sequence

from tests.bench import benchlab
from tests.bench.benchlab import MIB, ONE
from tests.bench.figures import Row, median, ms, random_writes, show
from vssemu.lab import enter
from vssemu.lab.config import VolumeSpec
from vssemu.vss.attributes import Context

SIZE = 512 * MIB
FILE = 256 * MIB
WRITES = 4_000
EACH = 3
"""The first and the last that are compared are this many, for one alone says little."""


def rows(copies: int = 100) -> Sequence[Row]:
    """Measure; return the rows."""
    create, listing, writes = [], [], []
    with (
        benchlab.running(VolumeSpec(letter="F", size=SIZE)) as lab,
        benchlab.connect(lab, ONE) as one,
    ):
        file = enter.inside(lab.paths, ONE, "/mnt/F/file")
        file.write_bytes(bytes(MIB) * (FILE // MIB))
        for number in range(copies):
            begin = time.perf_counter()
            with one.backup_components() as backup:
                benchlab.create(backup, Context.APP_ROLLBACK)
            create.append(time.perf_counter() - begin)
            with one.backup_components() as backup:
                backup.initialize_for_backup()
                backup.set_context(Context.ALL)
                begin = time.perf_counter()
                assert len(backup.query()) == number + 1
                listing.append(time.perf_counter() - begin)
            if number < EACH or number >= copies - EACH:
                writes.append(random_writes(file, WRITES, size=FILE))
    last = f"the {copies}th shadow copy: "
    return [
        _compared(last + "create", create),
        _compared(last + "list shadows", listing),
        Row(
            name=last + "next writes",
            figure=f"{median(writes[-EACH:]):,.0f}/s",
            against=f"{median(writes[:EACH]):,.0f}/s after the first",
            ratio=median(writes[-EACH:]) / median(writes[:EACH]),
        ),
    ]


def _compared(name: str, seconds: Sequence[float]) -> Row:
    first, last = median(seconds[:EACH]), median(seconds[-EACH:])
    return Row(name=name, figure=ms(last), against=f"{ms(first)} the first", ratio=last / first)


if __name__ == "__main__":
    show("The hundredth copy", rows(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
