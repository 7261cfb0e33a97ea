"""The reflink engine alone over a pool of its own, LUNs under load, and the comparison.

A round is a creation beside running load: prepare, a moment, hold, commit, compare the copy with
the held origin byte for byte, release. The load changes the LUN in every way that a host can.
"""

import contextlib
import dataclasses
import fcntl
import mmap
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
import trio

from vssemu.array.engines.files import IMAGE
from vssemu.array.engines.reflink.engine import ReflinkEngine
from vssemu.array.engines.reflink.maps import differing
from vssemu.array.naming import mint_lun_id
from vssemu.linux import blockdev, fiemap, filesystems, freeze, fsxattr, loop, mount
from vssemu.vss.array import LunKind
from vssemu.vss.engine import CopyPair, Prepared
from vssemu.vss.identity import LunId

MIB = 1 << 20
BLOCK = 4096
CHUNK = 4 * MIB
LONG = 600.0
MEMORY = Path("/dev/shm")


@contextmanager
def bound(image: Path) -> Iterator[int]:
    """Bind a file to a loop device with direct I/O during the block; gives the number."""
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    flags = loop.LoopFlag.AUTOCLEAR | loop.LoopFlag.DIRECT_IO
    try:
        made = None
        while made is None:
            made = loop.try_bind(backing, block_size=BLOCK, flags=flags)
    finally:
        os.close(backing)
    number, descriptor = made
    try:
        facts = loop.sysfs_facts(number)
        assert facts is not None
        assert facts.direct_io
        yield number
    finally:
        os.close(descriptor)


@contextmanager
def mounted(device: int, place: Path, fstype: str, options: str | None = None) -> Iterator[Path]:
    """Mount a loop device during the block."""
    place.mkdir()
    mount.mount(loop.node(device), place, fstype, mount.MountFlag.NOATIME, options)
    try:
        yield place
    finally:
        mount.unmount(place)
        place.rmdir()


@contextmanager
def pool(
    directory: Path, size: int = 4096 * MIB, *, groups: int = 8, in_memory: bool = True
) -> Iterator[Path]:
    """Make and mount a pool's file system during the block; gives the directory of LUNs.

    groups: allocation groups. in_memory: the image lies there, if there is room: one in many
    pieces takes long to remove from a disk that is told of each.
    """
    memory = os.statvfs(MEMORY)
    in_memory = in_memory and memory.f_bavail * memory.f_frsize >= size
    image = (MEMORY if in_memory else directory) / f"{directory.name}.img"
    with image.open("xb") as file:
        file.truncate(size)
    try:
        filesystems.make_xfs(image, timeout=60.0, allocation_groups=groups)
        with bound(image) as device, mounted(device, directory / "pool", "xfs") as place:
            luns = place / "luns"
            luns.mkdir()
            descriptor = freeze.open_directory(luns)
            fsxattr.set_cow_extent_size(descriptor, BLOCK)
            os.close(descriptor)
            yield luns
    finally:
        image.unlink()


class Bench:
    """An engine, and the LUNs that it makes."""

    def __init__(self, luns: Path) -> None:
        self.luns = luns
        self.engine = ReflinkEngine(luns)
        self._made = 0

    def new_id(self) -> LunId:
        self._made += 1
        return mint_lun_id(self._made)

    async def lun(self, size: int) -> LunId:
        made = self.new_id()
        await self.engine.create(made, size)
        return made

    def image(self, lun: LunId, name: str = IMAGE) -> Path:
        return self.luns / lun / name

    async def prepare(
        self, source: LunId, kind: LunKind = LunKind.DIFFERENTIAL
    ) -> tuple[Prepared, LunId]:
        pair = CopyPair(source=source, target=self.new_id())
        prepared = await self.engine.prepare([pair], kind, trio.current_time() + LONG)
        return prepared, pair.target

    async def copy(self, source: LunId, kind: LunKind = LunKind.DIFFERENTIAL) -> LunId:
        """Make a copy with nothing in between; returns its id."""
        prepared, target = await self.prepare(source, kind)
        self.engine.commit(prepared)
        await self.engine.settle(prepared)
        return target

    def changed(self, one: LunId, other: LunId, name: str = IMAGE) -> int:
        """Return in how many ranges an image and a file of another LUN differ by address."""
        with self.image(one).open("rb") as old, self.image(other, name).open("rb") as new:
            maps = [fiemap.extents(file.fileno()) for file in (old, new)]
        return len(differing(*maps))


