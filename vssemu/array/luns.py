"""The administrator's work on LUNs: create, delete, extend, list."""

from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from vssemu.array.border import storage
from vssemu.array.core import Core, existing
from vssemu.array.naming import mint_serial
from vssemu.array.rows import LunRow, OperationKind, SetState
from vssemu.array.tables import Tables
from vssemu.vss.array import ArrayLun, LunKind, LunState, PoolStatus
from vssemu.vss.errors import BadState, InvalidArgument, ObjectNotFound, VolumeInUse
from vssemu.vss.identity import Initiator, LunId
from vssemu.vss.lifecycle.lun import LunCall, after

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

GRANULE: Final = 1 << 20
"""Sizes of LUNs and offsets of partitions are multiples of this many bytes."""

LARGEST: Final = 64 << 40
"""Bytes; a larger LUN's partition table and file systems would go untested."""


class Luns:
    """LUNs as the administrator handles them."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def create(self, size: int) -> ArrayLun:
        """Make a thin LUN; size: bytes, a multiple of 1 MiB.

        Raises InvalidArgument, InsufficientStorage.
        """
        check_size(size)
        core = self._core

        def begin(tables: Tables) -> tuple[LunId, int]:
            lun = tables.new_lun_id()
            return lun, tables.begin(OperationKind.CREATE, lun, size=size)

        def finish(tables: Tables) -> LunRow:
            tables.end(operation)
            return tables.add_lun(
                LunRow(
                    id=lun,
                    serial=mint_serial(),
                    size=size,
                    kind=LunKind.BASE,
                    engine=core.engine.name,
                    state=LunState.READY,
                )
            )

        lun, operation = await core.journal.change(begin)
        try:
            with storage("create LUN", lun):
                await core.engine.create(lun, size)
            row = await core.journal.change(finish)
        except Exception:
            await self.undo_create(lun, operation)
            raise
        logger.info("lun_created", lun=lun, size=size)
        await self._warn_if_promised_too_much()
        return await self._listed(row)

    async def undo_create(self, lun: LunId, operation: int) -> None:
        """Remove what a creation that did not come to its end has made."""
        with storage("remove LUN", lun):
            await self._core.engine.delete(lun)
        await self._core.journal.change(Tables.end, operation)

    async def delete(self, lun: LunId) -> None:
        """Delete a LUN for good: any that is mapped nowhere, idle and no copy's parent.

        Raises ObjectNotFound, BadState, VolumeInUse.
        """
        async with self._core.luns.holding(lun):
            row = await self._core.journal.read(existing, lun)
            await refuse_if_used(self._core, row)
            await self._core.journal.change(begin_deletion, lun, LunCall.DELETE)
            await finish_deletion(self._core, lun)

    async def extend(self, lun: LunId, size: int) -> ArrayLun:
        """Grow a LUN; size: bytes, a multiple of 1 MiB.

        Raises ObjectNotFound, BadState, InvalidArgument, InsufficientStorage.
        """
        check_size(size)

        def begin(tables: Tables) -> int:
            row = existing(tables, lun)
            after(row.state, LunCall.EXTEND, item=lun)
            if size < row.size:
                raise InvalidArgument(
                    f"LUN {lun} has {row.size} bytes and cannot shrink to {size}", item=lun
                )
            return tables.begin(OperationKind.EXTEND, lun, size=size)

        async with self._core.luns.holding(lun):
            operation = await self._core.journal.change(begin)
            row = await self.finish_extension(lun, size, operation)
        self._core.views.changed(*row.masked_to)
        logger.info("lun_extended", lun=lun, size=size)
        await self._warn_if_promised_too_much()
        return await self._listed(row)

    async def finish_extension(self, lun: LunId, size: int, operation: int) -> LunRow:
        """Bring an extension that has begun to its end; again is no error."""

        def finish(tables: Tables) -> LunRow:
            tables.set_lun_size(lun, size)
            tables.end(operation)
            return existing(tables, lun)

        try:
            with storage("extend LUN", lun):
                await self._core.engine.extend(lun, size)
        except Exception:
            await self._core.journal.change(Tables.end, operation)
            raise
        return await self._core.journal.change(finish)

    async def inventory(self) -> Sequence[ArrayLun]:
        """Return every LUN, oldest first."""
        rows = await self._core.journal.read(Tables.luns)
        return [await self._listed(row) for row in rows]

    async def pool_status(self) -> PoolStatus:
        """Return the pool's figures."""
        core = self._core
        luns = await self.inventory()
        with storage("look at pool", str(core.pool.directory)):
            room = core.pool.room()
            ballast = core.space.held()
        return PoolStatus(
            directory=str(core.pool.directory),
            image=None if core.pool.image is None else str(core.pool.image),
            filesystem=core.pool.filesystem,
            size=room.size,
            free=room.free,
            allocated=sum(lun.allocated for lun in luns),
            needed=core.space.needed(room),
            ballast=ballast,
            provisioned=_provisioned(luns),
            luns=len(luns),
            ended=sum(lun.state is LunState.ENDED for lun in luns),
            condition=core.space.condition,
        )

    async def _warn_if_promised_too_much(self) -> None:
        """Log that the LUNs could hold more than the pool: thin, and allowed."""
        room = self._core.pool.room()
        provisioned = _provisioned(await self._core.journal.read(Tables.luns))
        if provisioned > room.size:
            logger.warning(
                "pool_overcommitted",
                provisioned=provisioned,
                size=room.size,
                hint="writes to LUNs fail when all of them are written in full",
            )

    async def _listed(self, row: LunRow) -> ArrayLun:
        return await listed(self._core, row)


