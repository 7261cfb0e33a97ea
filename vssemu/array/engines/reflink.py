"""The reflink engine: a LUN is a sparse file, a copy of it is its clone (FICLONE).

    luns/naa.…/image     the LUN's bytes
    luns/naa.…/scratch   the writable clone of a copy, on which a log is replayed

A clone shares blocks with its source until one of the two is written. It takes about 10 us an
extent of the source, during which nobody writes to that source. The clones of a set follow one
another, so only a hold that lasts through all of them makes the set one instant.

Refuses full copies (plex). Raises OSError for what the file system refuses.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, TypeVar

import trio

from vssemu.array.naming import is_lun_id
from vssemu.linux import fiemap, reflink
from vssemu.vss.array import LunKind
from vssemu.vss.engine import Backing, CopyPair, Prepared, Usage
from vssemu.vss.errors import VolumeNotSupported
from vssemu.vss.identity import LunId

SECONDS_PER_EXTENT: Final = 10e-6
"""What an extent takes at best; the engine learns what it takes on the machine it is on."""

SLOWEST_PER_EXTENT: Final = 30e-6
"""What is expected at worst: one commit on a busy machine must not forbid all that follow."""

SECONDS_PER_CLONE: Final = 1e-3
_ENOUGH_EXTENTS: Final = 500  # below, the time of a commit says nothing of the extents
_IMAGE: Final = "image"
_SCRATCH: Final = "scratch"
_UNFINISHED: Final = "scratch.new"

R = TypeVar("R")


class ReflinkEngine:
    """Implements `vssemu.vss.engine.Engine` over a directory that can clone files."""

    name = "reflink"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[Path, int] = {}
        self._ready: dict[CopyPair, tuple[int, int]] = {}
        self._extents: dict[CopyPair, int] = {}
        self._seconds_per_extent = SECONDS_PER_EXTENT

    async def create(self, lun: LunId, size: int) -> None:
        """Make an empty LUN, durably."""

        def create() -> None:
            target = self._make_image(lun)
            try:
                os.ftruncate(target, size)
                os.fsync(target)
            finally:
                os.close(target)
            self._sync_directories(lun)

        await _in_thread(create)

    async def activate(self, lun: LunId, *, writable: bool) -> Backing:
        """Open the LUN's image. A descriptor that writes is asked of the fabric, not kept here."""
        del writable
        return await _in_thread(lambda: self._backing(self._path(lun, _IMAGE)))

    async def deactivate(self, lun: LunId) -> None:
        """Close what is open of the LUN."""
        for name in (_IMAGE, _SCRATCH):
            self._close(self._path(lun, name))

    async def extend(self, lun: LunId, size: int) -> None:
        """Grow the LUN to `size` bytes; one that is as large already stays as it is."""

        def extend() -> None:
            with _opened(self._path(lun, _IMAGE), os.O_RDWR) as image:
                if os.fstat(image).st_size < size:
                    os.ftruncate(image, size)
                    os.fsync(image)

        await _in_thread(extend)

    async def prepare(self, pairs: Sequence[CopyPair], kind: LunKind, deadline: float) -> Prepared:
        """Make the copies' empty files, open all, and count what the clones will take.

        deadline: a moment of trio's clock. Raises TooSlowError when it passes.
        """
        if kind is not LunKind.DIFFERENTIAL:
            raise VolumeNotSupported(
                f"the engine {self.name} makes no copies of kind {kind.value}",
                hint="ask for differential copies",
            )
        prepared = Prepared(pairs=tuple(pairs), kind=kind, hold_seconds=0.0)
        try:
            with trio.fail_at(deadline):
                for pair in pairs:
                    await _in_thread(self._prepare_pair, pair)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.abort(prepared)
            raise
        extents = sum(self._extents[pair] for pair in pairs)
        seconds = extents * self._seconds_per_extent + len(pairs) * SECONDS_PER_CLONE
        return Prepared(pairs=prepared.pairs, kind=kind, hold_seconds=seconds)

    def _prepare_pair(self, pair: CopyPair) -> None:
        source = os.open(self._path(pair.source, _IMAGE), os.O_RDONLY | os.O_CLOEXEC)
        try:
            extents = fiemap.count_extents(source)
            target = self._make_image(pair.target)
        except BaseException:
            os.close(source)
            raise
        self._ready[pair] = (source, target)
        self._extents[pair] = extents

    def commit(self, prepared: Prepared) -> None:
        """Clone every source. Nothing is opened, made or logged here."""
        begin = time.perf_counter()
        for pair in prepared.pairs:
            source, target = self._ready[pair]
            reflink.clone(source, target)
        self._learn(prepared, time.perf_counter() - begin)

    def _learn(self, prepared: Prepared, seconds: float) -> None:
        extents = sum(self._extents[pair] for pair in prepared.pairs)
        if extents >= _ENOUGH_EXTENTS:
            mean = (self._seconds_per_extent + seconds / extents) / 2
            self._seconds_per_extent = min(max(SECONDS_PER_EXTENT, mean), SLOWEST_PER_EXTENT)

    async def settle(self, prepared: Prepared) -> None:
        """Bring the copies and their names to the disk, and close what `prepare` opened."""

        def settle() -> None:
            for pair in prepared.pairs:
                with _opened(self._path(pair.target, _IMAGE), os.O_RDONLY) as image:
                    os.fsync(image)
                self._sync_directories(pair.target)

        await _in_thread(settle)
        self._forget(prepared.pairs)

    async def abort(self, prepared: Prepared) -> None:
        """Remove the copies, taken or not."""
        self._forget(prepared.pairs)
        for pair in prepared.pairs:
            await self.delete(pair.target)

    async def scratch(self, lun: LunId, *, writable: bool) -> Backing:
        """Open the scratch clone; it gets its name when it is whole and on the disk."""
        del writable
        path = self._path(lun, _SCRATCH)

        def make() -> Backing:
            if not path.exists():
                unfinished = self._path(lun, _UNFINISHED)
                unfinished.unlink(missing_ok=True)
                with (
                    _opened(self._path(lun, _IMAGE), os.O_RDONLY) as source,
                    _opened(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL) as target,
                ):
                    reflink.clone(source, target)
                    os.fsync(target)
                unfinished.rename(path)
            return self._backing(path)

        return await _in_thread(make)

    async def discard_scratch(self, lun: LunId) -> None:
        """Remove the scratch clone, if there is one."""

        def discard() -> None:
            for name in (_SCRATCH, _UNFINISHED):
                self._path(lun, name).unlink(missing_ok=True)

        self._close(self._path(lun, _SCRATCH))
        await _in_thread(discard)

    async def has_scratch(self, lun: LunId) -> bool:
        """Tell whether there is a scratch clone of a copy."""
        return await _in_thread(self._path(lun, _SCRATCH).exists)

    async def delete(self, lun: LunId) -> None:
        """Remove the LUN and all that belongs to it, durably."""
        await self.deactivate(lun)

        def delete() -> None:
            directory = self._path(lun)
            for name in (_IMAGE, _SCRATCH, _UNFINISHED):
                (directory / name).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()
            _sync_directory(self._directory)

        await _in_thread(delete)

    async def resync(self, source: LunId, target: LunId, progress: Callable[[int], None]) -> None:
        """Make the target equal to the source, also in length; progress: percent."""

        def resync() -> None:
            with (
                _opened(self._path(source, _IMAGE), os.O_RDONLY) as origin,
                _opened(self._path(target, _IMAGE), os.O_RDWR) as image,
            ):
                reflink.clone(origin, image)
                os.ftruncate(image, os.fstat(origin).st_size)
                os.fsync(image)

        progress(0)
        await _in_thread(resync)
        progress(100)

    def hold(self, luns: Sequence[LunId]) -> AbstractContextManager[None] | None:
        """Return None: this engine cannot hold writes, the host does."""
        del luns
        return None

    async def usage(self, lun: LunId) -> Usage:
        """Return the LUN's size, and the bytes of its blocks, those shared counted in full."""

        def usage() -> Usage:
            facts = self._path(lun, _IMAGE).stat()
            return Usage(size=facts.st_size, allocated=facts.st_blocks * 512)

        return await _in_thread(usage)

    def _path(self, lun: LunId, *names: str) -> Path:
        assert is_lun_id(lun), lun
        return self._directory.joinpath(lun, *names)

    def _make_image(self, lun: LunId) -> int:
        """Make an empty image in a directory of its own and return its descriptor.

        An image that is there is of an earlier try, for ids are used once, and is taken over.
        """
        self._path(lun).mkdir(exist_ok=True)
        path = self._path(lun, _IMAGE)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def _backing(self, path: Path) -> Backing:
        descriptor = self._open.get(path)
        if descriptor is None:
            descriptor = self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        size = os.fstat(descriptor).st_size
        return Backing(path=str(path), is_block=False, size=size, descriptor=descriptor)

    def _close(self, path: Path) -> None:
        descriptor = self._open.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def _forget(self, pairs: Sequence[CopyPair]) -> None:
        for pair in pairs:
            self._extents.pop(pair, None)
            for descriptor in self._ready.pop(pair, ()):
                os.close(descriptor)

    def _sync_directories(self, lun: LunId) -> None:
        _sync_directory(self._path(lun))
        _sync_directory(self._directory)


async def _in_thread(work: Callable[..., R], *args: object) -> R:
    return await trio.to_thread.run_sync(work, *args)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    with _opened(path, os.O_RDONLY | os.O_DIRECTORY) as directory:
        os.fsync(directory)