def first_difference(one: Path, other: Path) -> int | None:
    """Return the offset of the first block in which two files differ, read past every cache."""
    files = [os.open(path, os.O_RDONLY | os.O_DIRECT) for path in (one, other)]
    with mmap.mmap(-1, CHUNK) as left, mmap.mmap(-1, CHUNK) as right:
        rooms = [memoryview(left), memoryview(right)]
        arrays = [np.frombuffer(room, dtype=np.uint8) for room in rooms]
        try:
            sizes = [os.fstat(file).st_size for file in files]
            if sizes[0] != sizes[1]:
                return min(sizes)
            for offset in range(0, sizes[0], CHUNK):
                counts = [
                    os.preadv(file, [room], offset)
                    for file, room in zip(files, rooms, strict=True)
                ]
                same = arrays[0][: counts[0]] == arrays[1][: counts[1]]
                if not same.all():
                    return (offset + int(np.argmin(same))) // BLOCK * BLOCK
            return None
        finally:
            arrays.clear()
            for room in rooms:
                with contextlib.suppress(BufferError):
                    room.release()
            for file in files:
                os.close(file)


@dataclasses.dataclass(frozen=True)
class Load:
    """A LUN under load. hold: writes are held during the block. grow: makes the LUN larger."""

    lun: LunId
    hold: Callable[[], contextlib.AbstractContextManager[None]]
    grow: Callable[[int], None] | None = None


async def rounds(bench: Bench, load: Load, count: int, chance: random.Random) -> int:
    """Compare so many copies with their held origin; return how many ranges commits changed."""
    engine, kept, changed = bench.engine, list[LunId](), 0
    for number in range(count):
        prepared, target = await bench.prepare(load.lun)
        if kept and chance.random() < 0.5:
            await engine.delete(kept.pop(chance.randrange(len(kept))))
        if load.grow is not None and number % 4 == 3:
            facts = await engine.usage(load.lun)
            await engine.extend(load.lun, facts.size + MIB)
            load.grow(facts.size + MIB)
        await trio.sleep(chance.uniform(0.02, 0.2))

        def instant(target: LunId = target, prepared: Prepared = prepared) -> int | None:
            nonlocal changed
            with load.hold():
                changed += bench.changed(load.lun, target)
                engine.commit(prepared)
                return first_difference(bench.image(load.lun), bench.image(target))

        differs = await trio.to_thread.run_sync(instant)
        assert differs is None, f"round {number}: differs from byte {differs} on"
        await engine.settle(prepared)
        kept.append(target)
        while len(kept) > 3:
            await engine.delete(kept.pop(chance.randrange(len(kept))))
    for target in kept:
        await engine.delete(target)
    return changed


@asynccontextmanager
async def raw_load(bench: Bench, size: int, chance: random.Random) -> AsyncIterator[Load]:
    """Threads that write, discard and zero a LUN's device, each call whole."""
    lun = await bench.lun(size)
    state = {"size": size, "held": 0, "over": 0, "busy": 0}
    seeds = [chance.random() for _ in range(3)]
    with contextlib.ExitStack() as stack:
        number = stack.enter_context(bound(bench.image(lun)))
        locks = [_Lock(stack, bench.luns.parent / f"lock{each}") for each in range(3)]

        def hammer(lock: _Lock, seed: float) -> None:
            mine = random.Random(seed)
            device = os.open(loop.node(number), os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
            with mmap.mmap(-1, 64 * BLOCK) as room:
                room.write(mine.randbytes(64 * BLOCK))
                view = memoryview(room)
                try:
                    while not state["over"]:
                        with lock.shared():
                            _one_change(device, view, state["size"], mine)
                finally:
                    view.release()
                    os.close(device)

        @contextmanager
        def hold() -> Iterator[None]:
            with contextlib.ExitStack() as held:
                for lock in locks:
                    held.enter_context(lock.exclusive())
                yield

        def grow(larger: int) -> None:
            device = loop.open_device(number, os.O_RDWR)
            loop.set_capacity(device)
            os.close(device)
            state["size"] = larger

        async with trio.open_nursery() as nursery:
            for lock, seed in zip(locks, seeds, strict=True):
                nursery.start_soon(trio.to_thread.run_sync, hammer, lock, seed)
            try:
                yield Load(lun=lun, hold=hold, grow=grow)
            finally:
                state["over"] = 1
    await bench.engine.delete(lun)


class _Lock:
    """A file lock with descriptors of its own for both sides: who holds stops who writes."""

    def __init__(self, stack: contextlib.ExitStack, path: Path) -> None:
        path.touch()
        stack.callback(path.unlink)
        self._sides = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for _ in range(2)]
        for side in self._sides:
            stack.callback(os.close, side)

    @contextmanager
    def _held(self, side: int) -> Iterator[None]:
        fcntl.flock(self._sides[side], fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._sides[side], fcntl.LOCK_UN)

    def shared(self) -> contextlib.AbstractContextManager[None]:
        return self._held(0)

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        return self._held(1)


