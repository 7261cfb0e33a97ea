"""Breaking a set: VSS forgets it, its LUNs stay on this host as plain ones, or leave it.

Only for imported sets of hardware providers. Afterwards releasing any interface deletes
nothing of it. Masked LUNs are deleted nowhere: the array has the copies as they were before
the import, so the set's document imports them again.

Masking is done or it is not: LUNs that a provider does not mask come back with their device
objects. What the end of the process cut off is finished at the next start, and a requester
that leaves meanwhile changes nothing.
Source: breaking-shadow-copies; IVssBackupComponents::BreakSnapshotSet;
IVssBackupComponentsEx2::BreakSnapshotSetEx; VSS_HARDWARE_OPTIONS; OnLunStateChange.
"""

from typing import Final

import trio

from vssemu.api import provider as table
from vssemu.service import copies, undo
from vssemu.service.arrival import Arrival, bring_in, destinations, surface
from vssemu.service.catalog import SetStatus, StoredCopy, StoredSet
from vssemu.service.parts import Parts
from vssemu.service.trace import Trace
from vssemu.vss.enums import HardwareOptions, LunStateChange, ProviderType
from vssemu.vss.errors import (
    BadState,
    InvalidArgument,
    NotSupportedHere,
    ProviderVeto,
    VssError,
    error_for,
)
from vssemu.vss.identity import ProviderId, SnapshotSetId, braced
from vssemu.vss.steps import BREAK, BreakStep

_PLAIN: Final = "BreakSnapshotSet"
_EX: Final = "BreakSnapshotSetEx"

_LEGAL: Final = frozenset(
    {
        HardwareOptions.NONE,
        HardwareOptions.MASK_LUNS,
        HardwareOptions.MAKE_READ_WRITE,
        HardwareOptions.REVERT_IDENTITY_NONE,
        HardwareOptions.MAKE_READ_WRITE | HardwareOptions.REVERT_IDENTITY_NONE,
    }
)
_REVERTING: Final = frozenset(
    {
        HardwareOptions.REVERT_IDENTITY_ALL,
        HardwareOptions.REVERT_IDENTITY_ALL | HardwareOptions.MAKE_READ_WRITE,
    }
)


async def break_snapshot_set(
    parts: Parts, set_id: SnapshotSetId, not_imported: SnapshotSetId | None
) -> None:
    """Break a set.

    not_imported: the transportable set that the caller's own document describes, or None.
    Raises ObjectNotFound, BadState (not imported), ProviderVeto (a software copy).
    """
    stored = _breakable(parts, set_id, not_imported, _PLAIN)
    with trio.CancelScope(shield=True):
        await finish(parts, stored)


async def break_snapshot_set_ex(
    parts: Parts,
    set_id: SnapshotSetId,
    not_imported: SnapshotSetId | None,
    flags: HardwareOptions,
) -> None:
    """Break a set with options; identities stay those of the copies.

    Once it has begun it goes to its end, a cancelled call too. Raises as `break_snapshot_set`,
    InvalidArgument for flags that do not go together, NotSupportedHere for
    REVERT_IDENTITY_ALL, and what host and provider raise; the fact says how the set is left.
    """
    _check(set_id, flags)
    stored = _breakable(parts, set_id, not_imported, _EX)
    with trio.CancelScope(shield=True):
        if flags & HardwareOptions.MASK_LUNS:
            await mask(parts, stored)
            return
        await finish(parts, stored)
        if flags & HardwareOptions.MAKE_READ_WRITE:
            await _make_read_write(parts, stored)


async def finish(parts: Parts, stored: StoredSet) -> None:
    """Break a set, or finish a break that was cut off.

    Raises VssError; those copies that are not broken are shadow copies as before.
    """
    trace = _trace(parts, stored)
    parts.catalog.set_status(stored.set_id, SetStatus.BREAKING)
    with parts.working_on(stored.set_id):
        try:
            for copy in stored.copies:
                async with trace.step(BreakStep.RELEASE):
                    await parts.host.release(copy.id)
                async with trace.step(BreakStep.FORGET):
                    parts.catalog.remove_copy(copy.id)
                _log(parts, stored, copy, "shadow_copy_broken")
        except VssError:
            parts.catalog.set_status(stored.set_id, SetStatus.PRESENT)
            raise


def _trace(parts: Parts, stored: StoredSet) -> Trace:
    return Trace(name=BREAK, set_id=str(stored.set_id), faults=parts.faults)


