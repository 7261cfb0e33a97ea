"""The array put together: one journal, one pool, one engine, one fabric."""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import structlog
import trio

from vssemu.array.attributes import Attributes
from vssemu.array.border import storage
from vssemu.array.copies import Copies
from vssemu.array.core import Core, refuse_ended, visible
from vssemu.array.ending import Endings
from vssemu.array.engines.opening import REFLINK, open_engine
from vssemu.array.exporting import Exporting
from vssemu.array.grantstore import JournalGrants
from vssemu.array.importing import Importing
from vssemu.array.journal import open_journal
from vssemu.array.luns import Luns, listed, refuse_if_used
from vssemu.array.masking import Masking
from vssemu.array.pool import open_pool
from vssemu.array.recovery import recover
from vssemu.array.rows import LunRow
from vssemu.array.sets import Sets
from vssemu.array.space import Space
from vssemu.array.tables import Tables
from vssemu.array.watcher import Watcher
from vssemu.fabric.loop.target import LoopTarget
from vssemu.faults import FaultPoints
from vssemu.vss.array import ArrayLun, LunState, View
from vssemu.vss.errors import BadState
from vssemu.vss.identity import Initiator, LunId

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SURFACED = frozenset({LunState.CLAIMED, LunState.INDEPENDENT})


class Array:
    """A storage array; made by `open_array`."""

    def __init__(self, core: Core, target: LoopTarget) -> None:
        self.core = core
        self.target = target
        self.luns = Luns(core)
        self.masking = Masking(core)
        self.attributes = Attributes(core)
        self.sets = Sets(core)
        self.copies = Copies(core, self.sets, self.masking)
        self.exporting = Exporting(core)
        self.importing = Importing(core)

    async def seen_by(self, initiator: Initiator) -> Sequence[ArrayLun]:
        """Return the LUNs unmasked to an initiator."""
        rows = await self.core.journal.read(Tables.luns_of_initiator, initiator)
        return [await listed(self.core, row) for row in rows]

    async def initiators(self) -> Sequence[Initiator]:
        """Return the initiators that the array knows."""
        return await self.core.journal.read(Tables.initiators)

    async def attach(
        self, initiator: Initiator, lun: LunId, view: View, *, writable: bool
    ) -> tuple[int, int]:
        """Return the size in bytes of a LUN, or of its scratch clone, and a descriptor of it.

        The clone is made if there is none. Raises ObjectNotFound, BadState, VolumeInUse,
        InsufficientStorage.
        """
        async with self.core.luns.holding(lun):
            row = await self.core.journal.read(visible, lun, initiator)
            refuse_ended(row)
            with storage("attach LUN", lun):
                if view is View.SCRATCH:
                    _refuse_unless_surfaced(row)
                    backing = await self.core.scratch_of(initiator, row)
                else:
                    backing = await self.core.engine.activate(lun, writable=writable)
                descriptor = await self.target.attach(initiator, lun, backing, writable=writable)
        return row.size, descriptor

    async def discard_scratch(self, initiator: Initiator, lun: LunId) -> None:
        """Remove the scratch clone of a copy; there being none is no error.

        Raises ObjectNotFound, VolumeInUse.
        """
        async with self.core.luns.holding(lun):
            row = await self.core.journal.read(visible, lun, initiator)
            with storage("discard scratch clone of", lun):
                if await self.core.engine.has_scratch(lun):
                    await refuse_if_used(self.core, row)
                    await self.core.discard_scratch(row)

    async def reserve_device(self, initiator: Initiator) -> int:
        """Return the number of a free loop device that this host alone may use."""
        with storage("reserve loop device for", initiator):
            return await self.target.reserve_device(initiator)

    async def add_initiator(self, initiator: Initiator) -> None:
        """Admit a host, and fence it in if it has a control group already."""
        await self.masking.add_initiator(initiator)
        with storage("fence host", initiator):
            await self.target.grants.admit(initiator)

    async def remove_initiator(self, initiator: Initiator) -> None:
        """Expel a host: its LUNs go by surprise. Unknown is no error."""
        await self.masking.remove_initiator(initiator)
        with storage("expel host", initiator):
            await self.target.forget(initiator)


def _refuse_unless_surfaced(row: LunRow) -> None:
    if not row.is_copy or row.state not in _SURFACED:
        raise BadState(
            f"LUN {row.id} has no scratch clone: it is {row.kind.value}, {row.state.value}",
            item=row.id,
            hint="only a copy that was surfaced has one",
        )


@asynccontextmanager
async def open_array(
    *,
    state: Path,
    pool: Path,
    pool_size: int | None = None,
    engine: str = REFLINK,
    shards: Path | None = None,
    fence_root: Path | None = None,
    faults: FaultPoints | None = None,
) -> AsyncIterator[Array]:
    """Open an array during the block, with all that an earlier run left put in order.

    state: directory of the journal. pool: directory of the LUNs. pool_size: bytes of a pool
    image, should one be made. engine: one of ENGINES. shards: directory of the sockets of lunfs,
    which the cow engine works through. fence_root: control group above those of the hosts.
    faults: what is armed where.
    Wants a mount namespace of its own. Raises VssError, OSError.
    """
    journal = await trio.to_thread.run_sync(open_journal, state)
    with ExitStack() as leaving:
        leaving.callback(journal.close)
        async with (
            open_pool(pool, journal.identity, engine=engine, image_size=pool_size) as opened,
            open_engine(engine, opened, shards) as working,
        ):
            window = int(journal.identity[:8], 16)
            target = LoopTarget(JournalGrants(journal), fence_root=fence_root, window=window)
            leaving.callback(target.grants.close)
            core = Core(
                journal=journal,
                pool=opened,
                space=Space(opened),
                engine=working,
                target=target,
                faults=faults or FaultPoints(None, "array"),
            )
            array = Array(core, target)
            await target.grants.load()
            endings = Endings(core, array.sets)
            await recover(core, array.luns, array.masking, array.sets, endings)
            async with trio.open_nursery() as nursery:
                await nursery.start(Watcher(core, endings).run)
                await nursery.start(target.run)
                await nursery.start(array.sets.ahead.run)
                yield array
                nursery.cancel_scope.cancel()
            await target.grants.remove_made()
