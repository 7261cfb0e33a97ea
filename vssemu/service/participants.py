"""The writers of one backup: which take part, what they are told, how they stand.

A writer that answers false, dies, or passes its limit in an event gets no further event of
this backup but Abort and BackupShutdown; one that sets a failure and answers true goes on,
and its status shows FAILED_AT_ the event all the same. Neither fails the creation: what to do
about it is the requester's to decide after GatherWriterStatus. A writer that froze and then
failed, or whose Freeze-to-Thaw time passed, is aborted at once, so that it runs again.
In component mode a writer without a component in the document has had its last event with
PrepareForBackup. Source: writer-errors-and-vetoes; aborting-vss-operations; CVssWriter.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from vssemu.api.requester import WriterMetadata
from vssemu.service.events import EventLog
from vssemu.service.limits import WriterLimits
from vssemu.service.record import EventSent, short
from vssemu.service.recording import note_over, noted
from vssemu.service.together import all_of
from vssemu.service.writers import Answer, WriterHub, WriterInstance
from vssemu.vss.documents.bcd import BackupComponentsDocument, BackupState
from vssemu.vss.documents.wmd import WriterMetadataDocument
from vssemu.vss.enums import ApplicationLevel, BackupType, WriterState
from vssemu.vss.errors import (
    VssError,
    WriterErrorNonRetryable,
    WriterErrorTimeout,
    error_for,
)
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import WriterInstanceId
from vssemu.vss.lifecycle import writer as lifecycle
from vssemu.vss.writer import (
    WRITER_FAILURES,
    EventKind,
    SnapshotVolume,
    WriterEvent,
    WriterFailure,
    WriterStatus,
)

FREEZE_ORDER = (
    (ApplicationLevel.FRONT_END, ApplicationLevel.UNKNOWN),
    (ApplicationLevel.BACK_END,),
    (ApplicationLevel.SYSTEM, ApplicationLevel.SYSTEM_RM),
)
"""Who is frozen after whom. Source: VSS_APPLICATION_LEVEL."""

_WITH_DOCUMENT = frozenset(
    {EventKind.PREPARE_BACKUP, EventKind.POST_SNAPSHOT, EventKind.BACKUP_COMPLETE}
)


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """What the events of one phase have in common."""

    context: int
    document: BackupComponentsDocument
    set_id: str | None = None
    volumes: tuple[SnapshotVolume, ...] = ()

    @property
    def state(self) -> BackupState | None:
        """What SetBackupState set."""
        return self.document.backup_state

    @property
    def is_component_mode(self) -> bool:
        """Whether components are selected."""
        return self.state is not None and self.state.select_components


@dataclass(eq=False, kw_only=True)
class Participant:
    """One writer in one backup. progress: its life cycle; failed_at: what its status shows."""

    instance: WriterInstance
    metadata: WriterMetadataDocument | None = None
    progress: WriterState = WriterState.UNKNOWN
    failed_at: WriterState | None = None
    failure: WriterFailure | None = None
    is_out: bool = False
    frozen_until: float | None = None

    def accepts(self, kind: EventKind) -> bool:
        """Whether the event is one for this writer now."""
        if self.is_out and kind is not EventKind.IDENTIFY:
            return False
        return lifecycle.accepts(self.progress, kind) and not (
            kind is EventKind.ABORT and self.progress is WriterState.UNKNOWN
        )

    @property
    def state(self) -> WriterState:
        """The state that GatherWriterStatus shows."""
        return self.failed_at or self.progress

    def fail(self, kind: EventKind, failure: WriterFailure, *, fatal: bool) -> None:
        """Note a failure in an event; the first one counts."""
        failed = lifecycle.after_failure(self.progress, kind)
        if self.failed_at is None and lifecycle.is_failed(failed):
            self.failed_at, self.failure = failed, failure
        self.progress = failed if fatal else lifecycle.after(self.progress, kind)


@dataclass(kw_only=True)
class Participants:
    """The writers of one requester session. Empty before `identify`."""

    hub: WriterHub
    limits: WriterLimits
    log: EventLog
    members: list[Participant] = field(default_factory=list)
    has_begun: bool = False
    is_aborted: bool = False

    async def identify(self) -> None:
        """Send Identify to every writer; those that fail are absent from everything."""
        found = [Participant(instance=instance) for instance in self.hub.instances()]
        document = BackupComponentsDocument.new()
        occasion = Occasion(context=0, document=document)
        await self._tell(found, EventKind.IDENTIFY, occasion)
        self.members = [
            member
            for member in found
            if member.metadata is not None and member.state is WriterState.STABLE
        ]

    def metadata(self) -> list[WriterMetadata]:
        """Return the gathered Writer Metadata Documents."""
        return [
            WriterMetadata(
                instance_id=member.instance.id,
                writer_id=member.instance.identity.writer_id,
                name=member.instance.identity.name,
                document=member.metadata.to_xml(),
            )
            for member in self.members
            if member.metadata is not None
        ]

    def find(self, instance_id: WriterInstanceId) -> Participant | None:
        """Return a gathered writer, or None."""
        return next((m for m in self.members if m.instance.id == instance_id), None)

    def statuses(self) -> list[WriterStatus]:
        """Return how the writers stand; one that is gone shows that it does not respond."""
        return [_status(member) for member in self.members]

    async def prepare_backup(self, occasion: Occasion) -> None:
        """Send PrepareForBackup; in component mode it is the last event of idle writers."""
        self.has_begun = True
        await self._tell(self.members, EventKind.PREPARE_BACKUP, occasion)
        self.leave_out_idle(occasion)

    def leave_out_idle(self, occasion: Occasion) -> None:
        """Leave out the writers of which no component was added, in component mode."""
        if not occasion.is_component_mode:
            return
        for member in self.members:
            if not occasion.document.components(member.instance.id):
                member.is_out = True

    async def prepare_snapshot(self, occasion: Occasion) -> None:
        """Send PrepareSnapshot."""
        self.has_begun = True
        await self._tell(self.members, EventKind.PREPARE_SNAPSHOT, occasion)

    async def freeze(self, occasion: Occasion, level: Sequence[ApplicationLevel]) -> None:
        """Send Freeze to the writers of a level; each has its own Freeze-to-Thaw time."""
        members = [m for m in self.members if m.instance.identity.level in level]
        for member in members:
            if member.accepts(EventKind.FREEZE):
                member.frozen_until = trio.current_time() + self._freeze_limit(member)
        await self._tell(members, EventKind.FREEZE, occasion)
        await self._abort_failed(members, occasion)

    async def watch_freeze(self, occasion: Occasion) -> None:
        """Abort each frozen writer when its Freeze-to-Thaw time passes; until cancelled."""
        while True:
            waiting = [m for m in self.members if _is_frozen(m)]
            ends = [m.frozen_until for m in waiting if m.frozen_until is not None]
            await trio.sleep_until(min(ends, default=trio.current_time() + 0.1))
            now = trio.current_time()
            late = [m for m in waiting if m.frozen_until is not None and m.frozen_until <= now]
            for member in late:
                error = WriterErrorTimeout(
                    f"Freeze to Thaw: {member.instance.describe()}: its time has passed"
                )
                self._fail(member, EventKind.THAW, error, fatal=True)
                limit = self._freeze_limit(member)
                sent = _sent(member, "FreezeToThaw", limit)
                sent.late, sent.is_veto = True, True
                sent.fail(error.hresult, error.fact)
                note_over(sent, begun=now - limit)
            await self._abort_failed(late, occasion)

    async def thaw(self, occasion: Occasion) -> None:
        """Send Thaw to the frozen writers, all levels at once."""
        members = [m for m in self.members if _is_frozen(m)]
        await self._tell(members, EventKind.THAW, occasion)
        await self._abort_failed(members, occasion)

    async def post_snapshot(self, occasion: Occasion) -> None:
        """Send PostSnapshot, the last event in which the document can be changed."""
        await self._tell(self.members, EventKind.POST_SNAPSHOT, occasion)

    async def backup_complete(self, occasion: Occasion) -> None:
        """Send BackupComplete; the document is read-only."""
        await self._tell(self.members, EventKind.BACKUP_COMPLETE, occasion)

    async def abort(self, occasion: Occasion) -> None:
        """Send Abort, once, to every writer that takes part; of this backup only its end follows.

        AbortBackup after a creation that failed tells the writers nothing new.
        """
        if self.is_aborted:
            return
        self.is_aborted = True
        await self._tell(self.members, EventKind.ABORT, occasion)
        for member in self.members:
            member.frozen_until = None

    async def shutdown(self, occasion: Occasion) -> None:
        """Send BackupShutdown, once, to the writers that were told of the backup."""
        if self.has_begun:
            self.has_begun = False
            await self._tell(self.members, EventKind.BACKUP_SHUTDOWN, occasion)

    async def _abort_failed(self, members: Sequence[Participant], occasion: Occasion) -> None:
        failed = [
            m for m in members if lifecycle.is_failed(m.progress) and m.frozen_until is not None
        ]
        for member in failed:
            member.frozen_until = None
        await self._tell(failed, EventKind.ABORT, occasion)

    async def _tell(
        self, members: Sequence[Participant], kind: EventKind, occasion: Occasion
    ) -> None:
        def job(member: Participant) -> Callable[[], Awaitable[None]]:
            async def tell() -> None:
                await self._tell_one(member, kind, occasion)

            return tell

        await all_of([job(member) for member in members if member.accepts(kind)])

    async def _tell_one(self, member: Participant, kind: EventKind, occasion: Occasion) -> None:
        limit = self._limit(member, kind)
        with noted(_sent(member, kind.value, limit)) as sent:
            try:
                event = _event(member, kind, occasion)
                answer = await self.hub.ask(member.instance, event, limit)
                if answer.document is not None:
                    _take_document(member, kind, occasion, answer.document)
            except VssError as error:
                sent.late, sent.is_veto = isinstance(error, WriterErrorTimeout), True
                sent.fail(error.hresult, error.fact)
                self._fail(member, kind, error, fatal=True)
            else:
                self._judge(member, kind, answer, sent)

    def _freeze_limit(self, member: Participant) -> float:
        return min(self.limits.freeze, member.instance.identity.freeze_limit_ms / 1000)

    def _limit(self, member: Participant, kind: EventKind) -> float:
        if kind is EventKind.FREEZE and member.frozen_until is not None:
            return max(0.001, member.frozen_until - trio.current_time())
        return self.limits.of(kind)

    def _judge(
        self, member: Participant, kind: EventKind, answer: Answer, sent: EventSent
    ) -> None:
        if answer.ok and answer.failure is None:
            member.progress = lifecycle.after(member.progress, kind)
        else:
            given = answer.failure or WriterFailure(hresult=Hresult.S_OK)
            error = _documented(member, kind, given)
            sent.is_veto = not answer.ok
            sent.fail(error.hresult, error.fact)
            self._fail(member, kind, error, fatal=not answer.ok, given=answer.failure)
        if kind is EventKind.THAW and member.progress is WriterState.WAITING_FOR_POST_SNAPSHOT:
            member.frozen_until = None

    def _fail(
        self,
        member: Participant,
        kind: EventKind,
        error: VssError,
        *,
        fatal: bool,
        given: WriterFailure | None = None,
    ) -> None:
        failure = WriterFailure(
            hresult=error.hresult,
            application_hresult=0 if given is None else given.application_hresult,
            message=error.fact if given is None else given.message,
        )
        self.log.record(
            "writer_failure",
            writer=member.instance.identity.name,
            writer_id=str(member.instance.identity.writer_id),
            instance_id=str(member.instance.id),
            callback=f"On{kind.value}",
            code=error.hresult.name,
            fatal=fatal,
            text=error.fact,
        )
        if lifecycle.accepts(member.progress, kind):
            member.fail(kind, failure, fatal=fatal)


def _is_frozen(member: Participant) -> bool:
    return member.progress is WriterState.WAITING_FOR_THAW and not member.is_out


def _sent(member: Participant, event: str, limit: float) -> EventSent:
    identity = member.instance.identity
    return EventSent(
        writer=short(identity.name),
        writer_id=str(identity.writer_id),
        instance_id=str(member.instance.id),
        level=identity.level.name,
        event=event,
        limit=limit,
    )


def _status(member: Participant) -> WriterStatus:
    failure = member.failure or WriterFailure(hresult=Hresult.S_OK)
    if member.instance.gone.is_set() and member.failure is None:
        failure = WriterFailure(
            hresult=Hresult.VSS_E_WRITER_NOT_RESPONDING, message="the writer is gone"
        )
    return WriterStatus(
        instance_id=member.instance.id,
        writer_id=member.instance.identity.writer_id,
        name=member.instance.identity.name,
        state=member.state
        if not member.instance.gone.is_set() or member.failed_at
        else WriterState.UNKNOWN,
        failure=failure.hresult,
        application_failure=failure.application_hresult,
        message=failure.message,
    )


def _event(member: Participant, kind: EventKind, occasion: Occasion) -> WriterEvent:
    state = occasion.state
    document = None
    if kind in _WITH_DOCUMENT and occasion.is_component_mode:
        instance_id = member.instance.id
        if occasion.document.components(instance_id):
            document = occasion.document.writer_part(instance_id)
    return WriterEvent(
        event_id="",
        kind=kind,
        instance_id=member.instance.id,
        set_id=occasion.set_id,
        context=occasion.context,
        volumes=occasion.volumes,
        document=document,
        select_components=occasion.is_component_mode,
        bootable_system_state=state is not None and state.bootable_system_state,
        backup_type=BackupType.UNDEFINED if state is None else state.backup_type,
        partial_file_support=state is not None and state.partial_file_support,
    )


def _take_document(member: Participant, kind: EventKind, occasion: Occasion, text: str) -> None:
    if kind is EventKind.IDENTIFY:
        parsed = WriterMetadataDocument.parse(text)
        if parsed.metadata.writer_id != member.instance.identity.writer_id:
            raise WriterErrorNonRetryable(
                f"Identify: {member.instance.describe()} gave the metadata of writer"
                f" {parsed.metadata.writer_id}"
            )
        member.metadata = parsed
    elif kind in _WITH_DOCUMENT and occasion.is_component_mode:
        occasion.document.merge_writer_part(
            member.instance.id, text, read_only=kind is EventKind.BACKUP_COMPLETE
        )


def _documented(member: Participant, kind: EventKind, failure: WriterFailure) -> VssError:
    """Return the error of a writer's failure; a code writers may not set is none of theirs."""
    code = failure.hresult
    if code not in WRITER_FAILURES:
        code = Hresult.VSS_E_WRITERERROR_NONRETRYABLE
    words = failure.message or "no reason given"
    return error_for(code, f"{kind.value}: {member.instance.describe()}: {words}")
