"""Reading a shadow copy through its device object, against a plain read-only mount of it.

`python -m tests.bench.bench_tar [ROUNDS]`, as root. tar reads the same tree both ways in
turn, each time with cold caches of its files.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import benchlab
from tests.bench.benchlab import MIB, ONE, TWO
from tests.bench.figures import Row, median, show
from vssemu.lab import enter
from vssemu.lab.config import VolumeSpec

FILES = 4_000


def rows(rounds: int = 5) -> Sequence[Row]:
    """Measure; return the rows."""
    with (
        benchlab.running(VolumeSpec(letter="F", size=512 * MIB)) as lab,
        benchlab.connect(lab, ONE) as one,
        benchlab.connect(lab, TWO) as two,
        one.backup_components() as creator,
        two.backup_components() as importer,
    ):
        size = _fill(enter.inside(lab.paths, ONE, "/mnt/F/data"))
        snapshot = benchlab.create(creator)
        benchlab.import_set(importer, creator.save_as_xml())
        copy = importer.get_snapshot_properties(snapshot)
        through = benchlab.tree_of(lab, TWO, copy.device_object)
        assert any(through.iterdir())
        raw = copy.device_object.replace("/Device/", "/RawDevice/")
        with tempfile.TemporaryDirectory() as place:
            device = benchlab.tree_of(lab, TWO, raw)
            subprocess.run(["mount", "-o", "ro", str(device), place], check=True)
            try:
                ours, plain = [], []
                for _ in range(rounds):
                    plain.append(_tar(Path(place)))
                    ours.append(_tar(through))
            finally:
                subprocess.run(["umount", place], check=True)
    return [
        Row(
            name="tar through the device object",
            figure=f"{size / median(ours) / MIB:,.0f} MiB/s",
            against=f"{size / median(plain) / MIB:,.0f} MiB/s of a plain mount",
            ratio=median([p / o for p, o in zip(plain, ours, strict=True)]),
            target="0.95 or more",
            guard=True,
        )
    ]


def _fill(directory: Path) -> int:
    written = 0
    for number in range(FILES):
        below = directory / f"{number % 64}"
        below.mkdir(parents=True, exist_ok=True)
        data = bytes([number % 256]) * (1000 + number * 37 % 120_000)
        written += len(data)
        (below / f"{number}").write_bytes(data)
    subprocess.run(["sync", "-f", str(directory)], check=True)
    return written


def _tar(tree: Path) -> float:
    Path("/proc/sys/vm/drop_caches").write_text("3")
    begin = time.perf_counter()
    # Written to a pipe: into /dev/null itself, tar reads nothing.
    subprocess.run(f"tar -C '{tree}' -cf - data | cat >/dev/null", shell=True, check=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    show("tar", rows(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
