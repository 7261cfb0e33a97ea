"""AbortBackup and the end of a session, by Release, by death, or by the service's stop.

Whatever runs is undone first. A set in the making is dropped and the creation slot freed.
Sets of an auto-release context that the session holds are deleted, and the writers that were
told of the backup get BackupShutdown. Persistent sets stay.
Source: aborting-vss-operations; handling-backupshutdown-events.
"""

from dataclasses import replace
from functools import partial

import trio

from vssemu.service import deletion, undo
from vssemu.service.catalog import SetStatus
from vssemu.service.openset import CreationSlot
from vssemu.service.operations import Operations
from vssemu.service.participants import Occasion
from vssemu.service.parts import Parts
from vssemu.service.record import Request
from vssemu.service.recording import noted, recording
from vssemu.service.sessions import Session, Sessions
from vssemu.vss.lifecycle import requester as lifecycle
from vssemu.vss.lifecycle.requester import Call, Phase
from vssemu.vss.steps import CreationStep

_UNDER_WAY = frozenset({Phase.SET_OPEN, Phase.PREPARED, Phase.CREATED, Phase.FAILED})


async def abort(session: Session, slot: CreationSlot) -> None:
    """End the backup that is under way: Abort to the writers; nothing if none is.

    Raises BadState for an object that was not initialised.
    """
    with recording(session.recorder), noted(Request(method=Call.ABORT_BACKUP.value)):
        await _abort(session, slot)


async def _abort(session: Session, slot: CreationSlot) -> None:
    session.check(Call.ABORT_BACKUP)
    await session.interrupt()
    session.check(Call.ABORT_BACKUP)
    was_under_way = session.phase in _UNDER_WAY
    occasion = session.occasion()
    drop_open_set(session, slot)
    session.state = lifecycle.after(session.state, Call.ABORT_BACKUP)
    if was_under_way and session.participants.has_begun:
        await session.participants.abort(occasion)


def drop_open_set(session: Session, slot: CreationSlot) -> None:
    """Drop the set in the making and free the creation slot.

    Its providers are not told: they see the next set's BeginPrepareSnapshot.
    Source: state-transitions-in-shadow-copy-providers.
    """
    if session.open_set is not None:
        session.open_set.close()
        session.open_set = None
    slot.free(session.key)


async def end(
    session: Session,
    why: str,
    *,
    parts: Parts,
    slot: CreationSlot,
    sessions: Sessions,
    operations: Operations,
) -> None:
    """End a session; a second caller waits for the first one's end.

    why: for the log, `release`, `requester gone` or `service stop`.
    """
    if session.is_ending:
        await session.ended.wait()
        return
    session.is_ending = True
    with trio.CancelScope(shield=True):
        try:
            with (
                recording(session.recorder),
                noted(Request(method=Call.RELEASE.value, arguments=why)),
                trio.move_on_after(parts.limits.clean_up) as scope,
            ):
                await _end(session, why, parts, slot)
            if scope.cancelled_caught:
                parts.log.record("session_end_timeout", why=why)
        finally:
            slot.free(session.key)
            for operation in session.operations:
                operations.forget(operation)
            sessions.forget(session)
            session.recorder.finish(why)
            session.ended.set()


async def _end(session: Session, why: str, parts: Parts, slot: CreationSlot) -> None:
    await session.interrupt()
    session.state = replace(session.state, phase=Phase.RELEASED, running=None)
    occasion = session.occasion()
    drop_open_set(session, slot)
    held = [stored for stored in parts.catalog.sets() if stored.holder == session.key]
    for stored in held:
        # A failed creation is undone by `recovery`: its copies may have no records to end by.
        if stored.is_auto_release and stored.status is not SetStatus.UNDOING:
            await undo.best(parts, "end_set", partial(deletion.end_set, parts, stored, why))
    if session.created is None:
        occasion = replace(occasion, set_id=None)
    if session.participants.has_begun:
        await undo.best(parts, "backup_shutdown", partial(_shut_down, session, occasion))


async def _shut_down(session: Session, occasion: Occasion) -> None:
    async with session.trace.step(CreationStep.BACKUP_SHUTDOWN):
        await session.participants.shutdown(occasion)
