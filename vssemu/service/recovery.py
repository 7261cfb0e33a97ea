"""What a service does at its start with what the catalog still has.

creating    undone: flags back, AbortSnapshots, LUNs given back
importing   undone: LUNs that came stay, listed as a failed import
held        nonpersistent by definition: given back
deleting    finished
masking     finished, else brought back as if present
present     nonpersistent: deleted; persistent: surfaced again
"""

import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import trio

from vssemu.service import breaking, deletion, importing, sourceflags, undo
from vssemu.service.arrival import destinations, surface
from vssemu.service.catalog import SetStatus, StoredSet
from vssemu.service.parts import Parts
from vssemu.vss.errors import VssError

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def recover(parts: Parts) -> None:
    """Bring the sets of the catalog into a state that requesters may see.

    Each set has its own time limit; one that fails is an event and does not stop the start.
    """
    for stored in parts.catalog.sets():
        with trio.move_on_after(parts.limits.recovery) as scope:
            try:
                await _STEPS[stored.status](parts, stored)
                outcome = "ok"
            except (VssError, sqlite3.Error) as error:
                outcome = str(error)
        if scope.cancelled_caught:
            outcome = f"not done after {parts.limits.recovery:g} s"
        parts.log.record(
            "recovered", set_id=str(stored.set_id), found=stored.status.value, outcome=outcome
        )


async def finish_deletions(parts: Parts) -> None:
    """Try again, for ever, to delete what could not be deleted.

    A LUN is in use for as long as somebody has a file of its copy open.
    """
    while True:
        await trio.sleep(parts.limits.retry)
        for stored in parts.catalog.sets(SetStatus.DELETING):
            await _end_again(parts, stored)


async def _end_again(parts: Parts, stored: StoredSet) -> None:
    with trio.move_on_after(parts.limits.recovery):
        again = partial(deletion.end_set, parts, stored, "tried again")
        await undo.best(parts, "end_set", again)


async def _undo_creation(parts: Parts, stored: StoredSet) -> None:
    await undo.best(parts, "clear_flags", lambda: sourceflags.restore(parts, stored.set_id))
    known = [copy for copy in stored.copies if copy.luns]
    if known:
        await undo.best(parts, "take_away", lambda: undo.take_away(parts, known))
    for provider_id in {copy.properties.provider_id for copy in stored.copies}:
        provider = parts.providers.find(provider_id)
        await undo.abort_provider(parts, provider, stored.set_id)
        mine = [copy for copy in known if copy.properties.provider_id == provider_id]
        for record in destinations(mine):
            await undo.give_back(parts, provider, record)
    parts.catalog.remove_set(stored.set_id)


async def _undo_import(parts: Parts, stored: StoredSet) -> None:
    for copy in stored.copies:
        await parts.host.retire(copy.id)
    await importing.mark(parts, stored.set_id, destinations(stored.copies))
    parts.catalog.remove_set(stored.set_id)


async def _end(parts: Parts, stored: StoredSet) -> None:
    await deletion.end_set(parts, stored, "restart")


async def _bring_back(parts: Parts, stored: StoredSet) -> None:
    if stored.is_auto_release:
        await _end(parts, stored)
        return
    await parts.host.rescan()
    await parts.host.wait_arrival(destinations(stored.copies), parts.limits.arrival / 2)
    failures: list[VssError] = []
    for copy in stored.copies:
        try:
            shown = await surface(parts, copy)
        except VssError as error:
            # The others of the set are whole without it.
            failures.append(error)
        else:
            parts.catalog.update_copy(shown.properties)
    if failures:
        raise failures[0]


async def _finish_masking(parts: Parts, stored: StoredSet) -> None:
    try:
        await breaking.mask(parts, stored)
    except VssError:
        if stored.is_auto_release:
            await _end(parts, stored)
        raise


_STEPS: dict[SetStatus, Callable[[Parts, StoredSet], Awaitable[None]]] = {
    SetStatus.CREATING: _undo_creation,
    SetStatus.IMPORTING: _undo_import,
    SetStatus.HELD: _end,
    SetStatus.DELETING: _end,
    SetStatus.PRESENT: _bring_back,
    SetStatus.MASKING: _finish_masking,
}
