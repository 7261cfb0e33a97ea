"""All benches, one after the other, each in a table: `make bench [BENCH=transport,tar]`.

Prints figures side by side with what they are held against, and passes no judgement.
"""

import importlib
import sys

from tests.bench.figures import show

BENCHES = {
    "hold": "Hold window",
    "set": "A set of many volumes",
    "first_writes": "First writes with a live snapshot",
    "cow_raw": "The data path of the cow engine",
    "cow_first": "First writes of the cow engine",
    "cow_chunks": "Chunk sizes of the cow engine; ratios to the smallest",
    "cow_million": "Creating a snapshot with the cow engine",
    "cow_restart": "A shard of the cow engine that is killed",
    "transport": "Transport, client to client",
    "tar": "Reading through the device object",
    "hundredth": "The hundredth shadow copy",
    "memory": "Memory of an idle lab",
    "pool_full": "A pool that fills",
    "rpc": "Calls",
}


def main() -> None:
    """Run the benches that are named, or all."""
    wanted = sys.argv[1].split(",") if len(sys.argv) > 1 and sys.argv[1] else list(BENCHES)
    if strange := set(wanted) - BENCHES.keys():
        sys.exit(f"no bench {', '.join(sorted(strange))}; there are {', '.join(BENCHES)}")
    for name in wanted:
        bench = importlib.import_module(f"tests.bench.bench_{name}")
        show(BENCHES[name], bench.rows())


if __name__ == "__main__":
    main()
