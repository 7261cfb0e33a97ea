"""The class that developers subclass to write a writer, in the manner of CVssWriter.

Owns the callbacks and what a writer can ask while one runs. Refuses to know connections:
`vssemu.writers.dispatch` calls the callbacks, `vssemu.writers.runner` feeds it.

A callback is a plain method, run in a thread, or an async one, and they run one at a time.
It returns None or True for success. False is fatal: the operation is aborted; set_writer_failure
says why. set_writer_failure together with True is a veto that the requester may ignore.
What a callback raises counts as set_writer_failure(NONRETRYABLE) and False.
Source: CVssWriter and its method pages.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Self
from uuid import UUID

from vssemu.vss import drives
from vssemu.vss.documents.wmdbuilder import WriterMetadataBuilder
from vssemu.vss.enums import ApplicationLevel, BackupType, SourceType, UsageType
from vssemu.vss.errors import BadState, InvalidArgument, ObjectNotFound
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import WriterId
from vssemu.vss.writer import (
    FREEZE_LIMIT_MS,
    WRITER_FAILURES,
    EventKind,
    WriterEvent,
    WriterFailure,
    WriterIdentity,
)
from vssemu.writers.components import Components

Result = bool | None | Awaitable[bool | None]
"""What a callback returns: None and True are success, False is fatal."""

_WITH_SET_ID = frozenset(
    {
        EventKind.PREPARE_SNAPSHOT,
        EventKind.FREEZE,
        EventKind.THAW,
        EventKind.POST_SNAPSHOT,
        EventKind.ABORT,
    }
)


@dataclass(kw_only=True, slots=True)
class Occasion:
    """The event that a callback is running for. Written by the dispatcher alone."""

    event: WriterEvent
    failure: WriterFailure | None = None
    is_aborted: bool = False


class Writer(ABC):
    """A writer. Subclasses give at least `writer_id` and `name` and the abstract callbacks.

    writer_id: chosen once by the developer, the same for ever. instance_name: needed when
    several instances of the class run. freeze_limit_ms: how long the writer can stand between
    Freeze and Thaw, at most 60,000. version: major and minor, for IDENTIFICATION.
    """

    writer_id: WriterId
    name: str
    instance_name: str | None = None
    usage: UsageType = UsageType.USERDATA
    source: SourceType = SourceType.OTHER
    level: ApplicationLevel = ApplicationLevel.FRONT_END
    freeze_limit_ms: int = FREEZE_LIMIT_MS
    version: tuple[int, int] = (1, 0)

    occasion: Occasion | None = None
    """Set while a callback runs; for the dispatcher."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a writer made from a TOML table; here every key is an argument.

        Raises TypeError or a VssError for a table that does not fit.
        """
        return cls(**config)

    def identity(self) -> WriterIdentity:
        """Return what the writer subscribes with. Raises InvalidArgument when it is not whole."""
        missing = [word for word in ("writer_id", "name") if not getattr(self, word, None)]
        if missing or not 0 < self.freeze_limit_ms <= FREEZE_LIMIT_MS:
            what = f"no {missing[0]}" if missing else f"freeze_limit_ms {self.freeze_limit_ms}"
            raise InvalidArgument(
                f"Initialize: {type(self).__name__} has {what}",
                hint=f"a writer has an id, a name, and a limit of 1 to {FREEZE_LIMIT_MS} ms",
                item=type(self).__name__,
            )
        return WriterIdentity(
            writer_id=self.writer_id,
            name=self.name,
            instance_name=self.instance_name,
            usage=self.usage,
            source=self.source,
            level=self.level,
            freeze_limit_ms=self.freeze_limit_ms,
        )

    # -- callbacks ---------------------------------------------------------------------------

    def on_start(self) -> Result:
        """Acquire what is needed between events; before the first subscription."""
        return None

    def on_stop(self) -> Result:
        """Release everything; the last call, also after a failure."""
        return None

    def on_identify(self, metadata: WriterMetadataBuilder) -> Result:
        """Describe components, files and restore method; keep no state."""
        return None

    def on_prepare_backup(self, components: Components | None) -> Result:
        """Start preparing. components: None when not in component mode; may be changed."""
        return None

    @abstractmethod
    def on_prepare_snapshot(self) -> Result:
        """Do all slow work; the freeze follows."""

    @abstractmethod
    def on_freeze(self) -> Result:
        """Stop writing and be consistent on disk; be quick."""

    @abstractmethod
    def on_thaw(self) -> Result:
        """Write again."""

    def on_post_snapshot(self, components: Components | None) -> Result:
        """Set stamps and clean up; the last event in which the document can be changed."""
        return None

    def on_backup_complete(self, components: Components | None) -> Result:
        """Truncate logs of components whose backup succeeded. components: read-only."""
        return None

    def on_backup_shutdown(self, set_id: UUID | None) -> Result:
        """Clean up; truncate nothing. set_id: None without a successful shadow copy."""
        return None

    @abstractmethod
    def on_abort(self) -> Result:
        """Undo Freeze and everything prepared; may come several times, at any moment."""

    # -- what a callback may ask -------------------------------------------------------------

    def set_writer_failure(
        self, hresult: Hresult, application_hresult: int = 0, message: str = ""
    ) -> None:
        """Set the failure that GatherWriterStatus shows.

        Raises InvalidArgument for a code writers may not set, BadState outside a callback and
        in on_identify. Source: CVssWriter::SetWriterFailure, CVssWriterEx2::SetWriterFailureEx.
        """
        occasion = self._occasion("SetWriterFailure")
        if occasion.event.kind is EventKind.IDENTIFY:
            raise BadState(
                "SetWriterFailure: not in OnIdentify", hint="return False to be left out"
            )
        if hresult not in WRITER_FAILURES:
            raise InvalidArgument(
                f"SetWriterFailure: {hresult} is none of a writer's codes",
                hint="give a VSS_E_WRITERERROR_* code",
                item=str(hresult),
            )
        occasion.failure = WriterFailure(
            hresult=hresult, application_hresult=application_hresult, message=message
        )

    @property
    def current_snapshot_set_id(self) -> str | None:
        """The set of PrepareSnapshot to PostSnapshot and Abort; None in other callbacks."""
        event = self._occasion("GetCurrentSnapshotSetId").event
        return event.set_id if event.kind in _WITH_SET_ID else None

    @property
    def current_volumes(self) -> tuple[str, ...]:
        """The names of the set's volumes. Source: CVssWriter::GetCurrentVolumeArray."""
        event = self._occasion("GetCurrentVolumeArray").event
        return tuple(volume.volume for volume in event.volumes)

    @property
    def context(self) -> int:
        """The set's context. Source: CVssWriter::GetContext."""
        return self._occasion("GetContext").event.context

    @property
    def backup_type(self) -> BackupType:
        """The type of the backup. Source: CVssWriter::GetBackupType."""
        return self._occasion("GetBackupType").event.backup_type

    @property
    def are_components_selected(self) -> bool:
        """True in component mode. Source: CVssWriter::AreComponentsSelected."""
        return self._occasion("AreComponentsSelected").event.select_components

    @property
    def is_bootable_system_state_backed_up(self) -> bool:
        """Source: CVssWriter::IsBootableSystemStateBackedUp."""
        return self._occasion("IsBootableSystemStateBackedUp").event.bootable_system_state

    @property
    def is_partial_file_support_enabled(self) -> bool:
        """Source: CVssWriter::IsPartialFileSupportEnabled."""
        return self._occasion("IsPartialFileSupportEnabled").event.partial_file_support

    @property
    def is_aborted(self) -> bool:
        """True once Abort has come for the operation of the running callback.

        A long plain method looks at it and returns False; an async one is cancelled.
        """
        return self._occasion("IsAborted").is_aborted

    def is_path_affected(self, path: str | PurePath) -> bool:
        r"""Tell whether a path (`F:\data` or `/mnt/F/data`) is on a volume of the set.

        True also when the set's volumes have no name that tells: a writer that stops for
        nothing loses a moment, one that does not stop loses data.
        Source: CVssWriter::IsPathAffected.
        """
        occasion = self._occasion("IsPathAffected")
        volumes = [volume.volume for volume in occasion.event.volumes]
        return drives.lies_on(path, volumes) is not False

    def get_snapshot_device_name(self, volume: str) -> str:
        """Return the device object of a volume's copy.

        Raises BadState outside PostSnapshot, ObjectNotFound for a volume that is not in the
        set or whose copy is not on this host.
        Source: CVssWriter::GetSnapshotDeviceName.
        """
        event = self._occasion("GetSnapshotDeviceName").event
        if event.kind is not EventKind.POST_SNAPSHOT:
            raise BadState(
                f"GetSnapshotDeviceName({volume}): legal in OnPostSnapshot only, not in"
                f" On{event.kind.value}",
                item=volume,
            )
        wanted = volume.rstrip("\\/").lower()
        for known in event.volumes:
            if known.device_name and known.volume.rstrip("\\/").lower() == wanted:
                return known.device_name
        raise ObjectNotFound(
            f"GetSnapshotDeviceName({volume}): no shadow copy of it is on this host",
            hint="a transportable copy is not surfaced where it was created",
            item=volume,
        )

    def _occasion(self, call: str) -> Occasion:
        if self.occasion is None:
            raise BadState(f"{call}: no event is being handled", hint="call it in a callback")
        return self.occasion
