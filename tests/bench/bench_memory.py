"""What memory the processes of an idle lab keep: `python -m tests.bench.bench_memory`, as root.

The private part is a process's own; the proportional one counts its share of what several
have in common, so that the sum is what the lab takes from the machine.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.bench import benchlab
from tests.bench.benchlab import MIB
from tests.bench.figures import Row, show
from vssemu.linux import cgroup

IDLE = 3.0


def rows() -> Sequence[Row]:
    """Measure; return the rows."""
    with benchlab.running() as lab:
        time.sleep(IDLE)
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for pid in sorted(cgroup.pids(lab.known.group())):
            found[_name(pid)].append(_memory(pid))
    whole = sum(share for each in found.values() for _, share in each)
    return [
        Row(name="idle lab of two hosts, all processes", figure=f"{whole / MIB:,.1f} MiB"),
        *(
            Row(
                name=f"  {name}, {len(each)} of it",
                figure=f"{sum(share for _, share in each) / len(each) / MIB:,.1f} MiB each",
                against=f"{sum(own for own, _ in each) / len(each) / MIB:,.1f} MiB private",
            )
            for name, each in sorted(found.items())
        ),
    ]


def _name(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    modules = [word for word in words if word.startswith(("vssemu", "vssemu_fuse"))]
    return modules[0] if modules else words[0]


def _memory(pid: int) -> tuple[int, int]:
    """Return the private and the proportional bytes of a process."""
    facts = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        facts[name] = int(value.split()[0]) * 1024
    return facts["Private_Clean"] + facts["Private_Dirty"], facts["Pss"]


if __name__ == "__main__":
    show("Memory", rows())
