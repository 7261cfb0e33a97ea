"""Undoing a creation that failed: nothing half done stays, and no step stops the others.

Writers first, because applications stand still; then the source volumes' flags, then what had
come up on this host, then the providers. AbortSnapshots goes only to providers that were told
EndPrepareSnapshots. LUNs whose records were known are given back by OnLunEmpty as well, for
the documents leave open whether an abort after PostCommit drops them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from vssemu.api import provider as table
from vssemu.service import sourceflags
from vssemu.service.arrival import destinations
from vssemu.service.catalog import StoredCopy
from vssemu.service.parts import Parts
from vssemu.service.providers import Provider
from vssemu.vss.errors import VssError
from vssemu.vss.identity import SnapshotSetId
from vssemu.vss.lifecycle.provider import SetCall, SetState
from vssemu.vss.lun import Lun, LunInformation

if TYPE_CHECKING:
    from vssemu.service.creation import Creation


_QUICK = frozenset({SetCall.PRE_COMMIT, SetCall.COMMIT, SetCall.POST_COMMIT})
"""Calls that a healthy provider answers at once. EndPrepareSnapshots may run long, and has to
take AbortSnapshots meanwhile."""

_NO_ABORT = frozenset({SetState.NONE, SetState.PREPARING, SetState.FINAL})
"""Before EndPrepareSnapshots a provider hears of no abort; after PostFinalCommitSnapshots its
LUNs end one by one."""


async def creation(failed: Creation) -> None:
    """Undo what the creation did; failures on the way are events in the log."""
    parts, open_set = failed.parts, failed.open_set
    if failed.has_told_writers:
        await best(parts, "abort_writers", lambda: failed.participants.abort(failed.occasion()))
    await best(parts, "clear_flags", lambda: sourceflags.restore(parts, open_set.set_id))
    known = failed.stored
    if known:
        await best(parts, "take_away", lambda: take_away(parts, known))
    for provider, call in failed.unanswered.items():
        if call in _QUICK:
            # It hangs, and would leave AbortSnapshots without an answer too.
            await provider.kill(call.value, "it was given up in the middle of the call")
    for provider in open_set.providers():
        if open_set.state(provider) not in _NO_ABORT:
            open_set.move(provider, SetCall.ABORT)
            await abort_provider(parts, provider, open_set.set_id)
    for provider in open_set.providers():
        mine = [copy for copy in known if copy.properties.provider_id == provider.id]
        for record in destinations(mine):
            await give_back(parts, provider, record)
    parts.catalog.remove_set(open_set.set_id)


async def take_away(parts: Parts, known: list[StoredCopy]) -> None:
    """Take copies and their LUNs off this host."""
    for copy in known:
        await parts.host.retire(copy.id)
    await parts.host.remove(destinations(known))


async def abort_provider(parts: Parts, provider: Provider, set_id: SnapshotSetId) -> None:
    """Send AbortSnapshots; its return code means nothing."""
    await best(parts, "abort_snapshots", lambda: provider.call(table.abort_snapshots, set_id))


async def give_back(parts: Parts, provider: Provider, record: LunInformation) -> None:
    """Send FillInLunInfo and OnLunEmpty for a LUN that nobody needs; its failure is logged."""
    await best(parts, "on_lun_empty", lambda: empty_lun(provider, record))


async def empty_lun(provider: Provider, record: LunInformation) -> None:
    """Tell the provider that the last copy on a LUN is gone.

    A LUN that the provider does not know (any more) is left alone.
    Raises VssError.
    """
    lun = Lun(device_name="", information=record)
    answer = await provider.call(table.fill_in_lun_info, lun)
    if answer.supported:
        filled = answer.luns[0] if answer.luns else lun
        await provider.call(table.on_lun_empty, filled)


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
