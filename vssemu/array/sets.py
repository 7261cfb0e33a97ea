"""Snapshot sets in the making: prepare, commit, settle, abort.

    prepare... -> finish_prepare -> commit -> settle -> copies_of
    preparing     prepared          committed  settled   handed-out

`abort` removes the copies up to the moment when their records were handed out; later it
changes nothing, and each copy ends by `reclaim`. A host makes one set at a time, so its next
`prepare` drops what an earlier creation of the same host left before `settle`.

A LUN is in one creation at a time, whoever asks: that is a row of the journal, not a lock.
Full copies are begun by `prepare`. From `finish_prepare` until `commit` the engine keeps the
copies close to their sources; the commit ends that, and waits for nothing else: a set commits
without any lock but its own.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import structlog
import trio

from vssemu.array.ahead import Ahead
from vssemu.array.border import storage
from vssemu.array.core import Core, refuse_ended, visible
from vssemu.array.luns import finish_deletion
from vssemu.array.rows import LunRow, SetRow, SetState
from vssemu.array.tables import Tables
from vssemu.linux.processes import boot_id
from vssemu.vss.array import LunKind, LunState
from vssemu.vss.engine import CopyPair, Prepared
from vssemu.vss.errors import (
    BadState,
    InsufficientStorage,
    InvalidArgument,
    MaximumNumberOfSnapshotsReached,
    ObjectNotFound,
    ProviderVeto,
    VssError,
)
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId
from vssemu.vss.lifecycle.lun import LunCall, after
from vssemu.vss.lun import LunInformation

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

COPIES_PER_LUN: Final = 512
"""As many shadow copies as VSS allows of a volume."""

HOLD_LIMIT: Final = 3.0
"""Seconds that copies may take while writes are held; the documented 10 s are for all of it."""

PREPARE_SECONDS: Final = 600.0

_UNFINISHED: Final = (SetState.PREPARING, SetState.PREPARED, SetState.COMMITTED)
_COMMITTED: Final = (SetState.COMMITTED, SetState.SETTLED)
_UNCLAIMED: Final = frozenset(
    {LunState.PREPARED, LunState.COMMITTED, LunState.ENDED, LunState.DELETING}
)
_ABORTABLE: Final = (*_UNFINISHED, SetState.SETTLED)


class Sets:
    """The creations of snapshot sets."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.ahead = Ahead()
        self._prepared: dict[SnapshotSetId, Prepared] = {}
        self._preparing: dict[SnapshotSetId, trio.CancelScope] = {}
        self._committed: set[SnapshotSetId] = set()
        self._given_up: set[SnapshotSetId] = set()
        # A commit must find a thread whatever else is going on.
        self._commits = trio.CapacityLimiter(64)
        self._boot = boot_id()

    async def can_copy(self, owner: Initiator, luns: Sequence[LunId], kind: LunKind) -> bool:
        """Tell whether copies of these LUNs could be begun now. No side effect."""

        def check(tables: Tables) -> None:
            for lun in luns:
                _source(tables, lun, owner, None)

        try:
            _refuse_kind(kind)
            await self._core.journal.read(check)
        except VssError as error:
            logger.info("cannot_copy", initiator=owner, luns=list(luns), reason=str(error))
            return False
        return bool(luns)

    async def prepare(
        self,
        owner: Initiator,
        set_id: SnapshotSetId,
        luns: Sequence[LunId],
        kind: LunKind,
        *,
        auto_release: bool = False,
    ) -> None:
        """Take LUNs into a set, which the first call begins; one in the set already stays.

        Full copies are begun, and go on until `finish_prepare` has waited for them.
        auto_release: the set ends with its requester; when room gets scarce it goes first.
        Whether there is room is seen by `finish_prepare`, whose answer may tell it.
        Raises ObjectNotFound for a LUN that the owner does not see, BadState, InvalidArgument,
        ProviderVeto for a LUN in another creation, MaximumNumberOfSnapshotsReached.
        """
        _refuse_kind(kind)
        if not luns:
            raise InvalidArgument(f"no LUN was named for set {set_id}", item=str(set_id))
        await self._drop_leftovers(owner, set_id)
        async with self._core.sets.holding(str(set_id)), self._core.luns.holding(*luns):
            begun = SetRow(
                id=set_id,
                owner=owner,
                kind=kind,
                state=SetState.PREPARING,
                auto_release=auto_release,
            )
            rows = await self._core.journal.change(_take, begun, luns, self._engine_name)
            if kind is LunKind.PLEX and rows:
                self.ahead.start(set_id, partial(self._copy_ahead, _pairs(rows)))

    async def _copy_ahead(self, pairs: Sequence[CopyPair]) -> None:
        with storage("copy for set", ", ".join(pair.source for pair in pairs)):
            await self._refuse_full_pool([pair.source for pair in pairs])
            await self._core.engine.begin(pairs, LunKind.PLEX)

    async def finish_prepare(self, owner: Initiator, set_id: SnapshotSetId) -> None:
        """Make the set's copies ready; returns when they can be committed. Cancellable.

        Raises ObjectNotFound, BadState, InsufficientStorage, ProviderVeto when the commit
        would hold writes for too long.
        """
        async with self._core.sets.holding(str(set_id)):
            self._refuse_given_up(set_id)
            rows = await self._core.journal.read(_members, owner, set_id, SetState.PREPARING)
            # Full copies have had their room since they were begun.
            await self._refuse_full_pool(())
            with trio.CancelScope() as scope:
                self._preparing[set_id] = scope
                try:
                    prepared = await self._prepare_copies(set_id, rows)
                finally:
                    del self._preparing[set_id]
            if scope.cancelled_caught:
                self._refuse_given_up(set_id)
                raise BadState(f"snapshot set {set_id} was aborted", item=str(set_id))
            self._prepared[set_id] = prepared
            await self._core.journal.change(Tables.set_set_state, set_id, SetState.PREPARED)
            self.ahead.start(set_id, partial(self._core.engine.keep_close, prepared))

    async def _prepare_copies(self, set_id: SnapshotSetId, rows: Sequence[LunRow]) -> Prepared:
        try:
            await self.ahead.finish(set_id)
            deadline = trio.current_time() + PREPARE_SECONDS
            with storage("prepare copies of set", str(set_id)):
                prepared = await self._core.engine.prepare(_pairs(rows), rows[0].kind, deadline)
        except trio.TooSlowError as error:
            raise ProviderVeto(
                f"the copies of set {set_id} were not ready within {PREPARE_SECONDS:g} s",
                item=str(set_id),
                hint="try again when the array has less to do",
            ) from error
        if prepared.hold_seconds > HOLD_LIMIT:
            await self._core.engine.abort(prepared)
            raise ProviderVeto(
                f"the copies of set {set_id} would hold writes for"
                f" {prepared.hold_seconds:.1f} s, more than {HOLD_LIMIT:g} s",
                item=str(set_id),
                hint="put fewer volumes into the set, or rewrite its most fragmented files",
            )
        return prepared

    async def commit(self, owner: Initiator, set_id: SnapshotSetId) -> Sequence[LunInformation]:
        """Take all copies of the set and return their records in the order of `prepare`.

        The instant is one only if writes to all the LUNs are held. Not durable before
        `settle`. Raises ObjectNotFound, BadState, InsufficientStorage, Fail; the copies of a
        set that failed are gone. A second commit is refused, except after a restart of
        the array that may have cost the answer to the first.
        """
        async with self._core.sets.holding(str(set_id)):
            self._refuse_given_up(set_id)
            group = await self._core.journal.read(_owned, owner, set_id)
            if group.state in _COMMITTED and set_id not in self._committed:
                # Committed before a restart, and the answer was lost: it is asked again.
                rows = await self._core.journal.read(Tables.luns_of_set, set_id)
                return [row.information for row in rows]
            await self._core.journal.read(_members, owner, set_id, SetState.PREPARED)
            prepared = self._prepared[set_id]
            self._committed.add(set_id)
            await self.ahead.end(set_id)
            try:
                with storage("commit snapshot set", str(set_id)):
                    sizes = await trio.to_thread.run_sync(
                        self._core.engine.commit, prepared, limiter=self._commits
                    )
                taken = [
                    (pair.target, size) for pair, size in zip(prepared.pairs, sizes, strict=True)
                ]
                rows = await self._core.journal.change_quickly(
                    _commit, owner, set_id, self._boot, taken
                )
            except Exception:
                await self._remove(set_id)
                raise
        return [row.information for row in rows]

    async def settle(self, owner: Initiator, set_id: SnapshotSetId) -> None:
        """Make the committed copies durable; done already is no error.

        Raises ObjectNotFound, BadState for a set that is not committed, Fail.
        """
        async with self._core.sets.holding(str(set_id)):
            group = await self._core.journal.read(_owned, owner, set_id)
            await self._settle(group)

    async def ensure_settled(self, set_id: SnapshotSetId) -> None:
        """Make the copies of a set durable if they are not yet, whoever owns it."""
        async with self._core.sets.holding(str(set_id)):
            group = await self._core.journal.read(Tables.snapshot_set, set_id)
            if group is not None:
                await self._settle(group)

    async def _settle(self, group: SetRow) -> None:
        if group.state in {SetState.PREPARING, SetState.PREPARED}:
            raise BadState(
                f"snapshot set {group.id} is {group.state.value}, not committed",
                item=str(group.id),
            )
        if group.state is not SetState.COMMITTED:
            return
        rows = await self._core.journal.read(Tables.luns_of_set, group.id)
        prepared = self._prepared.get(group.id) or Prepared(
            pairs=_pairs(rows), kind=group.kind, hold_seconds=0.0
        )
        with storage("settle snapshot set", str(group.id)):
            await self._core.engine.settle(prepared)
        await self._core.journal.change(Tables.set_set_state, group.id, SetState.SETTLED)
        self._prepared.pop(group.id, None)
        await self.ahead.end(group.id)
        logger.info("set_settled", set=str(group.id), luns=[row.id for row in rows])

    async def copies_of(
        self, owner: Initiator, set_id: SnapshotSetId, sources: Sequence[LunId]
    ) -> Sequence[LunInformation]:
        """Return the records of the set's copies, one a source and in their order.

        From then on the copies are in other hands, and abort leaves them alone.
        Raises ObjectNotFound, also for a source of which the set has no copy; BadState;
        InsufficientStorage when one was ended before anybody had it.
        """

        def hand_out(tables: Tables) -> list[LunInformation]:
            copies = {row.origin: row for row in tables.luns_of_set(set_id)}
            for source in sources:
                if source not in copies:
                    raise ObjectNotFound(f"set {set_id} has no copy of LUN {source}", item=source)
                refuse_ended(copies[source])
            tables.set_set_state(set_id, SetState.HANDED_OUT)
            return [copies[source].information for source in sources]

        async with self._core.sets.holding(str(set_id)):
            await self._settle(await self._core.journal.read(_owned, owner, set_id))
            return await self._core.journal.change(hand_out)

    async def abort(self, owner: Initiator, set_id: SnapshotSetId) -> None:
        """Remove the copies of a set that were not handed out; unknown is no error.

        Ends a preparation that is under way.
        """
        self._given_up.discard(set_id)
        group = await self._core.journal.read(Tables.snapshot_set, set_id)
        if group is None or group.owner != owner:
            return
        if (scope := self._preparing.get(set_id)) is not None:
            scope.cancel()
        async with self._core.sets.holding(str(set_id)):
            group = await self._core.journal.read(Tables.snapshot_set, set_id)
            if group is not None and group.state in _ABORTABLE:
                await self._remove(set_id)
                logger.info("set_aborted", set=str(set_id), state=group.state.value)

    async def give_up(self, set_id: SnapshotSetId) -> None:
        """Drop a set that is not committed, for want of room; its owner is told that."""
        self._given_up.add(set_id)
        if (scope := self._preparing.get(set_id)) is not None:
            scope.cancel()
        async with self._core.sets.holding(str(set_id)):
            group = await self._core.journal.read(Tables.snapshot_set, set_id)
            if group is not None and group.state in {SetState.PREPARING, SetState.PREPARED}:
                logger.warning("set_given_up", set=str(set_id), owner=group.owner)
                await self._remove(set_id)
            else:
                self._given_up.discard(set_id)

    async def recover(self) -> None:
        """Bring the sets of an earlier run to their end, before anybody is served.

        What was committed in this boot of the machine is whole, and becomes durable now;
        after a loss of power it need not be, and nobody has its records yet. Nor has anybody
        those of a set that cannot be made durable: it must not keep the array from serving.
        """
        for group in await self._core.journal.read(Tables.sets, _UNFINISHED):
            if not await self._is_whole(group):
                logger.info("set_undone", set=str(group.id), state=group.state.value)
                await self._remove(group.id)

    async def _is_whole(self, group: SetRow) -> bool:
        """Make a set of an earlier run durable; tell whether it is."""
        if group.state is not SetState.COMMITTED or group.boot != self._boot:
            return False
        try:
            await self._settle(group)
        except VssError as error:
            logger.error("set_not_settled", set=str(group.id), error=str(error))
            return False
        return True

    async def _drop_leftovers(self, owner: Initiator, but: SnapshotSetId) -> None:
        for group in await self._core.journal.read(Tables.sets, _UNFINISHED, owner):
            if group.id != but:
                logger.warning("set_left_unfinished", set=str(group.id), owner=owner)
                await self.abort(owner, group.id)

    async def _remove(self, set_id: SnapshotSetId) -> None:
        await self.ahead.end(set_id)
        prepared = self._prepared.pop(set_id, None)
        self._committed.discard(set_id)
        going = await self._core.journal.change(_begin_removal, set_id)
        if prepared is not None:
            with storage("remove copies of set", str(set_id)):
                await self._core.engine.abort(prepared)
        for lun in going:
            await finish_deletion(self._core, lun)

    @property
    def _engine_name(self) -> str:
        return self._core.engine.name

    async def _refuse_full_pool(self, sources: Sequence[LunId]) -> None:
        """Raise InsufficientStorage when the pool could not keep copies.

        sources: of full copies, which take as much as these have.
        """
        with storage("look at pool", str(self._core.pool.directory)):
            usages = [await self._core.engine.usage(lun) for lun in sources]
            self._core.space.refuse_unless_room(sum(usage.allocated for usage in usages))

    def _refuse_given_up(self, set_id: SnapshotSetId) -> None:
        if set_id in self._given_up:
            raise InsufficientStorage(
                f"snapshot set {set_id} was given up: the pool had no room left for it",
                item=str(set_id),
                hint="delete LUNs or shadow copies, or give the pool more space",
            )


