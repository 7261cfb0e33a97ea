"""Creating a snapshot with the cow engine: how long writes are held; and a million exceptions.

`python -m tests.bench cow_million`, as root. Two LUNs, both of which have a snapshot already:

- 1 GiB, in tens of thousands of extents, for its image was sparse and written at random;
- 1 TiB, sparse, whose snapshot has a million exceptions. They are written with `vssemu.stores`
  while no shard runs, and taken over when the shard starts again.

In each round a writer asks for one 4 KiB write after the other past the cache, a snapshot is
prepared, and then committed. Writes are held for a part of the call that commits it, so the
call is the bound. Beside it, the longest write that met the call: it waited for the hold, and
then for a first copy, before which the record of the chain is made durable.
"""

import mmap
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.benchcow import GIB, MIB, Site, pool_for_bench, site
from tests.bench.figures import Row, median, ms, random_writes, show
from vssemu.api import shard as api
from vssemu.stores.writing import write_store
from vssemu.vss.identity import LunId

CHUNK = 16384
SMALL, LARGE = GIB, 1024 * GIB
EXTENTS = 100_000
MILLION = 1_000_000
BLOCK = 4096
TARGET = "10 ms"
BETWEEN = 0.25
"""Seconds before and after a commit."""


def rows(rounds: int = 5) -> Sequence[Row]:
    """Measure; return the rows."""
    with pool_for_bench() as luns:
        with site(luns, chunk_size=CHUNK) as ours:
            small = ours.lun(SMALL, filled=False)
            with ours.rig.loop(small) as device:
                random_writes(device.path, EXTENTS, size=SMALL)
            ours.snapshot(small)
            found = _held(ours, small, f"1 GiB, {EXTENTS:,} writes at random", rounds)
            large = ours.lun(LARGE, filled=False)
            copy = ours.snapshot(large)
            before = _restart(ours)
            length = (ours.directory(copy) / "store").stat().st_size
            memory = _memory(ours)
        _write_exceptions(ours.directory(copy) / "store", length)
        with site(luns, chunk_size=CHUNK) as ours:
            assert ours.rig.call(0, api.facts, copy).exceptions == MILLION
            after = _restart(ours)
            found += [
                Row(
                    name="start of a shard, a million exceptions, until it serves",
                    figure=ms(after),
                    against=f"{ms(before)} without them",
                ),
                Row(
                    name="its memory",
                    figure=f"{_memory(ours) / MIB:,.0f} MiB",
                    against=f"{memory / MIB:,.0f} MiB without them",
                ),
            ]
            found += _held(ours, large, "sparse 1 TiB, a million exceptions", rounds)
    return found


def _held(ours: Site, lun: LunId, name: str, rounds: int) -> list[Row]:
    met, called, usual = [], [], []
    with ours.rig.loop(lun) as device, _writing(device.path) as writes:
        for _ in range(rounds):
            pair = ours.prepared(lun)
            time.sleep(BETWEEN)
            begin = time.perf_counter()
            called.append(ours.commit(pair))
            time.sleep(BETWEEN)
            before = [seconds for end, seconds in list(writes) if end < begin]
            usual.append(median(before[-200:]))
            called_until = begin + called[-1]
            met.append(
                max(
                    seconds
                    for end, seconds in list(writes)
                    if end > begin and end - seconds < called_until
                )
            )
            ours.remove(pair.target)
    return [
        Row(
            name=f"call that takes a snapshot: {name}",
            figure=ms(median(called)),
            against=f"{ms(max(called))} at most",
            target=TARGET,
        ),
        Row(
            name="the longest write that met it",
            figure=ms(median(met)),
            against=f"{ms(median(usual))} as a write takes",
        ),
    ]


@contextmanager
def _writing(path: Path) -> Iterator[list[tuple[float, float]]]:
    """Write 4 KiB at random during the block; gives a growing list of (end, seconds)."""
    over, found = threading.Event(), list[tuple[float, float]]()

    def write() -> None:
        chance = random.Random(1)
        descriptor = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
        with mmap.mmap(-1, BLOCK) as room:
            room[:] = os.urandom(BLOCK)
            while not over.is_set():
                begin = time.perf_counter()
                os.pwrite(descriptor, room, chance.randrange(SMALL // BLOCK) * BLOCK)
                end = time.perf_counter()
                found.append((end, end - begin))
        os.close(descriptor)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def _write_exceptions(store: Path, length: int) -> None:
    """Replace a store by one with a million exceptions, all of chunks that are zero."""
    zero = bytes(CHUNK)
    unused = SMALL // CHUNK
    step = (LARGE - SMALL) // CHUNK // MILLION
    with store.open("r+b") as file:
        written = write_store(
            file.fileno(),
            CHUNK,
            ((unused + number * step, zero) for number in range(MILLION)),
        )
        os.ftruncate(file.fileno(), length)
        os.fsync(file.fileno())
    assert written == MILLION


def _restart(ours: Site) -> float:
    """Kill the shard; return the seconds until the next one serves."""
    begin = time.perf_counter()
    ours.rig.restart(0)
    return time.perf_counter() - begin


def _memory(ours: Site) -> int:
    """Return the bytes that a shard has in memory, which is locked."""
    for line in Path(f"/proc/{ours.rig.pid(0)}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


if __name__ == "__main__":
    show("Creating a snapshot with the cow engine", rows())
