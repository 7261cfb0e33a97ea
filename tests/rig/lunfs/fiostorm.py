"""fio with verification and trims over an origin, stamped blocks over two others, snapshots of
all three that come and go, and a lunfs that is killed again and again.
"""

import time
from pathlib import Path

from tests.rig.lunfs.comeandgo import ComeAndGo, killing
from tests.rig.lunfs.fioverify import verifying
from tests.rig.lunfs.lunfsrig import MIB, running, xfs_pool
from tests.rig.lunfs.stampload import StampLoad, Target, at_rest, read_view
from tests.rig.lunfs.stamps import Clock, History, judge
from vssemu.api import shard as api
from vssemu.vss.identity import LunId

SIZE = 32 * MIB
CHUNKS = (65536, 4096, 16384)
ORIGINS = [LunId(f"naa.6{number:031x}") for number in (1, 2, 3)]


def fio_storm(directory: Path, seconds: float, seed: int) -> str:
    """Play it for so many seconds; return what was done. Whatever is wrong is a failure."""
    words = ("--chunk-size", str(CHUNKS[seed % len(CHUNKS)]))
    with (
        xfs_pool(directory, 2048 * MIB) as pool,
        running(directory, arguments=words) as rig,
    ):
        rig.serve(pool)
        for origin in ORIGINS:
            rig.call(0, api.create, origin, SIZE)
        clock = Clock()
        histories = {origin: History(origin, SIZE) for origin in ORIGINS[1:]}
        going = ComeAndGo(rig, clock, histories, ORIGINS[:1], seed=seed)
        with (
            rig.loop(ORIGINS[0]) as verified,
            rig.loop(ORIGINS[1]) as one,
            rig.loop(ORIGINS[2]) as two,
        ):
            devices = {ORIGINS[1]: one.path, ORIGINS[2]: two.path}
            load = StampLoad(
                clock,
                [Target(histories[lun], path) for lun, path in devices.items()],
                depth=6,
                seed=seed,
            )
            with verifying(verified.path, size=SIZE, seconds=seconds, seed=seed) as fio:
                with load.running(), killing(rig, every=(2.0, 6.0), seed=seed) as killed:
                    end = time.monotonic() + seconds
                    while time.monotonic() < end and not fio.is_over:
                        going.step(most=9)
                with rig.guarded(60):
                    done = fio.result(60)
            for lun, path in devices.items():
                wrong = judge([(histories[lun], read_view(path))], at_rest(clock)).wrong
                assert not wrong, wrong[:5]
        going.end()
    assert min(done.reads, done.writes, done.trims, load.writes) > 100
    assert min(len(killed), going.taken, going.looks) > 1
    return (
        f"{done}, {load.writes} stamped writes, {len(killed)} kills; snapshots: "
        f"{going.taken} taken, {going.looks} looked at, {going.spoilt} cloned and written, "
        f"{going.removed} removed, {going.interrupted} interrupted"
    )
