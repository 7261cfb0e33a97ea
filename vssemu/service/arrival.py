"""Bringing shadow copies to this host: LocateLuns, rescan, FillInLunInfo, match, surface.

Used by the import of a document and by the end of a creation that is not transportable.
Refuses to clean up: what arrived and could not be used is told to the caller.
Source: importing-transportable-shadow-copied-volumes; GetTargetLuns, FillInLunInfo.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from vssemu.api import provider as table
from vssemu.service import copies
from vssemu.service.catalog import StoredCopy
from vssemu.service.parts import Parts
from vssemu.service.together import all_of
from vssemu.service.trace import Trace
from vssemu.vss.errors import MissingDisk, VssError
from vssemu.vss.host import CopyToSurface
from vssemu.vss.identity import ProviderId
from vssemu.vss.lun import Lun, LunInformation, is_same_lun
from vssemu.vss.steps import ArrivalStep


@dataclass(kw_only=True)
class Arrival:
    """What came of it. present: surfaced copies; missing: the others, each with its reason."""

    present: list[StoredCopy] = field(default_factory=list)
    missing: list[tuple[StoredCopy, VssError]] = field(default_factory=list)


def destinations(stored: Sequence[StoredCopy]) -> list[LunInformation]:
    """Return the LUNs on which copies lie, each once."""
    return list(dict.fromkeys(m.destination for copy in stored for m in copy.luns))


async def bring_in(
    parts: Parts, stored: Sequence[StoredCopy], trace: Trace, result: Arrival
) -> None:
    """Bring copies to this host; what succeeded is noted in `result` as it happens.

    Raises VssError when a provider refuses LocateLuns or the host fails as a whole; a copy
    that alone is missing is in `result.missing`.
    """
    expected = destinations(stored)
    async with trace.step(ArrivalStep.LOCATE_LUNS):
        await _locate(parts, stored)
    async with trace.step(ArrivalStep.RESCAN):
        await parts.host.rescan()
    async with trace.step(ArrivalStep.WAIT_ARRIVAL) as step:
        arrived = await parts.host.wait_arrival(expected, parts.limits.arrival)
        step.detail = f"{len(arrived)} of {len(expected)} LUNs"
    async with trace.step(ArrivalStep.FILL_IN_LUN_INFO):
        owners = _owners(stored)
        found = await all_of([_filled(parts, lun, owners) for lun in arrived])
        here = dict(_matched(expected, found))
    async with trace.step(ArrivalStep.GIVE_NEW_IDENTITY):
        await parts.host.give_new_identity(list(here.values()))
    async with trace.step(ArrivalStep.SURFACE):
        for copy in stored:
            await _surface_one(parts, copy, here, result)


async def _locate(parts: Parts, stored: Sequence[StoredCopy]) -> None:
    by_provider: dict[ProviderId, list[StoredCopy]] = {}
    for copy in stored:
        by_provider.setdefault(copy.properties.provider_id, []).append(copy)
    for provider_id, theirs in by_provider.items():
        provider = parts.providers.find(provider_id)
        await provider.call(table.locate_luns, destinations(theirs))


def _owners(stored: Sequence[StoredCopy]) -> list[tuple[LunInformation, ProviderId]]:
    return [(m.destination, copy.properties.provider_id) for copy in stored for m in copy.luns]


def _filled(
    parts: Parts, lun: Lun, owners: Sequence[tuple[LunInformation, ProviderId]]
) -> "_FillIn":
    likely = [owner for record, owner in owners if record.naa == lun.information.naa]
    return _FillIn(parts, lun, likely[0] if likely else owners[0][1])


@dataclass(frozen=True)
class _FillIn:
    """FillInLunInfo for one arrived LUN; its return code is ignored, as the documents say."""

    parts: Parts
    lun: Lun
    provider_id: ProviderId

    async def __call__(self) -> Lun | None:
        try:
            provider = self.parts.providers.find(self.provider_id)
            answer = await provider.call(table.fill_in_lun_info, self.lun)
        except VssError:
            return self.lun
        return answer.luns[0] if answer.supported and answer.luns else None


def _matched(
    expected: Sequence[LunInformation], found: Sequence[Lun | None]
) -> list[tuple[LunInformation, Lun]]:
    return [
        (record, lun)
        for record in expected
        for lun in found
        if lun is not None and is_same_lun(record, lun.information)
    ]


async def _surface_one(
    parts: Parts, copy: StoredCopy, here: dict[LunInformation, Lun], result: Arrival
) -> None:
    absent = [m.destination for m in copy.luns if m.destination not in here]
    if absent:
        error = MissingDisk(
            f"shadow copy {copy.id}: LUN {absent[0].describe()} did not arrive as its record"
            " describes it",
            hint="is it masked from this host, or was it imported elsewhere?",
            item=absent[0].describe(),
        )
        result.missing.append((copy, error))
        return
    try:
        result.present.append(await surface(parts, copy))
    except VssError as error:
        result.missing.append((copy, error))


async def surface(parts: Parts, copy: StoredCopy) -> StoredCopy:
    """Make the device object of a copy whose LUNs are here; return the copy with it."""
    device = await parts.host.surface(
        CopyToSurface(
            snapshot_id=copy.id,
            luns=tuple(m.destination for m in copy.luns),
            extents=tuple(m.extents for m in copy.luns),
            properties_json=copies.properties_json(copy.properties),
        )
    )
    shown = copies.surfaced(copy, device)
    await parts.host.update_properties(copy.id, copies.properties_json(shown.properties))
    return shown