def _one_change(device: int, room: memoryview, size: int, chance: random.Random) -> None:
    blocks = chance.choice((1, 1, 1, 2, 16, 64))
    offset = chance.randrange(size // BLOCK - blocks + 1) * BLOCK
    what = chance.random()
    if what < 0.8:
        room[:8] = chance.randbytes(8)
        os.pwritev(device, [room[: blocks * BLOCK]], offset)
    elif what < 0.9:
        blockdev.discard(device, offset, blocks * BLOCK)
    else:
        blockdev.zero_out(device, offset, blocks * BLOCK)


@asynccontextmanager
async def filesystem_load(
    bench: Bench, fstype: str, size: int, chance: random.Random
) -> AsyncIterator[Load]:
    """A file system on a LUN, mounted with discard, under fio and a churn of files."""
    lun = await bench.lun(size)
    over = trio.Event()
    with contextlib.ExitStack() as stack:
        number = stack.enter_context(bound(bench.image(lun)))
        make = filesystems.make_ext4 if fstype == "ext4" else filesystems.make_xfs
        await trio.to_thread.run_sync(lambda: make(loop.node(number), timeout=60.0))
        place = bench.luns.parent.parent / f"volume-{fstype}"
        stack.enter_context(mounted(number, place, fstype, "discard"))
        root = freeze.open_directory(place)
        stack.callback(os.close, root)

        @contextmanager
        def hold() -> Iterator[None]:
            freeze.freeze(root)
            try:
                yield
            finally:
                freeze.thaw(root)

        fio = start_fio(place / "load", size=24 * MIB)
        stack.callback(end, fio)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, _churn, place, over.is_set, chance)
            try:
                yield Load(lun=lun, hold=hold)
                assert fio.poll() is None, "the load ended before its time"
            finally:
                over.set()
    await bench.engine.delete(lun)


def start_fio(path: Path, *, size: int, rate: int = 0) -> subprocess.Popen[bytes]:
    """Start random writes to a file, for ever. rate: writes a second at most, 0: no limit."""
    options = {
        "name": "load",
        "filename": path,
        "size": size,
        "rate_iops": rate,
        "rw": "randwrite",
        "bs": "4k",
        "direct": 1,
        "ioengine": "psync",
        "time_based": 1,
        "runtime": 3600,
        "output": "/dev/null",
    }
    argv = ["fio", "--thread", *(f"--{name}={value}" for name, value in options.items())]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def end(child: subprocess.Popen[bytes]) -> None:
    """End a load."""
    child.send_signal(signal.SIGTERM)
    child.wait(60)


def _churn(place: Path, is_over: Callable[[], bool], chance: random.Random) -> None:
    """Create, write, allocate, truncate, punch and remove small files."""
    while not is_over():
        path = place / f"file{chance.randrange(24)}"
        what = chance.random()
        with contextlib.suppress(FileNotFoundError):
            if what < 0.3:
                path.unlink()
            elif what < 0.5:
                os.truncate(path, chance.randrange(256 * 1024))
            elif what < 0.6:
                with path.open("ab") as file:
                    os.posix_fallocate(file.fileno(), 0, chance.randrange(1, 256 * 1024))
            else:
                with path.open("wb") as file:
                    file.write(chance.randbytes(chance.randrange(1, 64 * 1024)))
                    if what < 0.8:
                        os.fsync(file.fileno())
