"""A writer that misbehaves on demand: any writer, with a fault point at each event.

    vssemu writer faulty docs=/mnt/F/docs
    vssemu fault set writer freeze --code VSS_E_WRITERERROR_RETRYABLE

Before each callback stands the point of its event, after it `NAME.after`, where the work is
done and only the answer is not. A `code` is what a well-behaved writer does that cannot go on:
it sets the failure and refuses, which ends the operation. Everything else is misbehaviour.

Configuration: wraps, the writer (package.module:Class), by default the one for files, then
under a name and an id of its own; label: its points are `writer:LABEL` instead of `writer`,
which tells several apart; faults: the directory, by default that of the host. All other keys
are those of the wrapped writer.
"""

import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

from vssemu.faults import HOST_DIRECTORY, FaultPoints
from vssemu.vss.documents.wmdbuilder import WriterMetadataBuilder
from vssemu.vss.errors import InvalidArgument, VssError
from vssemu.vss.identity import WriterId
from vssemu.vss.writer import EventKind
from vssemu.writers.base import Writer
from vssemu.writers.components import Components
from vssemu.writers.dispatch import call
from vssemu.writers.files import FilesWriter

WRITER_ID: Final = WriterId(UUID("6c1d7f02-95d4-4a0f-8f43-2e7b6a90c1d8"))
NAME: Final = "Faulty Writer"


class FaultyWriter(Writer):
    """A writer whose events go to another one, past fault points. It has its identity."""

    def __init__(self, wrapped: Writer, faults: FaultPoints) -> None:
        self._wrapped = wrapped
        self._faults = faults
        self.writer_id = wrapped.writer_id
        self.name = wrapped.name
        self.instance_name = wrapped.instance_name
        self.usage = wrapped.usage
        self.source = wrapped.source
        self.level = wrapped.level
        self.freeze_limit_ms = wrapped.freeze_limit_ms
        self.version = wrapped.version

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a writer made from a TOML table; its keys stand in the module.

        Raises InvalidArgument when `wraps` is no writer, and what the wrapped writer raises.
        """
        table = dict(config)
        directory = Path(table.pop("faults", HOST_DIRECTORY))
        label = table.pop("label", None)
        name = table.pop("wraps", None)
        kind = FilesWriter if name is None else _class_of(name)
        if name is None:
            table.setdefault("writer_id", str(WRITER_ID))
        wrapped = kind.from_config(table)
        if name is None:
            wrapped.name = NAME
        return cls(wrapped, FaultPoints(directory, f"writer:{label}" if label else "writer"))

    async def on_start(self) -> None:
        """Start the wrapped writer."""
        await call(self._wrapped.on_start)

    async def on_stop(self) -> None:
        """Stop the wrapped writer."""
        await call(self._wrapped.on_stop)

    async def on_identify(self, metadata: WriterMetadataBuilder) -> bool:
        """Identify, between its points."""
        return await self._between_points("identify", metadata)

    async def on_prepare_backup(self, components: Components | None) -> bool:
        """PrepareBackup, between its points."""
        return await self._between_points("prepare_backup", components)

    async def on_prepare_snapshot(self) -> bool:
        """PrepareSnapshot, between its points."""
        return await self._between_points("prepare_snapshot")

    async def on_freeze(self) -> bool:
        """Freeze, between its points."""
        return await self._between_points("freeze")

    async def on_thaw(self) -> bool:
        """Thaw, between its points."""
        return await self._between_points("thaw")

    async def on_post_snapshot(self, components: Components | None) -> bool:
        """PostSnapshot, between its points."""
        return await self._between_points("post_snapshot", components)

    async def on_abort(self) -> bool:
        """Abort, between its points."""
        return await self._between_points("abort")

    async def on_backup_complete(self, components: Components | None) -> bool:
        """BackupComplete, between its points."""
        return await self._between_points("backup_complete", components)

    async def on_backup_shutdown(self, set_id: UUID | None) -> bool:
        """BackupShutdown, between its points."""
        return await self._between_points("backup_shutdown", set_id)

    async def _between_points(self, event: str, *arguments: object) -> bool:
        self._wrapped.occasion = self.occasion
        try:
            if not await self._is_passed(event):
                return False
            callback = getattr(self._wrapped, f"on_{event}")
            is_well = await call(callback, *arguments) is not False
            return await self._is_passed(f"{event}.after") and is_well
        finally:
            self._wrapped.occasion = None

    async def _is_passed(self, point: str) -> bool:
        """Tell whether to go on; without, the failure is set."""
        try:
            await self._faults.reach(point)
        except VssError as error:
            # In Identify there is nothing to set: False leaves the writer out.
            if self.occasion is not None and self.occasion.event.kind is not EventKind.IDENTIFY:
                self.set_writer_failure(error.hresult, message=error.fact)
            return False
        return True


def _class_of(name: str) -> type[Writer]:
    try:
        found = pkgutil.resolve_name(name)
    except Exception as error:  # a module may raise anything while it is imported
        raise _refused(name, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, type) or not issubclass(found, Writer):
        raise _refused(name, "it is no writer")
    return found


def _refused(name: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"wraps {name!r}: {why}", hint="give package.module:Class", item=name)
