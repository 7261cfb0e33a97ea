"""The hardware provider protocol: what a vendor implements.

Names are those of IVssHardwareSnapshotProvider(Ex) and IVssProviderCreateSnapshotSet in
snake_case. Methods may be plain functions (the runner calls them in a thread) or async.
`abort_snapshots` may arrive while `end_prepare_snapshots` runs. A provider raises
`ProviderFailure`; whatever else leaves it becomes VSS_E_UNEXPECTED_PROVIDER_ERROR.
Source: the method pages of the two interfaces; error-handling-in-shadow-copy-providers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vssemu.vss.enums import LunStateChange
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import Initiator, SnapshotId, SnapshotSetId
from vssemu.vss.lun import Lun, LunInformation


class ProviderFailure(Exception):
    """The one exception that a provider may let out.

    hresult: one of the documented provider codes, see `hresult.PROVIDER_RETURNS`.
    event_text: what goes to the event log; VSS_E_PROVIDER_VETO obliges to give it, and it
    tells the user how to mend the matter.
    """

    def __init__(self, hresult: Hresult, event_text: str) -> None:
        super().__init__(f"{hresult}: {event_text}")
        self.hresult = hresult
        self.event_text = event_text


@dataclass(frozen=True, kw_only=True, slots=True)
class HostIdentity:
    """The machine that a provider works for, and its names in the fabric."""

    machine: str
    initiators: tuple[Initiator, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Supported:
    """Answer to AreLunsSupported and FillInLunInfo: the verdict and the mended records."""

    supported: bool
    luns: tuple[Lun, ...]


class HardwareProvider(Protocol):
    """A hardware provider. LUN-level calls carry their records and are legal at any time."""

    def on_load(self, host: HostIdentity, config: Mapping[str, str]) -> None: ...
    def on_unload(self, *, force: bool) -> bool:
        """True: idle, unload. False is allowed only when not forced."""
        ...

    def are_luns_supported(self, context: int, luns: Sequence[Lun]) -> Supported: ...
    def begin_prepare_snapshot(
        self, set_id: SnapshotSetId, snapshot_id: SnapshotId, context: int, luns: Sequence[Lun]
    ) -> Sequence[Lun]: ...
    def end_prepare_snapshots(self, set_id: SnapshotSetId) -> None: ...
    def pre_commit_snapshots(self, set_id: SnapshotSetId) -> None: ...
    def commit_snapshots(self, set_id: SnapshotSetId) -> None: ...
    def post_commit_snapshots(self, set_id: SnapshotSetId, count: int) -> None: ...
    def pre_final_commit_snapshots(self, set_id: SnapshotSetId) -> None: ...
    def post_final_commit_snapshots(self, set_id: SnapshotSetId) -> None: ...
    def abort_snapshots(self, set_id: SnapshotSetId) -> None: ...
    def get_target_luns(self, sources: Sequence[Lun]) -> Sequence[LunInformation]:
        """One record per source, in order, of the set committed last."""
        ...

    def locate_luns(self, luns: Sequence[LunInformation]) -> None: ...
    def fill_in_lun_info(self, lun: Lun) -> Supported: ...
    def on_lun_empty(self, lun: Lun) -> None: ...
    def on_lun_state_change(
        self,
        snapshots: Sequence[LunInformation],
        originals: Sequence[LunInformation],
        flags: LunStateChange,
    ) -> None: ...
    def resync_luns(
        self,
        sources: Sequence[LunInformation],
        targets: Sequence[LunInformation],
        progress: Callable[[int], None],
    ) -> None: ...
