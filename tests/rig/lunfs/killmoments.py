"""A shard that is killed at chosen moments of copy, exception, data and answer.

Whoever comes next takes snapshots before it is asked again for what was not answered. Nothing
that was answered may be undone, and no snapshot may change, whatever is done a second time.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.rig.lunfs import dyingserver
from tests.rig.lunfs.faultrig import FaultRig, Started
from tests.rig.lunfs.lunfsrig import BLOCK, MIB, LunfsRig, wait_until, xfs_pool
from vssemu.api import shard as api
from vssemu.linux import fallocate
from vssemu.vss.engine import CopyPair
from vssemu.vss.identity import LunId

CHUNK = 4 * BLOCK
CALLS = 4
MOST_SNAPSHOTS = 8
LEAST_MOMENTS = 12


class DyingRig(LunfsRig):
    """A shard that dies on demand."""

    def _service(self, number: int) -> dict[str, Any]:
        service = super()._service(number)
        service["argv"][1:3] = [dyingserver.__file__, str(self.directory)]
        return service

    def die_at(self, moment: int) -> None:
        """Have the shard die at a moment from now on."""
        unfinished = self.directory / "die.new"
        unfinished.write_text(str(moment))
        unfinished.rename(self.directory / dyingserver.DIE)

    @property
    def has_died(self) -> bool:
        """Whether it is about to be dead; its successor waits."""
        return (self.directory / dyingserver.WAIT).exists()

    def wait_for_successor(self, starts: int) -> None:
        """Return when there is one more than so many."""
        wait_until(lambda: self.facts()["starts"] > starts, "it is started again")
        self.wait_ready()

    def go_on(self) -> None:
        """Have the successor take requests."""
        (self.directory / dyingserver.WAIT).unlink()

    def spare(self) -> None:
        """Have the shard live after all."""
        (self.directory / dyingserver.DIE).unlink()


class Scene:
    """An origin, and what its snapshots have shown, which is what they must show for ever."""

    def __init__(self, rig: DyingRig, pool: Path) -> None:
        self.rig = rig
        self.one = FaultRig(rig, pool)
        self.origin = self.one.lun(MIB)
        self.image = pool / self.origin / "image"
        self.descriptor = rig.open(self.origin)
        self.content = bytearray(os.urandom(MIB))
        os.pwrite(self.descriptor, self.content, 0)
        self.shown: dict[LunId, bytes] = {}

    def prepare(self, source: LunId) -> CopyPair:
        """Prepare a snapshot."""
        pair = CopyPair(source=source, target=self.one.name())
        self.one.call(api.prepare, [pair])
        return pair

    def snapshot(self) -> LunId:
        """Take a snapshot of the origin while nothing is written."""
        pair = self.prepare(self.origin)
        self.one.call(api.commit, [pair])
        self.shown[pair.target] = bytes(self.content)
        return pair.target

    def remove_eldest(self) -> None:
        """Keep the chain short, the first snapshot apart."""
        while len(self.shown) > MOST_SNAPSHOTS:
            name = list(self.shown)[1]
            self.one.call(api.remove, name)
            del self.shown[name]

    def look(self, name: LunId) -> bytes:
        descriptor = self.rig.open(name, flags=os.O_RDONLY)
        with self.rig.guarded():
            seen = os.pread(descriptor, MIB, 0)
        os.close(descriptor)
        return seen

    def look_at_all(self) -> None:
        """Fail unless everything shows what it must."""
        assert differing(self.look(self.origin), self.content) == []
        for name, shown in self.shown.items():
            assert differing(self.look(name), shown) == [], f"{name} changed"


class Change:
    """Changes that are begun at once: two blocks of one chunk of the origin are written, its
    next chunk is zeroed, and one block of a snapshot is written, in the chunk after that.

    origin, written: what both show afterwards.
    """

    def __init__(self, scene: Scene, chunk: int, snapshot: LunId) -> None:
        begin = chunk * CHUNK
        blocks, third = (begin, begin + 2 * BLOCK), begin + 2 * CHUNK
        self.origin = bytearray(scene.content)
        for block in blocks:
            self.origin[block : block + BLOCK] = os.urandom(BLOCK)
        self.origin[begin + CHUNK : third] = bytes(CHUNK)
        self.written = bytearray(scene.shown[snapshot])
        self.written[third : third + BLOCK] = os.urandom(BLOCK)
        self._descriptor = scene.rig.open(snapshot)
        self._started = Started(
            [
                *(partial(self._write, scene.descriptor, self.origin, block) for block in blocks),
                partial(fallocate.punch, scene.descriptor, begin + CHUNK, CHUNK),
                partial(self._write, self._descriptor, self.written, third),
            ]
        )

    @staticmethod
    def _write(descriptor: int, content: bytearray, block: int) -> None:
        assert os.pwrite(descriptor, content[block : block + BLOCK], block) == BLOCK

    @property
    def is_over(self) -> bool:
        return len(self._started.results) == CALLS

    def wait(self) -> None:
        """Return once all is answered; nothing may have failed."""
        assert self._started.wait() == [None] * CALLS
        os.close(self._descriptor)


def differing(one: bytes | bytearray, other: bytes | bytearray) -> list[int]:
    """Return the blocks in which two contents of one size differ."""
    assert len(one) == len(other)
    return [
        block
        for block in range(len(one) // BLOCK)
        if one[block * BLOCK : (block + 1) * BLOCK] != other[block * BLOCK : (block + 1) * BLOCK]
    ]


@contextmanager
def scene_of(directory: Path, safety: str) -> Iterator[Scene]:
    words = ("--chunk-size", str(CHUNK), "--safety", safety)
    with xfs_pool(directory) as pool:
        rig = DyingRig(directory, arguments=words)
        try:
            rig.start()
            rig.serve(pool)
            scene = Scene(rig, pool)
            try:
                yield scene
            finally:
                os.close(scene.descriptor)
        finally:
            rig.close()


def one_of(seen: bytes, before: bytes | bytearray, after: bytes | bytearray) -> None:
    """Fail unless each block is what it was, or what it was to become."""
    neither = set(differing(seen, before)) & set(differing(seen, after))
    assert not neither, f"blocks {sorted(neither)} are neither old nor new"


def die_at_moments(directory: Path, safety: str, *, lives: int, every: int) -> int:
    """Have a shard die at every how many-th moment of a change; return how many there are.

    lives: so many in a row die over one change.
    """
    moment, has_died = every // 2, True
    with scene_of(directory, safety) as scene:
        scene.snapshot()
        while has_died:
            chunk = 3 * moment % (MIB // CHUNK - 2)
            has_died = die_once(scene, moment, chunk, lives)
            moment += every
        assert scene.rig.facts()["starts"] >= lives * (moment // every - 1)
        scene.look_at_all()
    assert moment > LEAST_MOMENTS
    return moment


def die_once(scene: Scene, moment: int, chunk: int, lives: int) -> bool:
    """Have the shard die in some lives at one moment each, with snapshots taken in between.

    Tells whether it died; if not, there are no so many moments.
    """
    rig = scene.rig
    written = scene.snapshot()
    before = scene.shown.pop(written)
    pairs = [scene.prepare(source) for source in (scene.origin, written) for _ in range(lives)]
    rig.die_at(moment)
    scene.shown[written] = before
    change = Change(scene, chunk, written)
    starts = rig.facts()["starts"]
    for life in range(lives):
        wait_until(lambda: rig.has_died or change.is_over, "it dies or answers")
        if not rig.has_died:
            rig.spare()
            break
        rig.wait_for_successor(starts + life)
        # Nothing is asked for again yet. What the image has now is the instant.
        of_origin, of_written = pairs[life], pairs[lives + life]
        scene.one.call(api.commit, [of_origin, of_written])
        shown = scene.image.read_bytes()
        one_of(shown, scene.content, change.origin)
        scene.shown[of_origin.target] = shown
        if life + 1 < lives:
            rig.die_at(moment)
        rig.go_on()
    else:
        life = lives
    change.wait()
    scene.content = change.origin
    scene.shown[written] = bytes(change.written)
    for pair in pairs[lives : lives + life]:
        seen = scene.look(pair.target)
        one_of(seen, before, change.written)
        scene.shown[pair.target] = seen
    scene.look_at_all()
    # Written once more, the same blocks: what was made a second time is no newer than that.
    again = Change(scene, chunk, written)
    again.wait()
    scene.content, scene.shown[written] = again.origin, bytes(again.written)
    scene.look_at_all()
    scene.one.call(api.abort, [p.target for n in (0, lives) for p in pairs[n + life : n + lives]])
    scene.remove_eldest()
    return life == lives
