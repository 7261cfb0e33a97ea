"""Undoing a creation that failed: nothing half done stays, and no step stops the others.

What cannot be undone now, because provider or array do not answer, stays in the catalog and
is tried again (`recovery`).

Writers first, because applications stand still; then the source volumes' flags, then what had
come up on this host, then the providers. AbortSnapshots goes only to providers that were told
EndPrepareSnapshots. LUNs whose records were known are given back by OnLunEmpty as well, for
the documents leave open whether an abort after PostCommit drops them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from vssemu.api import provider as table
from vssemu.service import sourceflags
from vssemu.service.arrival import destinations
from vssemu.service.catalog import SetStatus, StoredCopy, StoredSet
from vssemu.service.parts import Parts
from vssemu.service.providers import Provider
from vssemu.vss.errors import VssError
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import SnapshotSetId
from vssemu.vss.lifecycle.provider import SetCall, SetState
from vssemu.vss.lun import Lun, LunInformation

if TYPE_CHECKING:
    from vssemu.service.creation import Creation


_RECORDS_SECONDS = 10.0
"""How long GetTargetLuns is asked once more, after it failed."""

_QUICK = frozenset({SetCall.PRE_COMMIT, SetCall.COMMIT, SetCall.POST_COMMIT})
"""Calls that a healthy provider answers at once. EndPrepareSnapshots may run long, and has to
take AbortSnapshots meanwhile."""

NOT_OURS = frozenset({Hresult.VSS_E_OBJECT_NOT_FOUND, Hresult.VSS_E_BAD_STATE})
"""What a provider answers to OnLunEmpty for a LUN that somebody else has: no use to ask again."""

_UNHEARD = frozenset({Hresult.VSS_E_UNEXPECTED_PROVIDER_ERROR, Hresult.VSS_E_PROVIDER_VETO})
"""How AbortSnapshots fails when provider or storage are not there; other codes mean nothing."""

_NO_ABORT = frozenset({SetState.NONE, SetState.PREPARING, SetState.FINAL})
"""Before EndPrepareSnapshots a provider hears of no abort; after PostFinalCommitSnapshots its
LUNs end one by one."""


async def creation(failed: Creation) -> None:
    """Undo what the creation did; failures on the way are events in the log."""
    parts, open_set = failed.parts, failed.open_set
    if failed.has_told_writers:
        await best(parts, "abort_writers", lambda: failed.participants.abort(failed.occasion()))
    if (copy := failed.unrecorded) is not None:
        # A provider that gave LUNs out without being heard leaves them to OnLunEmpty.
        with trio.move_on_after(_RECORDS_SECONDS):
            await best(parts, "get_target_luns", lambda: failed.get_records(copy))

    async def note() -> None:
        failed.note(SetStatus.UNDOING)

    await best(parts, "note_set", note)
    for provider, call in failed.unanswered.items():
        if call in _QUICK:
            # It hangs, and would leave AbortSnapshots without an answer too.
            await provider.kill(call.value, "it was given up in the middle of the call")
    told = [each for each in open_set.providers() if open_set.state(each) not in _NO_ABORT]
    for provider in told:
        open_set.move(provider, SetCall.ABORT)
    with parts.working_on(open_set.set_id):
        await _undo(parts, open_set.set_id, failed.stored, told)


async def _undo(
    parts: Parts, set_id: SnapshotSetId, known: list[StoredCopy], told: list[Provider]
) -> None:
    """Undo what of a creation outlives the service; forget the set when all of it is undone.

    known: copies whose LUNs have records. told: providers that have to hear AbortSnapshots.
    """
    done = await best(parts, "clear_flags", lambda: sourceflags.restore(parts, set_id))
    if known:
        done &= await best(parts, "take_away", lambda: take_away(parts, known))
    for provider in told:
        done &= await _abort_provider(parts, provider, set_id)
    for copy in known:
        provider = parts.providers.find(copy.properties.provider_id)
        for record in destinations([copy]):
            done &= await _give_back(parts, provider, record)
    if done:
        parts.catalog.remove_set(set_id)


async def again(parts: Parts, stored: StoredSet) -> None:
    """Undo a creation that the end of the service cut off, or that could not be undone."""
    known = [copy for copy in stored.copies if copy.luns]
    ids = dict.fromkeys(copy.properties.provider_id for copy in stored.copies)
    told = [parts.providers.find(each) for each in ids]
    with parts.working_on(stored.set_id):
        await _undo(parts, stored.set_id, known, told)


async def take_away(parts: Parts, known: list[StoredCopy]) -> None:
    """Take copies and their LUNs off this host."""
    for copy in known:
        await parts.host.retire(copy.id)
    await parts.host.remove(destinations(known))


async def _abort_provider(parts: Parts, provider: Provider, set_id: SnapshotSetId) -> bool:
    """Send AbortSnapshots; tell whether it was heard, for its return code means nothing."""
    unheard = False

    async def abort() -> None:
        nonlocal unheard
        try:
            await provider.call(table.abort_snapshots, set_id)
        except VssError as error:
            unheard = error.hresult in _UNHEARD
            raise

    await best(parts, "abort_snapshots", abort)
    return not unheard


async def _give_back(parts: Parts, provider: Provider, record: LunInformation) -> bool:
    """Send FillInLunInfo and OnLunEmpty for a LUN that nobody needs."""
    refused = False

    async def empty() -> None:
        nonlocal refused
        lun = await known_lun(provider, record)
        try:
            if lun is not None:
                await provider.call(table.on_lun_empty, lun)
        except VssError as error:
            refused = error.hresult in NOT_OURS
            raise

    return await best(parts, "on_lun_empty", empty) or refused


async def known_lun(provider: Provider, record: LunInformation) -> Lun | None:
    """Return a LUN as its provider describes it, None for one that it does not know (any more).

    Raises VssError.
    """
    lun = Lun(device_name="", information=record)
    answer = await provider.call(table.fill_in_lun_info, lun)
    if not answer.supported:
        return None
    return answer.luns[0] if answer.luns else lun


async def best(parts: Parts, what: str, job: Callable[[], Awaitable[object]]) -> bool:
    """Do one step of a clean-up and tell whether it went well; a failure is an event."""
    try:
        await job()
    except VssError as error:
        parts.log.record("clean_up_failed", step=what, code=error.hresult.name, text=error.fact)
        return False
    except (sqlite3.Error, OSError) as error:
        # The service's own disk: what others wait for must be undone all the same.
        parts.log.record("clean_up_failed", step=what, code=type(error).__name__, text=str(error))
        return False
    return True
