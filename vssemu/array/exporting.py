"""Exports: a snapshot written as an exception store that dm-snapshot takes, as it stands alone.

In the array a snapshot's old chunks lie in its own store and in those of younger ones. Here all
chunks in which its view differs from the origin's are written into one store, in their order.
It fits the origin at one instant only. The origin of that instant is written too, or the origin
must rest: no host has it attached, and none gets it while the export lasts.
"""

import errno
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

import numpy as np
import structlog
import trio
from numpy.typing import NDArray

from vssemu.array.border import storage
from vssemu.array.callersfiles import CallersFile, about
from vssemu.array.core import Core, existing
from vssemu.array.engines.cow.engine import CowEngine
from vssemu.array.engines.cow.exchange import Exchange, StillPair
from vssemu.array.engines.files import opened
from vssemu.array.progress import Progress
from vssemu.array.rows import LunRow
from vssemu.array.tables import Tables
from vssemu.stores.writing import write_store
from vssemu.vss.array import Exported, LunKind
from vssemu.vss.errors import InvalidArgument, NotSupportedHere, VolumeInUse
from vssemu.vss.identity import LunId
from vssemu.vss.lifecycle.lun import LunCall, after

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

PIECE: Final = 1 << 20


class Exporting:
    """Exports of snapshots."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def export(
        self, lun: LunId, store: CallersFile, origin: CallersFile | None, progress: Progress
    ) -> Exported:
        """Write a snapshot as a store, durably; its origin too if a file is given.

        The snapshot is nobody else's meanwhile, and without a file for it neither is the
        origin. Cancellable: the files are then worth nothing.
        Raises NotSupportedHere, ObjectNotFound, InvalidArgument for what is no snapshot,
        BadState, VolumeInUse for an origin in use, InsufficientStorage, Fail.
        """
        exchange = exchange_of(self._core)
        with storage("export LUN", lun):
            await self._core.journal.read(_snapshot, lun)
            source = await exchange.origin_of(lun)
            locked = (lun,) if origin is not None else (lun, source)
            async with self._core.luns.holding(*locked):
                await self._core.journal.read(_snapshot, lun)
                if origin is None:
                    await self._refuse_used(source)
                async with exchange.still(lun) as pair:
                    write = partial(_write, lun, pair, store, origin, progress)
                    count = await trio.to_thread.run_sync(write)
        logger.info("snapshot_exported", lun=lun, chunks=count)
        return Exported(
            done=progress.total,
            total=progress.total,
            chunk_size=pair.chunk_size,
            chunks=count,
        )

    async def _refuse_used(self, origin: LunId) -> None:
        row = await self._core.journal.read(existing, origin)
        if users := await self._core.users(row):
            raise VolumeInUse(
                f"LUN {origin} is in use, so no store fits it for long: {', '.join(users)}",
                item=origin,
                hint="export the origin too, with --origin FILE, or detach it first",
            )


def exchange_of(core: Core) -> Exchange:
    """Return what exports and imports are made with. Raises NotSupportedHere."""
    if not isinstance(core.engine, CowEngine):
        raise NotSupportedHere(
            f"the engine {core.engine.name} keeps no exception stores",
            item=core.engine.name,
            hint="use a lab with --engine cow",
        )
    return core.engine.exchange


def _snapshot(tables: Tables, lun: LunId) -> LunRow:
    row = existing(tables, lun)
    if row.kind is not LunKind.DIFFERENTIAL:
        raise InvalidArgument(
            f"LUN {lun} is no snapshot: it is {row.kind.value}",
            item=lun,
            hint="give the id of a differential copy, as `vssemu array lun list` shows it",
        )
    after(row.state, LunCall.EXPORT, item=lun)
    return row


def _bytes(ranges: Sequence[tuple[int, int]]) -> int:
    return sum(length for _, length in ranges)


def _write(
    lun: LunId,
    pair: StillPair,
    store: CallersFile,
    origin: CallersFile | None,
    progress: Progress,
) -> int:
    """Write the files and return how many chunks the store has. Raises VssError."""
    progress.total = _bytes(pair.changed)
    progress.total += 0 if origin is None else _bytes(pair.data)
    with about(store):
        count = _write_store(lun, pair, store.descriptor, progress)
    if origin is not None:
        with about(origin):
            _write_origin(lun, pair, origin.descriptor, progress)
    return count


def _write_store(lun: LunId, pair: StillPair, target: int, progress: Progress) -> int:
    """Write the chunks that differ, and return how many there are. Raises OSError of target."""
    with _reading(lun, pair.view) as view, _reading(lun, pair.origin) as origin:
        chunks = _differing(pair, view, origin, progress)
        count = write_store(target, pair.chunk_size, chunks)
    os.fsync(target)
    return count


def _differing(
    pair: StillPair, view: "_Node", origin: "_Node", progress: Progress
) -> Iterator[tuple[int, bytes]]:
    words = pair.chunk_size // 8
    for offset, length in _pieces(pair.changed):
        kept = view.read(offset, length).reshape(-1, words)
        now = origin.read(offset, length).reshape(-1, words)
        for number in np.flatnonzero((kept != now).any(axis=1)).tolist():
            yield offset // pair.chunk_size + number, kept[number].tobytes()
        progress.advance(length)


def _write_origin(lun: LunId, pair: StillPair, target: int, progress: Progress) -> None:
    """Write the origin as it was at the instant; what is zero stays a hole."""
    os.ftruncate(target, 0)
    os.ftruncate(target, pair.size)
    with _reading(lun, pair.origin) as origin:
        for offset, length in _pieces(pair.data):
            data = origin.read(offset, length).data.cast("B")
            while data:
                count = os.pwrite(target, data, offset)
                data, offset = data[count:], offset + count
            progress.advance(length)
    os.fsync(target)


def _pieces(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Cut ranges at multiples of PIECE, of which a chunk is a part."""
    for offset, length in ranges:
        end = offset + length
        while offset < end:
            stop = min(end, (offset // PIECE + 1) * PIECE)
            yield offset, stop - offset
            offset = stop


class _Node:
    """A node's open file, read past the page cache. item: the LUN, for errors."""

    def __init__(self, descriptor: int, item: LunId) -> None:
        self._descriptor = descriptor
        self._item = item
        self._words = np.frombuffer(mmap.mmap(-1, PIECE), dtype=np.uint64)

    def read(self, offset: int, length: int) -> NDArray[np.uint64]:
        """Return bytes that are the caller's until the next call. Raises VssError."""
        words = self._words[: length // 8]
        with storage("read LUN", self._item):
            if os.preadv(self._descriptor, [words.data.cast("B")], offset) != length:
                raise OSError(errno.EIO, f"a short read at {offset}")
        return words


@contextmanager
def _reading(lun: LunId, path: str) -> Iterator[_Node]:
    with ExitStack() as stack:
        with storage("open LUN", lun):
            descriptor = stack.enter_context(opened(path, os.O_RDONLY | os.O_DIRECT))
        yield _Node(descriptor, lun)