def _refuse_kind(kind: LunKind) -> None:
    if kind is LunKind.BASE:
        raise InvalidArgument(
            "a copy is differential or a plex, not base",
            item=kind.value,
            hint="ask for one of the two",
        )


def _pairs(rows: Iterable[LunRow]) -> tuple[CopyPair, ...]:
    return tuple(
        CopyPair(source=row.origin, target=row.id) for row in rows if row.origin is not None
    )


def _owned(tables: Tables, owner: Initiator, set_id: SnapshotSetId) -> SetRow:
    group = tables.snapshot_set(set_id)
    if group is None or group.owner != owner:
        raise ObjectNotFound(f"{owner} makes no snapshot set {set_id}", item=str(set_id))
    return group


def _members(
    tables: Tables, owner: Initiator, set_id: SnapshotSetId, state: SetState
) -> list[LunRow]:
    """Return the LUNs of a set that is in this state, for its owner."""
    group = _owned(tables, owner, set_id)
    if group.state is not state:
        raise BadState(
            f"snapshot set {set_id} is {group.state.value}, not {state.value}", item=str(set_id)
        )
    return tables.luns_of_set(set_id)


def _source(tables: Tables, lun: LunId, owner: Initiator, set_id: SnapshotSetId | None) -> LunRow:
    """Return a LUN that can be copied now, for a set or, with None, for one to be."""
    row = visible(tables, lun, owner)
    after(row.state, LunCall.COPY, item=lun)
    copies = tables.copies_of(lun)
    if len(copies) >= COPIES_PER_LUN:
        raise MaximumNumberOfSnapshotsReached(
            f"LUN {lun} has {len(copies)} copies, which is the limit",
            item=lun,
            hint="delete old shadow copies",
        )
    for copy in copies:
        group = None if copy.set_id is None else tables.snapshot_set(copy.set_id)
        if group is None or group.id == set_id or (set_id is None and group.owner == owner):
            # What an owner left unfinished goes when it begins anew.
            continue
        if group.state in {SetState.PREPARING, SetState.PREPARED}:
            raise ProviderVeto(
                f"LUN {lun} is being copied for snapshot set {group.id} of {group.owner}",
                item=lun,
                hint="try again when that creation is over",
            )
    return row