async def mask(parts: Parts, stored: StoredSet) -> None:
    """Take the LUNs of a set off this host, in the array too, and forget the set.

    Called again after it was cut off, it is finished. Raises VssError; the set is as it was.
    """
    trace = _trace(parts, stored)
    parts.catalog.set_status(stored.set_id, SetStatus.MASKING)
    try:
        # Device objects go with their LUNs but are remembered, until it is sure.
        async with trace.step(BreakStep.TAKE_OFF):
            await parts.host.remove(destinations(stored.copies))
        async with trace.step(BreakStep.MASK):
            await _tell(parts, stored, LunStateChange.DO_MASK_LUNS)
    except VssError as error:
        await undo.best(parts, "put_back", lambda: _put_back(parts, stored, trace))
        parts.catalog.set_status(stored.set_id, SetStatus.PRESENT)
        raise _restated(stored, error, "the set stays on this host as it was") from error
    async with trace.step(BreakStep.FORGET_MASKED):
        for copy in stored.copies:
            await _forget_object(parts, copy)
        parts.catalog.remove_set(stored.set_id)
    for copy in stored.copies:
        _log(parts, stored, copy, "shadow_copy_masked")


async def _forget_object(parts: Parts, copy: StoredCopy) -> None:
    await undo.best(parts, "retire", lambda: parts.host.retire(copy.id))


async def _put_back(parts: Parts, stored: StoredSet, trace: Trace) -> None:
    """Bring the LUNs of a set back that could not be masked, those too that were."""
    known = await parts.host.wait_arrival(destinations(stored.copies), 0.0)
    here = {lun.information.naa for lun in known}
    gone = [c for c in stored.copies if any(m.destination.naa not in here for m in c.luns)]
    result = Arrival()
    if gone:
        await bring_in(parts, gone, trace, result)
    for copy in stored.copies:
        if copy not in gone:
            result.present.append(await surface(parts, copy))
    for shown in result.present:
        parts.catalog.update_copy(shown.properties)
    for _, error in result.missing:
        raise error


async def _make_read_write(parts: Parts, stored: StoredSet) -> None:
    trace = _trace(parts, stored)
    try:
        async with trace.step(BreakStep.MAKE_READ_WRITE):
            for copy in stored.copies:
                await parts.host.make_read_write(copy.id)
    except VssError as error:
        raise _restated(stored, error, "the set is broken, not all of it is writable") from error
    try:
        async with trace.step(BreakStep.NOTIFY_READ_WRITE):
            await _tell(parts, stored, LunStateChange.NOTIFY_READ_WRITE)
    except VssError as error:
        raise _restated(stored, error, "the set is broken and can be written") from error


async def _tell(parts: Parts, stored: StoredSet, change: LunStateChange) -> None:
    """Send OnLunStateChange to each provider of a set, for all its LUNs."""
    by_provider: dict[ProviderId, list[StoredCopy]] = {}
    for copy in stored.copies:
        by_provider.setdefault(copy.properties.provider_id, []).append(copy)
    for provider_id, theirs in by_provider.items():
        originals = {m.destination: m.source for copy in theirs for m in copy.luns}
        await parts.providers.find(provider_id).call(
            table.on_lun_state_change, list(originals), list(originals.values()), change
        )


def _check(set_id: SnapshotSetId, flags: HardwareOptions) -> None:
    if flags in _REVERTING:
        raise NotSupportedHere(
            f"{_EX}({braced(set_id)}): the originals' disk and partition GUIDs cannot be given"
            " to the copies here",
            hint="leave REVERT_IDENTITY_ALL out; the LUNs keep identities of their own",
            item=str(set_id),
        )
    if flags not in _LEGAL:
        raise InvalidArgument(
            f"{_EX}({braced(set_id)}): the flags 0x{int(flags):x} do not go together",
            hint="MASK_LUNS goes alone, REVERT_IDENTITY_ALL and _NONE exclude each other",
            item=f"0x{int(flags):x}",
        )


def _breakable(
    parts: Parts, set_id: SnapshotSetId, not_imported: SnapshotSetId | None, call: str
) -> StoredSet:
    found = parts.catalog.find_set(set_id)
    if not_imported == set_id and (found is None or not found.copies[0].properties.device_object):
        raise BadState(
            f"{call}({braced(set_id)}): the set was not imported on this host",
            hint="import it first",
            item=str(set_id),
        )
    stored = copies.find_set(parts.catalog, set_id, call)
    for copy in stored.copies:
        provider = parts.providers.find(copy.properties.provider_id)
        if provider.type is not ProviderType.HARDWARE:
            raise ProviderVeto(
                f"{call}({braced(set_id)}): shadow copy {braced(copy.id)} is a software copy",
                hint="only hardware shadow copies can be broken",
                item=str(copy.id),
            )
    return stored


def _restated(stored: StoredSet, error: VssError, outcome: str) -> VssError:
    """Return an error of the same code that says how the set is left."""
    fact = f"{_EX}({braced(stored.set_id)}): {error.fact}; {outcome}"
    return error_for(error.hresult, fact, hint=error.hint, item=error.item)


def _log(parts: Parts, stored: StoredSet, copy: StoredCopy, event: str) -> None:
    parts.log.record(
        event,
        set_id=str(stored.set_id),
        snapshot_id=str(copy.id),
        device_object=copy.properties.device_object,
    )
