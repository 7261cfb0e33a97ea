"""What a bench prints: a row a figure, with what it is held against and what it should reach."""

import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure. figure, against: with their units. ratio: figure / against, where both are.

    target: in words. guard: a figure that must not get worse, rather than a goal.
    """

    name: str
    figure: str
    against: str = ""
    ratio: float | None = None
    target: str = ""
    guard: bool = False


def show(title: str, rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    table = Table(
        "figure", "value", "against", "ratio", "target", title=title, title_justify="left"
    )
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        target = f"{row.target} (guard)" if row.guard else row.target
        table.add_row(row.name, row.figure, row.against, ratio, target)
    Console(width=150, highlight=False).print(table)


def ms(seconds: float) -> str:
    """Write seconds as milliseconds."""
    return f"{seconds * 1000:,.1f} ms"


def median(values: Sequence[float]) -> float:
    """Return the median, which one bad round does not move."""
    return statistics.median(values)


def random_writes(device: Path | str, writes: int, *, size: int, depth: int = 16) -> float:
    """Write 4 KiB blocks at random, each once, past the cache; return writes a second."""
    return fio([device], "randwrite", size=size, depth=depth, requests=writes)


def fio(
    devices: Sequence[Path | str],
    kind: str,
    *,
    size: int,
    block: str = "4k",
    depth: int = 16,
    requests: int | None = None,
    seconds: float | None = None,
) -> float:
    """Read or write past the cache, all devices at once; return requests a second, of all.

    kind: fio's `rw`. size: bytes of each device. depth: requests in flight on each. Ends after
    so many requests to each, which at random are to blocks that differ, or after so long.
    """
    argv = [
        *("fio", "--direct=1", "--ioengine=libaio", "--randrepeat=0", "--output-format=json"),
        *(f"--rw={kind}", f"--bs={block}", f"--iodepth={depth}", f"--size={size}"),
    ]
    if requests is not None:
        argv.append(f"--number_ios={requests}")
    if seconds is not None:
        argv += ["--time_based", f"--runtime={seconds}"]
    for number, device in enumerate(devices):
        argv += [f"--name=bench{number}", f"--filename={device}"]
    ran = subprocess.run(argv, check=True, capture_output=True, text=True)
    jobs = json.loads(ran.stdout)["jobs"]
    return sum(float(job[way]["iops"]) for job in jobs for way in ("read", "write"))


def fill(device: Path | str, size: int) -> None:
    """Write every block of a device, so that no later write meets a hole."""
    with open(device, "r+b", buffering=0) as file:
        block = b"vssemu!\n" * (1 << 17)
        for _ in range(0, size, len(block)):
            file.write(block)
        file.flush()
    subprocess.run(["sync", str(device)], check=True)