def _take(
    tables: Tables,
    begun: SetRow,
    luns: Sequence[LunId],
    engine: str,
) -> list[LunRow]:
    """Write down the copies that are to be; return those that the set did not have."""
    group = tables.snapshot_set(begun.id) or tables.add_set(begun)
    members = _members(tables, begun.owner, begun.id, SetState.PREPARING)
    if group.kind is not begun.kind:
        raise BadState(
            f"snapshot set {begun.id} has copies of kind {group.kind.value}", item=str(begun.id)
        )
    taken = {row.origin for row in members}
    new: list[LunRow] = []
    for lun in luns:
        if lun not in taken:
            source = _source(tables, lun, begun.owner, begun.id)
            new.append(tables.add_copy(source, group, engine, len(members) + len(new)))
            taken.add(lun)
    return new


def _commit(
    tables: Tables,
    owner: Initiator,
    set_id: SnapshotSetId,
    boot: str,
    taken: Sequence[tuple[LunId, int]],
) -> list[LunRow]:
    """Note that a set is committed. taken: its copies with their sizes in bytes."""
    rows = _members(tables, owner, set_id, SetState.PREPARED)
    for row in rows:
        tables.set_lun_state(row.id, after(row.state, LunCall.COMMIT, item=row.id))
    for lun, size in taken:
        # The source may have grown since the copy was begun.
        tables.set_lun_size(lun, size)
    tables.set_set_state(set_id, SetState.COMMITTED, boot=boot)
    tables.inherit_flags(set_id)
    return rows


def _begin_removal(tables: Tables, set_id: SnapshotSetId) -> list[LunId]:
    """Write down that all copies of a set that nobody has claimed are going."""
    going = []
    for row in tables.luns_of_set(set_id):
        if row.state in _UNCLAIMED:
            tables.set_lun_state(row.id, after(row.state, LunCall.ABORT, item=row.id))
            going.append(row.id)
    tables.forget_empty_set(set_id)
    return going