async def listed(core: Core, row: LunRow) -> ArrayLun:
    """Return a LUN as lists show it; one without an image yet, or any more, has no blocks."""
    try:
        usage = await core.engine.last_usage(row.id)
    except FileNotFoundError:
        return row.listed(0)
    return row.listed(usage.allocated)


def _provisioned(luns: Iterable[LunRow | ArrayLun]) -> int:
    """Return the bytes that LUNs in their own right could hold; snapshots are ended before."""
    return sum(lun.size for lun in luns if is_own(lun))


def is_own(lun: LunRow | ArrayLun) -> bool:
    """Tell whether a LUN is one in its own right, which is never ended for want of room."""
    is_free = lun.state in {LunState.READY, LunState.INDEPENDENT}
    return is_free or lun.kind is LunKind.PLEX


def check_size(size: int) -> None:
    """Raise InvalidArgument unless a LUN can have so many bytes."""
    if size % GRANULE or not GRANULE <= size <= LARGEST:
        raise InvalidArgument(
            f"a LUN cannot have {size} bytes",
            item=str(size),
            hint="give a multiple of 1 MiB, from 1 MiB to 64 TiB",
        )


async def refuse_if_used(core: Core, row: LunRow, initiator: Initiator | None = None) -> None:
    """Raise VolumeInUse while devices over the LUN, or its scratch clone, are left.

    initiator: look at its devices alone.
    """
    if users := await core.users(row, initiator):
        raise VolumeInUse(
            f"LUN {row.id} is in use: {', '.join(users)}",
            item=row.id,
            hint="unmount its volumes and remove it from the host first",
        )


def begin_deletion(tables: Tables, lun: LunId, call: LunCall) -> LunRow:
    """Write down that a LUN is going; its state then says so until it is gone.

    Raises BadState for its state, its mapping, or copies that it is the parent of.
    """
    row = existing(tables, lun)
    state = after(row.state, call, item=lun)
    if row.masked_to:
        raise BadState(
            f"LUN {lun} is mapped to {', '.join(row.masked_to)}",
            item=lun,
            hint="mask it there first",
        )
    if copies := [copy for copy in tables.copies_of(lun) if not _stands_alone(tables, copy)]:
        raise BadState(
            f"LUN {lun} is the parent of {', '.join(copy.id for copy in copies)}",
            item=lun,
            hint="delete its copies first",
        )
    tables.set_lun_state(lun, state)
    return row


def _stands_alone(tables: Tables, copy: LunRow) -> bool:
    """Tell whether a copy needs its origin no more: a full one whose creation is over."""
    group = None if copy.set_id is None else tables.snapshot_set(copy.set_id)
    is_made = group is None or group.state is SetState.HANDED_OUT
    return copy.kind is LunKind.PLEX and is_made


async def finish_deletion(core: Core, lun: LunId) -> None:
    """Bring a deletion that has begun to its end; again is no error."""
    with storage("delete LUN", lun):
        await core.engine.delete(lun)
    await core.journal.change(Tables.retire_lun, lun)
    logger.info("lun_deleted", lun=lun)


def not_found(lun: str) -> ObjectNotFound:
    """Return the answer to a record that describes no LUN that its holder may have."""
    return ObjectNotFound(
        f"no LUN is as the record of {lun} says",
        item=lun,
        hint="the LUN is gone, or the record is not the one that the array gave",
    )
