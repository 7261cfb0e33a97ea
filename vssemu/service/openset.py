"""A snapshot set in the making, the host's one creation slot, and the choice of providers.

AddToSnapshotSet is here: the volume's LUNs, AreLunsSupported of one provider after the other,
BeginPrepareSnapshot of the one that took it. The sequence of DoSnapshotSet is `creation`.
Source: IVssBackupComponents::AddToSnapshotSet; selecting-providers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import uuid4

from vssemu.api import provider as table
from vssemu.service.parts import Parts
from vssemu.service.providers import Provider
from vssemu.service.recording import note_volume
from vssemu.service.trace import Trace
from vssemu.vss.attributes import Attribute
from vssemu.vss.enums import ProviderType
from vssemu.vss.errors import (
    MaximumNumberOfVolumesReached,
    ObjectAlreadyExists,
    SnapshotSetInProgress,
    UnexpectedProviderError,
    VolumeNotSupported,
    VolumeNotSupportedByProvider,
    VssError,
)
from vssemu.vss.host import Volume
from vssemu.vss.identity import GUID_NULL, ProviderId, SnapshotId, SnapshotSetId
from vssemu.vss.lifecycle.provider import SetCall, SetState, after
from vssemu.vss.lun import Lun
from vssemu.vss.snapshot import MAXIMUM_VOLUMES
from vssemu.vss.steps import CreationStep


@dataclass(frozen=True, kw_only=True)
class PendingCopy:
    """A volume of the set with the provider that copies it. luns: as the provider left them."""

    snapshot_id: SnapshotId
    volume: Volume
    provider: Provider
    luns: tuple[Lun, ...]


@dataclass(kw_only=True)
class OpenSet:
    """A set between StartSnapshotSet and the end of DoSnapshotSet."""

    set_id: SnapshotSetId
    context: int
    copies: list[PendingCopy] = field(default_factory=list)
    _states: dict[ProviderId, SetState] = field(default_factory=dict)
    _starts: dict[ProviderId, int] = field(default_factory=dict)

    def providers(self) -> list[Provider]:
        """Return the set's providers, each once, in the order in which they came in."""
        return list({copy.provider.id: copy.provider for copy in self.copies}.values())

    def state(self, provider: Provider) -> SetState:
        """Return how far the set is with a provider."""
        return self._states.get(provider.id, SetState.NONE)

    def move(self, provider: Provider, call: SetCall) -> None:
        """Note a call before it is made. Raises BadState or ObjectNotFound when out of order."""
        self._states[provider.id] = after(self.state(provider), call)

    def note_begun(self, provider: Provider) -> None:
        """Note which run of a provider's program the set was begun with."""
        self._starts.setdefault(provider.id, provider.starts)

    def has_restarted(self, provider: Provider) -> bool:
        """Tell whether the program that the set was begun with has ended since."""
        return self._starts.get(provider.id, provider.starts) != provider.starts

    def close(self) -> None:
        """Let the providers go; idempotent."""
        for copy in self.copies:
            copy.provider.in_use -= 1
        self.copies = []


class CreationSlot:
    """The one creation that a host can have under way. Source: StartSnapshotSet."""

    def __init__(self) -> None:
        self._holder: str | None = None

    def take(self, holder: str) -> None:
        """Take the slot. Raises SnapshotSetInProgress."""
        if self._holder is not None:
            raise SnapshotSetInProgress(
                "StartSnapshotSet: another requester of this host is creating a set",
                hint="wait until it is done and try again",
            )
        self._holder = holder

    def free(self, holder: str) -> None:
        """Give the slot back; nothing if somebody else has it."""
        if self._holder == holder:
            self._holder = None


