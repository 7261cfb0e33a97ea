"""Imports: an origin and a snapshot of it out of an image and an exception store.

The store becomes the snapshot's own: its table and its chunks stay where they are, and what
the array keeps later follows on them. Image and store are copied; the journal knows of the two
LUNs from before that on, so that what was interrupted goes, and lists them when all is there.
"""

import os
import stat
from dataclasses import dataclass
from typing import Final

import structlog
import trio

from vssemu.array.border import storage
from vssemu.array.callersfiles import CallersFile, about
from vssemu.array.core import Core
from vssemu.array.exporting import exchange_of
from vssemu.array.luns import GRANULE, check_size
from vssemu.array.naming import mint_serial
from vssemu.array.progress import Progress
from vssemu.array.rows import LunRow, OperationKind
from vssemu.array.tables import Tables
from vssemu.stores.format import area_chunk, chunks_used, exceptions_per_area, store_length
from vssemu.stores.reading import Store, read_store
from vssemu.stores.viewing import view_digest
from vssemu.vss.array import Imported, LunKind, LunState
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.identity import LunId

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

PIECE: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What is to be imported. size: bytes of the origin. used: of the store, where it has any.

    length: bytes that the store may grow to.
    """

    size: int
    store: Store
    used: int
    length: int


class Importing:
    """Imports of snapshots."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def import_pair(
        self, origin: CallersFile, store: CallersFile, progress: Progress
    ) -> Imported:
        """Make two LUNs, mapped nowhere, the administrator's: an origin and its snapshot.

        Cancellable; there are none then. Raises NotSupportedHere, InvalidArgument for files
        that are no such pair, InsufficientStorage, Fail.
        """
        exchange = exchange_of(self._core)
        found = await trio.to_thread.run_sync(_look, origin, store)
        self._core.space.refuse_unless_room(_allocated(origin) + found.used)

        def begin(tables: Tables) -> tuple[LunId, LunId, list[int]]:
            base, copy = tables.new_lun_id(), tables.new_lun_id()
            # What is undone in this order leaves no snapshot without its origin.
            begun = [tables.begin(OperationKind.CREATE, lun) for lun in (copy, base)]
            return base, copy, begun

        def finish(tables: Tables) -> None:
            for lun, kind, state in (
                (base, LunKind.BASE, LunState.READY),
                (copy, LunKind.DIFFERENTIAL, LunState.INDEPENDENT),
            ):
                tables.add_lun(
                    LunRow(
                        id=lun,
                        serial=mint_serial(),
                        size=found.size,
                        kind=kind,
                        engine=self._core.engine.name,
                        state=state,
                        origin=base if lun == copy else None,
                    )
                )
            end(tables)

        def end(tables: Tables) -> None:
            for number in begun:
                tables.end(number)

        def place(image: int, own: int) -> None:
            _copy(origin, image, found.size, progress)
            _copy(store, own, found.used, progress)
            os.ftruncate(image, found.size)
            os.ftruncate(own, found.length)
            digest.append(_digest(image, own, found, progress))

        digest: list[str] = []
        progress.total = 2 * found.size + found.used
        base, copy, begun = await self._core.journal.change(begin)
        try:
            with storage("import to LUN", base):
                await exchange.adopt(base, copy, place)
            with trio.CancelScope(shield=True):
                await self._core.journal.change(finish)
        except BaseException:
            with trio.CancelScope(shield=True):
                for lun in (copy, base):
                    with storage("remove LUN", lun):
                        await self._core.engine.delete(lun)
                await self._core.journal.change(end)
            raise
        logger.info("snapshot_imported", origin=base, snapshot=copy, chunks=len(found.store))
        return Imported(
            done=progress.total,
            total=progress.total,
            origin=base,
            snapshot=copy,
            view_sha256=digest[0],
        )


def _look(origin: CallersFile, store: CallersFile) -> _Found:
    """Read the store's table and see that the two go together. Raises VssError."""
    with about(origin):
        size = os.lseek(origin.descriptor, 0, os.SEEK_END)
    if size % GRANULE or not size:
        raise InvalidArgument(
            f"{origin.name} has {size} bytes, which no LUN can have",
            item=origin.name,
            hint="make it a multiple of 1 MiB, for example by truncate --size %1M",
        )
    check_size(size)
    with about(store):
        found = read_store(store.descriptor, store.name, origin_size=size)
    if not found.valid:
        raise InvalidArgument(
            f"{store.name} was invalidated: its snapshot is lost",
            item=store.name,
            hint="a store that was full, or could not be written, cannot be used any more",
        )
    per = exceptions_per_area(found.chunk_size)
    # Chunks that a merge has freed at the end of the table are not handed out again.
    area = area_chunk(len(found) // per, per)
    skipped = found.next_chunk - chunks_used(len(found), per)
    return _Found(
        size=size,
        store=found,
        used=(max(found.next_chunk - 1, area) + 1) * found.chunk_size,
        length=store_length(size // found.chunk_size, found.chunk_size)
        + skipped * found.chunk_size,
    )


def _allocated(file: CallersFile) -> int:
    """Return the bytes that a copy of a file takes on a disk."""
    facts = os.fstat(file.descriptor)
    is_sparse = stat.S_ISREG(facts.st_mode)
    return facts.st_blocks * 512 if is_sparse else os.lseek(file.descriptor, 0, os.SEEK_END)


def _copy(source: CallersFile, target: int, length: int, progress: Progress) -> None:
    """Copy the first bytes of a caller's file; what is zero stays a hole. Raises OSError."""
    zeroes = bytes(PIECE)
    for offset in range(0, length, PIECE):
        with about(source):
            data = os.pread(source.descriptor, min(PIECE, length - offset), offset)
        if data != zeroes[: len(data)]:
            rest, at = memoryview(data), offset
            while rest:
                count = os.pwrite(target, rest, at)
                rest, at = rest[count:], at + count
        progress.advance(len(data))


def _digest(image: int, own: int, found: _Found, progress: Progress) -> str:
    """Return the SHA-256 of the view, out of what the array has now. Raises OSError."""
    before = progress.done

    def note(done: int) -> None:
        progress.advance(before + done - progress.done)

    return view_digest(image, found.size, own, found.store, note)
