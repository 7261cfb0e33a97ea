"""Print how long the steps of a transport take, client to client, on a lab of its own.

`python -m tests.bench.bench_transport [ROUNDS]`, as root. Each round creates, imports, looks
into and deletes one small transportable set; the figures are medians over the rounds.
"""

import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from vssemu.api import blocking
from vssemu.lab import enter
from vssemu.lab.config import LabConfig, VolumeSpec
from vssemu.lab.lab import Lab
from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.enums import BackupType

ONE, TWO = "systemOne", "systemTwo"


class Times:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name].append(time.perf_counter() - begin)


def one_round(lab: Lab, vss_one: blocking.Vss, vss_two: blocking.Vss, times: Times) -> None:
    with times.step("whole round"), vss_one.backup_components() as creator:
        with times.step("create"):
            creator.initialize_for_backup()
            creator.set_backup_state(
                select_components=False, bootable=False, backup_type=BackupType.COPY
            )
            creator.set_context(Context.BACKUP | Attribute.TRANSPORTABLE)
            creator.gather_writer_metadata()
            creator.start_snapshot_set()
            snapshot = creator.add_to_snapshot_set("F:\\")
            creator.prepare_for_backup()
            creator.do_snapshot_set()
            document = creator.save_as_xml()
        with vss_two.backup_components() as importer:
            with times.step("import"):
                importer.initialize_for_backup(document)
                importer.set_context(Context.ALL)
                importer.import_snapshots()
                copy = importer.get_snapshot_properties(snapshot)
            tree = enter.inside(lab.paths, TWO, copy.device_object)
            with times.step("first look-up"):
                assert any(tree.iterdir())
            begin = time.perf_counter()
        times.seconds["delete by release"].append(time.perf_counter() - begin)
    log = lab.paths.host_state(ONE) / "var/events.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    times.seconds["hold window"].append(
        next(e["hold_seconds"] for e in reversed(events) if e["kind"] == "creation")
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    lab, times = Lab("bench"), Times()
    volume = VolumeSpec(letter="F", size=64 << 20)
    lab.down()
    try:
        lab.up(LabConfig(name="bench", volumes=(volume,)))
        sockets = [enter.inside(lab.paths, host, "/run/vssemu/vss.sock") for host in (ONE, TWO)]
        with blocking.connect(sockets[0]) as one, blocking.connect(sockets[1]) as two:
            for _ in range(rounds):
                one_round(lab, one, two, times)
    finally:
        lab.down()
    for name, seconds in times.seconds.items():
        print(f"{name:20} {statistics.median(seconds) * 1000:8.1f} ms")


if __name__ == "__main__":
    main()