async def add_volume(
    parts: Parts, open_set: OpenSet, name: str, provider_id: ProviderId | None, trace: Trace
) -> SnapshotId:
    """Add a volume to the set and let its provider begin to prepare.

    provider_id: None or GUID_NULL lets VSS choose. Raises VssError; the set is then unchanged.
    """
    volume = await parts.host.volume(name)
    if any(copy.volume.guid == volume.guid for copy in open_set.copies):
        raise ObjectAlreadyExists(f"AddToSnapshotSet({name}): the volume is in the set", item=name)
    if len(open_set.copies) >= MAXIMUM_VOLUMES:
        raise MaximumNumberOfVolumesReached(
            f"AddToSnapshotSet({name}): the set has {MAXIMUM_VOLUMES} volumes",
            hint="begin another set for the rest",
            item=name,
        )
    await parts.host.check_can_hold(volume)
    async with trace.step(CreationStep.ARE_LUNS_SUPPORTED, detail=name):
        provider, luns = await choose(parts, provider_id, open_set.context, volume)
    if open_set.has_restarted(provider):
        raise UnexpectedProviderError(
            f"AddToSnapshotSet({name}): provider {provider.name} ended, and with it what it had"
            " begun of the set",
            hint="call AbortBackup and begin another set",
            item=str(provider.id),
        )
    snapshot_id = SnapshotId(uuid4())
    open_set.move(provider, SetCall.BEGIN_PREPARE)
    async with trace.step(CreationStep.BEGIN_PREPARE, detail=name):
        begun = await provider.call(
            table.begin_prepare_snapshot, open_set.set_id, snapshot_id, open_set.context, luns
        )
    open_set.note_begun(provider)
    copy = PendingCopy(
        snapshot_id=snapshot_id,
        volume=volume,
        provider=provider,
        luns=tuple(_mended(provider, luns, begun)),
    )
    open_set.copies.append(copy)
    note_volume(volume, snapshot_id, provider.name)
    provider.in_use += 1
    return snapshot_id


async def choose(
    parts: Parts, provider_id: ProviderId | None, context: int, volume: Volume
) -> tuple[Provider, list[Lun]]:
    """Return the provider that copies a volume, and the volume's LUNs as it mended them.

    Raises ProviderNotRegistered, VolumeNotSupportedByProvider (a named one refuses),
    VolumeNotSupported (nobody takes it), or what the only candidates failed with.
    """
    luns = [extents.lun for extents in volume.luns]
    if provider_id is not None and provider_id != GUID_NULL:
        provider = parts.providers.find(provider_id)
        taken = await _asked(provider, context, luns)
        if taken is None:
            raise VolumeNotSupportedByProvider(
                f"{volume.name}: provider {provider.name} does not support it with context"
                f" 0x{context:08x}",
                hint="the provider must support every LUN of the volume and every attribute",
                item=volume.name,
            )
        return provider, taken
    failure: VssError | None = None
    for provider in parts.providers.all():
        try:
            taken = await _asked(provider, context, luns)
        except VssError as error:
            failure = failure or error
            continue
        if taken is not None:
            return provider, taken
    if failure is not None:
        raise failure
    raise VolumeNotSupported(
        f"{volume.name}: no provider supports it with context 0x{context:08x}",
        hint="vssemu provider list shows the providers",
        item=volume.name,
    )


async def _asked(provider: Provider, context: int, luns: list[Lun]) -> list[Lun] | None:
    """Return the LUNs as the provider mended them, None when it refuses."""
    if not luns or not _suits(provider.type, Attribute(context)):
        return None
    answer = await provider.call(table.are_luns_supported, context, luns)
    return _mended(provider, luns, answer.luns) if answer.supported else None


def _suits(kind: ProviderType, context: Attribute) -> bool:
    """Tell whether a kind of provider may be asked at all."""
    if Attribute.CLIENT_ACCESSIBLE in context:
        return kind is ProviderType.SYSTEM
    if Attribute.TRANSPORTABLE in context:
        return kind is ProviderType.HARDWARE
    return True


def _mended(provider: Provider, luns: Sequence[Lun], answer: Sequence[Lun]) -> list[Lun]:
    """Return the provider's records with the interconnects that it may not change."""
    if len(answer) != len(luns):
        raise UnexpectedProviderError(
            f"provider {provider.name} gave {len(answer)} LUN records for {len(luns)}",
            item=str(provider.id),
        )
    return [
        replace(
            theirs,
            information=replace(theirs.information, interconnects=ours.information.interconnects),
        )
        for ours, theirs in zip(luns, answer, strict=True)
    ]
