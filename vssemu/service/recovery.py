"""What a service does at its start with what the catalog still has.

creating    undone: flags back, AbortSnapshots, LUNs given back
undoing     the same, once more
importing   undone: LUNs that came stay, listed as a failed import
held        nonpersistent by definition: given back
returning   given back
deleting    finished; so are single copies of a present set
breaking    finished
masking     finished, else brought back as if present
present     nonpersistent: deleted; persistent: surfaced again

What could not be finished, because the array was away or somebody had a file open, is taken
up again while the service runs.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import trio

from vssemu.service import breaking, deletion, importing, undo
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


async def finish_what_is_left(parts: Parts) -> None:
    """Try again, for ever, to finish what could not be finished."""
    while True:
        await trio.sleep(parts.limits.retry)
        for stored in parts.catalog.sets():
            step = _left(parts, stored)
            if step is not None and not parts.is_in_work(stored.set_id):
                with trio.move_on_after(parts.limits.recovery):
                    await undo.best(parts, f"finish_{stored.status.value}", step)


def _left(parts: Parts, stored: StoredSet) -> Callable[[], Awaitable[object]] | None:
    """Return what is to be done for a set that nobody works on, None when nothing is."""
    match stored.status:
        case SetStatus.DELETING | SetStatus.RETURNING:
            return partial(deletion.end_set, parts, stored, "tried again")
        case SetStatus.PRESENT if any(copy.is_doomed for copy in stored.copies):
            return partial(deletion.finish, parts, stored, "tried again")
        case SetStatus.BREAKING:
            return partial(_finish_breaking, parts, stored)
        case SetStatus.UNDOING if not parts.catalog.sets(SetStatus.CREATING):
            # A provider makes one set at a time, and is not to be confused by an older one's.
            return partial(undo.again, parts, stored)
    return None


async def _undo_creation(parts: Parts, stored: StoredSet) -> None:
    parts.catalog.set_status(stored.set_id, SetStatus.UNDOING)
    await undo.again(parts, stored)


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
    await deletion.finish(parts, stored, "restart")
    alive = [copy for copy in stored.copies if not copy.is_doomed]
    await parts.host.rescan()
    await parts.host.wait_arrival(destinations(alive), parts.limits.arrival / 2)
    failures: list[VssError] = []
    for copy in alive:
        try:
            shown = await surface(parts, copy)
        except VssError as error:
            # The others of the set are whole without it.
            failures.append(error)
        else:
            parts.catalog.update_copy(shown.properties)
    if failures:
        raise failures[0]


async def _finish_breaking(parts: Parts, stored: StoredSet) -> None:
    try:
        await breaking.finish(parts, stored)
    except VssError:
        # Broken it was to be, so it is not deleted; the next attempt is not far.
        parts.catalog.set_status(stored.set_id, SetStatus.BREAKING)
        raise


async def _finish_masking(parts: Parts, stored: StoredSet) -> None:
    try:
        await breaking.mask(parts, stored)
    except VssError:
        if stored.is_auto_release:
            await _end(parts, stored)
        raise


_STEPS: dict[SetStatus, Callable[[Parts, StoredSet], Awaitable[None]]] = {
    SetStatus.CREATING: _undo_creation,
    SetStatus.UNDOING: _undo_creation,
    SetStatus.IMPORTING: _undo_import,
    SetStatus.HELD: _end,
    SetStatus.RETURNING: _end,
    SetStatus.DELETING: _end,
    SetStatus.PRESENT: _bring_back,
    SetStatus.BREAKING: _finish_breaking,
    SetStatus.MASKING: _finish_masking,
}
