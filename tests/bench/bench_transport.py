"""How long the steps of a transport take, client to client.

`python -m tests.bench.bench_transport [ROUNDS]`, as root. Each round creates, imports, looks
into and deletes one small transportable set; the figures are medians over the rounds.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.bench import benchlab
from tests.bench.benchlab import ONE, TWO
from tests.bench.figures import Row, median, ms, show
from vssemu.api import blocking
from vssemu.lab.lab import Lab

WHOLE = "create + import + delete of a small set"


class Times:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name].append(time.perf_counter() - begin)


def rows(rounds: int = 10) -> Sequence[Row]:
    """Measure; return the rows."""
    times = Times()
    with (
        benchlab.running() as lab,
        benchlab.connect(lab, ONE) as one,
        benchlab.connect(lab, TWO) as two,
    ):
        for _ in range(rounds):
            _round(lab, one, two, times)
    whole = times.seconds.pop(WHOLE)
    return [
        Row(
            name=WHOLE,
            figure=ms(median(whole)),
            against="500.0 ms",
            ratio=median(whole) / 0.5,
            target="under 1.0",
        ),
        *(Row(name=f"  {name}", figure=ms(median(s))) for name, s in times.seconds.items()),
    ]


def _round(lab: Lab, vss_one: blocking.Vss, vss_two: blocking.Vss, times: Times) -> None:
    with times.step(WHOLE), vss_one.backup_components() as creator:
        with times.step("create"):
            snapshot = benchlab.create(creator)
            document = creator.save_as_xml()
        with vss_two.backup_components() as importer:
            with times.step("import"):
                benchlab.import_set(importer, document)
                copy = importer.get_snapshot_properties(snapshot)
            with times.step("first look-up"):
                assert any(benchlab.tree_of(lab, TWO, copy.device_object).iterdir())
            begin = time.perf_counter()
        times.seconds["delete by release"].append(time.perf_counter() - begin)
    times.seconds["hold window"].append(benchlab.last_hold(lab))


if __name__ == "__main__":
    show("Transport", rows(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
