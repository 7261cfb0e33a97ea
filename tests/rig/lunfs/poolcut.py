"""A pool whose file system stops as by a loss of power, and comes back from its log.

XFS itself is told to stop at once and to write nothing any more, its log included: sizes, names
and extents that nobody made durable are lost, as with a real disk. lunfs and all it serves end.
"""

import contextlib
import os
import random
import time
from pathlib import Path

from tests.rig.lunfs.comeandgo import ComeAndGo, Kept
from tests.rig.lunfs.lunfsrig import MIB, LunfsRig, run, running
from tests.rig.lunfs.stampload import StampLoad, Target, digest, read_view
from tests.rig.lunfs.stamps import Clock, Cut, History, Words, judge
from vssemu.api import shard as api
from vssemu.linux import filesystems, libc
from vssemu.vss.engine import CopyPair
from vssemu.vss.identity import LunId

SIZE = 16 * MIB
_GOING_DOWN = libc.io_read("X", 125, 4)
_WITHOUT_THE_LOG = 2


class CutPool:
    """The pool, its two LUNs, and what they and their snapshots have to hold."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        self._image, self._place = directory / "pool.img", directory / "pool"
        self._chance = random.Random(seed)
        self._seed = seed
        self._rounds = 0
        self._clock = Clock()
        self._luns = [LunId(f"naa.6{number:031x}") for number in (1, 2)]
        self._histories = {lun: History(lun, SIZE) for lun in self._luns}
        self._kept: list[Kept] = []
        self._flushed: dict[LunId, int] = {}
        self.cuts = self.looks = 0
        with self._image.open("xb") as file:
            file.truncate(1024 * MIB)
        filesystems.make_xfs(self._image, timeout=60.0, allocation_groups=4)
        self._place.mkdir()

    def round(self, seconds: float) -> None:
        """Write and take snapshots for a while, cut the power, see what is left."""
        self._rounds += 1
        run("mount", "-o", "loop", self._image, self._place)
        is_cut = False
        try:
            sockets = self._directory / f"r{self._rounds}"
            sockets.mkdir()
            words = ("--chunk-size", str(self._chance.choice((4096, 65536))))
            with running(sockets, arguments=words) as rig:
                self._serve(rig)
                self._check(rig)
                self._play(rig, seconds)
                is_cut = True
        finally:
            with contextlib.suppress(OSError):
                if not is_cut:
                    self._cut()
            run("umount", self._place)

    def check(self) -> None:
        """See what is left of the last round."""
        self.round(0.0)

    def _serve(self, rig: LunfsRig) -> None:
        luns = self._place / "luns"
        luns.mkdir(exist_ok=True)
        rig.serve(luns)
        for lun in self._luns:
            rig.call(0, api.create, lun, SIZE)

    def _play(self, rig: LunfsRig, seconds: float) -> None:
        targets = [Target(h, Path(rig.path(lun))) for lun, h in self._histories.items()]
        load = StampLoad(
            self._clock,
            targets,
            depth=6,
            seed=self._seed * 1000 + self._rounds,
            flushes=0.05,
            may_fail=True,
        )
        going = ComeAndGo(
            rig, self._clock, self._histories, [], seed=self._rounds, first=self._rounds << 12
        )
        going.kept, going.forgets = self._kept, False
        load.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            going.step(most=6)
        # One that is not settled when the power goes: it may be lost, but nothing with it.
        pair = CopyPair(source=self._luns[0], target=LunId(f"naa.6{self._rounds << 12:031x}"))
        rig.call(0, api.prepare, [pair])
        rig.call(0, api.commit, [pair])
        if self._chance.random() < 0.5:
            rig.restart()
        time.sleep(self._chance.uniform(0.0, 0.3))
        self._cut()
        self._flushed = {lun: load.flushed[str(lun)] for lun in self._luns}
        with rig.guarded(30):
            load.stop()
        self.cuts += 1

    def _cut(self) -> None:
        descriptor = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            libc.ioctl(descriptor, _GOING_DOWN, libc.Number(_WITHOUT_THE_LOG))
        finally:
            os.close(descriptor)

    def _check(self, rig: LunfsRig) -> None:
        if not self.cuts:
            return
        for lun, history in self._histories.items():
            view = self._view(rig, lun)
            cut = Cut(asked=max(1, self._flushed[lun]), made=self._clock.now())
            verdict = judge([(history, view)], cut, ordered=False)
            assert not verdict.wrong, verdict.wrong[:5]
            self._histories[lun] = History(lun, SIZE, verdict.held[lun].tolist())
        for one in self._kept:
            assert digest(self._view(rig, one.name)) == one.sha256, f"{one.name} has changed"
            self.looks += 1

    @staticmethod
    def _view(rig: LunfsRig, name: LunId) -> Words:
        descriptor = rig.open(name, 0, os.O_RDONLY | os.O_DIRECT)
        try:
            return read_view(descriptor)
        finally:
            os.close(descriptor)
