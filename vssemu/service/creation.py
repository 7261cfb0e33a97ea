"""The sequence of DoSnapshotSet, from EndPrepareSnapshots to the finished set.

The steps stand in `Creation._sequence` in the order of the documents; a step that fails ends
the creation: writers get Abort, providers AbortSnapshots, source volumes their flags, and
nothing of the set is left. What a writer fails in is its status, not the set's end.

    writes held      from the freeze of the first volume until the last provider left Commit
    applications     from Freeze until Thaw, or until the writer's own time passes
    not written      catalog and event log, while writes are held

Source: shadow-copy-creation-for-providers, the-shadow-copy-creation-process, overview of
processing a backup; `docs/choices.md` where they differ.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import trio

from vssemu.api import provider as table
from vssemu.service import copies, sourceflags, undo
from vssemu.service.arrival import Arrival, bring_in
from vssemu.service.catalog import SetStatus, StoredCopy, StoredSet
from vssemu.service.openset import OpenSet, PendingCopy
from vssemu.service.participants import FREEZE_ORDER, Occasion, Participants
from vssemu.service.parts import Parts
from vssemu.service.providers import Provider
from vssemu.service.recording import noted_hold
from vssemu.service.together import all_of, ungrouped
from vssemu.service.trace import Trace
from vssemu.vss import drives
from vssemu.vss.attributes import Attribute, has_writers
from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.errors import HoldWritesTimeout, UnexpectedProviderError, VssError
from vssemu.vss.host import Volume
from vssemu.vss.hresult import Hresult
from vssemu.vss.lifecycle.provider import SetCall
from vssemu.vss.lun import LunInformation
from vssemu.vss.snapshot import LunMapping, SnapshotDescription, SnapshotSetDescription
from vssemu.vss.steps import CreationStep
from vssemu.vss.writer import SnapshotVolume


class Creation:
    """One run of DoSnapshotSet.

    holder: the session that an auto-release set ends with. trace: has what came before.
    """

    def __init__(
        self,
        parts: Parts,
        open_set: OpenSet,
        participants: Participants,
        document: BackupComponentsDocument,
        holder: str,
        trace: Trace,
    ) -> None:
        self.parts = parts
        self.open_set = open_set
        self.participants = participants
        self.document = document
        self.holder = holder
        self.trace = trace
        self.has_told_writers = False
        self.stored: list[StoredCopy] = []
        self.arrival = Arrival()
        self.unanswered: dict[Provider, SetCall] = {}
        self.unrecorded: PendingCopy | None = None
        self._instant = datetime.now(UTC)
        self._began = trio.current_time()

    async def run(self) -> Hresult:
        """Create the set. Raises VssError, and then nothing of it is left."""
        outcome = "cancelled"
        self.note(SetStatus.CREATING)
        try:
            with ungrouped():
                await self._sequence()
            outcome = "ok"
        except Exception as error:
            outcome = str(error)
            raise
        finally:
            if outcome != "ok":
                with trio.move_on_after(self.parts.limits.clean_up, shield=True):
                    await undo.creation(self)
            self._log(outcome)
        return Hresult.VSS_S_ASYNC_FINISHED

    async def _sequence(self) -> None:
        await self._each(CreationStep.END_PREPARE, SetCall.END_PREPARE)
        await self._set_flags()
        await self._prepare_writers()
        async with self._writers_frozen():
            await self._each(CreationStep.PRE_COMMIT, SetCall.PRE_COMMIT)
            await self._commit()
            async with self.trace.step(CreationStep.CLEAR_FLAGS):
                await sourceflags.restore(self.parts, self.open_set.set_id)
            await self._each(CreationStep.POST_COMMIT, SetCall.POST_COMMIT)
        await self._get_target_luns()
        if not self.is_transportable:
            await self._auto_import()
        await self._each(CreationStep.PRE_FINAL_COMMIT, SetCall.PRE_FINAL_COMMIT)
        await self._post_snapshot()
        await self._each(CreationStep.POST_FINAL_COMMIT, SetCall.POST_FINAL_COMMIT)
        async with self.trace.step(CreationStep.FINISH):
            self._finish()

    @property
    def is_transportable(self) -> bool:
        """Whether the set goes into the document instead of coming up here."""
        return bool(self.open_set.context & Attribute.TRANSPORTABLE)

    @property
    def involves_writers(self) -> bool:
        """Whether writers get events of this creation."""
        return has_writers(self.open_set.context)

    def occasion(self) -> Occasion:
        """Return what the writers are told of this creation now."""
        devices = {copy.id: copy.properties.device_object or None for copy in self.arrival.present}
        return Occasion(
            context=self.open_set.context,
            document=self.document,
            set_id=str(self.open_set.set_id),
            volumes=tuple(
                SnapshotVolume(volume=name, device_name=devices.get(copy.snapshot_id))
                for copy in self.open_set.copies
                for name in names_of(copy.volume)
            ),
        )

    async def _each(self, step: CreationStep, call: SetCall) -> None:
        """Make one set call on every provider at once."""
        async with self.trace.step(step):
            await all_of([self._job(each, call) for each in self.open_set.providers()])

    def _job(self, provider: Provider, call: SetCall) -> Callable[[], Awaitable[None]]:
        async def job() -> None:
            self.open_set.move(provider, call)
            self.unanswered[provider] = call
            try:
                await self._call(provider, call)
            except VssError as error:
                del self.unanswered[provider]
                if error.hresult in undo.NOT_OURS and self.open_set.has_restarted(provider):
                    raise UnexpectedProviderError(
                        f"provider {provider.name} ended while the set was being made, and does"
                        f" not know it any more: {error.fact}",
                        hint="try again; the event log has why it ended",
                        item=str(provider.id),
                    ) from error
                raise
            del self.unanswered[provider]

        return job

    async def _call(self, provider: Provider, call: SetCall) -> None:
        set_id = self.open_set.set_id
        if call is SetCall.POST_COMMIT:
            mine = [copy for copy in self.open_set.copies if copy.provider is provider]
            await provider.call(table.post_commit_snapshots, set_id, len(mine))
        else:
            await provider.call(_SET_METHODS[call], set_id)

    async def _set_flags(self) -> None:
        async with self.trace.step(CreationStep.SET_FLAGS):
            volumes = [copy.volume for copy in self.open_set.copies]
            on_luns = await sourceflags.volumes_on_luns_of(self.parts, volumes)
            await sourceflags.set_shadow_flags(self.parts, self.open_set.set_id, on_luns)

    async def _prepare_writers(self) -> None:
        if self.involves_writers:
            occasion = self.occasion()
            self.participants.leave_out_idle(occasion)
            self.has_told_writers = True
            async with self.trace.step(CreationStep.PREPARE_SNAPSHOT):
                await self.participants.prepare_snapshot(occasion)

    @asynccontextmanager
    async def _writers_frozen(self) -> AsyncIterator[None]:
        """Freeze the writers level by level for the block, then thaw those that still wait."""
        if not self.involves_writers:
            yield
            return
        occasion = self.occasion()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.participants.watch_freeze, occasion)
            for step, level in zip(_FREEZING, FREEZE_ORDER, strict=True):
                async with self.trace.step(step):
                    await self.participants.freeze(occasion, level)
            yield
            nursery.cancel_scope.cancel()
        async with self.trace.step(CreationStep.THAW):
            await self.participants.thaw(occasion)

    async def _commit(self) -> None:
        volumes = [copy.volume for copy in self.open_set.copies]
        if not volumes:
            return
        limit = self.parts.limits.hold
        async with AsyncExitStack() as holding:
            async with self.trace.step(CreationStep.HOLD):
                # Behind the step's begin: a trace has that when the service dies in the hold.
                holding.enter_context(self.parts.log.quiet())
                hold = noted_hold(self.parts.host.hold(volumes, limit), limit)
                held = await holding.enter_async_context(hold)
            self._instant = datetime.now(UTC)
            await self._commit_within(limit)
            async with self.trace.step(CreationStep.RELEASE):
                await holding.aclose()
        self.trace.hold_seconds = held.seconds

    async def _commit_within(self, limit: float) -> None:
        """Have every provider commit. Raises HoldWritesTimeout when one is not done in time."""
        begun = trio.current_time()
        with trio.move_on_after(limit) as scope:
            await self._each(CreationStep.COMMIT, SetCall.COMMIT)
        if scope.cancelled_caught:
            raise HoldWritesTimeout(
                f"CommitSnapshots was not done after {trio.current_time() - begun:.1f} s;"
                f" writes are held for {limit:g} s at most",
                hint="wait ten minutes and try again; the event log names the provider",
                item=str(self.open_set.set_id),
            )

    async def _get_target_luns(self) -> None:
        async with self.trace.step(CreationStep.GET_TARGET_LUNS):
            for copy in self.open_set.copies:
                self.open_set.move(copy.provider, SetCall.GET_TARGET_LUNS)
                await self.get_records(copy)
        self.note(SetStatus.CREATING)

    async def get_records(self, copy: PendingCopy) -> None:
        """Ask a provider for the records of a copy's LUNs."""
        self.unrecorded = copy
        targets = await copy.provider.call(table.get_target_luns, list(copy.luns))
        self.stored.append(self._mapped(copy, targets))
        self.unrecorded = None

    def _mapped(self, copy: PendingCopy, targets: Sequence[LunInformation]) -> StoredCopy:
        sources = [lun.information for lun in copy.luns]
        if len(targets) != len(sources) or any(
            not target.unique_identifiers - source.unique_identifiers
            for source, target in zip(sources, targets, strict=False)
        ):
            raise UnexpectedProviderError(
                f"GetTargetLuns of provider {copy.provider.name}: {len(targets)} records for"
                f" {len(sources)} LUNs, each of which must have an identifier of its own",
                item=str(copy.provider.id),
            )
        return replace(
            self._unfinished(copy),
            luns=tuple(
                LunMapping(source=source, destination=target, extents=on_lun.extents)
                for source, target, on_lun in zip(sources, targets, copy.volume.luns, strict=True)
            ),
        )

    async def _auto_import(self) -> None:
        if not self.stored:
            return
        await bring_in(self.parts, self.stored, self.trace, self.arrival)
        if self.arrival.missing:
            raise self.arrival.missing[0][1]

    async def _post_snapshot(self) -> None:
        if self.involves_writers:
            async with self.trace.step(CreationStep.POST_SNAPSHOT):
                await self.participants.post_snapshot(self.occasion())

    def _finish(self) -> None:
        """Write what stays: the document of a transportable set, or the set on this host."""
        context = self.open_set.context
        if self.is_transportable and self.stored:
            self.document.set_snapshot_set_description(
                SnapshotSetDescription(
                    snapshot_set_id=self.open_set.set_id,
                    context=context,
                    snapshots=tuple(
                        SnapshotDescription(properties=copy.properties, luns=copy.luns)
                        for copy in self.stored
                    ),
                )
            )
        final = StoredSet(
            set_id=self.open_set.set_id,
            context=context,
            status=SetStatus.HELD if self.is_transportable else SetStatus.PRESENT,
            holder=self.holder,
            copies=tuple(self.stored if self.is_transportable else self.arrival.present),
        )
        if final.copies and (final.is_auto_release or not self.is_transportable):
            self.parts.catalog.put_set(final)
        else:
            # A persistent transportable set is in its document, not on its creator.
            self.parts.catalog.remove_set(final.set_id)

    def _unfinished(self, copy: PendingCopy) -> StoredCopy:
        machine = self.parts.host.machine()
        return StoredCopy(
            properties=copies.properties_of(self.open_set, copy, machine, self._instant)
        )

    def note(self, status: SetStatus) -> None:
        """Write the set into the catalog, with what is known of its copies."""
        known = {copy.id: copy for copy in self.stored}
        copies = [
            known.get(copy.snapshot_id) or self._unfinished(copy) for copy in self.open_set.copies
        ]
        self.parts.catalog.put_set(
            StoredSet(
                set_id=self.open_set.set_id,
                context=self.open_set.context,
                status=status,
                holder=self.holder,
                copies=tuple(copies),
            )
        )

    def _log(self, outcome: str) -> None:
        self.parts.log.record(
            "creation",
            set_id=str(self.open_set.set_id),
            context=f"0x{self.open_set.context:08x}",
            outcome=outcome,
            volumes=[copy.volume.name for copy in self.open_set.copies],
            seconds=round(trio.current_time() - self._began, 6),
            hold_seconds=self.trace.hold_seconds,
            steps=self.trace.steps,
        )


_FREEZING = (
    CreationStep.FREEZE_FRONT_END,
    CreationStep.FREEZE_BACK_END,
    CreationStep.FREEZE_SYSTEM,
)

_SET_METHODS = {
    SetCall.END_PREPARE: table.end_prepare_snapshots,
    SetCall.PRE_COMMIT: table.pre_commit_snapshots,
    SetCall.COMMIT: table.commit_snapshots,
    SetCall.PRE_FINAL_COMMIT: table.pre_final_commit_snapshots,
    SetCall.POST_FINAL_COMMIT: table.post_final_commit_snapshots,
}


def names_of(volume: Volume) -> tuple[str, ...]:
    """Return the names by which writers know a volume: letters and folders, else its GUID.

    A drive letter's own directory is not named again.
    """
    own = {str(drives.linux_path(letter)) for letter in volume.letters}
    has_folders = len(volume.mount_points) > len(volume.letters)
    folders = [each for each in volume.mount_points if has_folders and each not in own]
    return (*volume.letters, *folders) or (volume.name,)
