"""From an event to a callback to an answer: one event at a time, no connection.

Owns the border where what a writer's code raises becomes a writer failure, and the moment at
which a running callback is told that its operation was aborted. The state that outlives an
event is one bit: whether the writer may be stopped, from the start of Freeze to the end of
Thaw or Abort.

    moving --Freeze begins--> stopped --Thaw went well, or Abort--> moving
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
import trio

from vssemu.vss.documents.wmdbuilder import WriterMetadataBuilder
from vssemu.vss.errors import VssError
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import parse_guid
from vssemu.vss.writer import WRITER_FAILURES, EventKind, WriterEvent, WriterFailure
from vssemu.writers.base import Occasion, Writer
from vssemu.writers.components import Components

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_WRITES_DOCUMENT = frozenset({EventKind.PREPARE_BACKUP, EventKind.POST_SNAPSHOT})


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one event came to: the arguments of an answer."""

    ok: bool
    failure: WriterFailure | None = None
    document: str | None = None


async def call(callback: Callable[..., Any], *arguments: object) -> Any:
    """Run a callback, a plain one in a thread, and return what it returns."""
    if inspect.iscoroutinefunction(callback):
        return await callback(*arguments)
    result = await trio.to_thread.run_sync(callback, *arguments)
    return await result if inspect.isawaitable(result) else result


class Dispatcher:
    """Runs a writer's callbacks."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._turn = trio.Lock()
        self._running: trio.CancelScope | None = None
        self.is_stopped = False

    async def deliver(self, event: WriterEvent) -> Outcome:
        """Run the event's callback within its deadline and return the answer.

        Never raises for what the writer does. A plain callback that overstays its deadline
        is waited for, for a thread cannot be stopped; an async one is cancelled.
        """
        async with self._turn:
            occasion = Occasion(event=event)
            if event.kind is EventKind.FREEZE:
                self.is_stopped = True
            with trio.move_on_after(event.deadline_ms / 1000) as scope:
                self._writer.occasion, self._running = occasion, scope
                try:
                    outcome = await self._guarded(occasion)
                finally:
                    self._writer.occasion = self._running = None
            if scope.cancelled_caught:
                outcome = _cancelled(occasion)
            if event.kind is EventKind.ABORT or (event.kind is EventKind.THAW and outcome.ok):
                self.is_stopped = False
            return outcome

    def abort_running(self) -> None:
        """Tell the running callback, if there is one, that its operation was aborted."""
        occasion = self._writer.occasion
        if occasion is None or self._running is None or occasion.event.kind is EventKind.ABORT:
            return
        occasion.is_aborted = True
        self._running.cancel()

    async def _guarded(self, occasion: Occasion) -> Outcome:
        kind = occasion.event.kind
        try:
            ok, document = await self._callback(occasion.event)
        except Exception as error:  # a writer's code may raise whatever it likes
            logger.exception("writer_callback_failed", writer=self._writer.name, kind=kind.value)
            return Outcome(ok=False, failure=_failure_of(error))
        failure = occasion.failure
        if not ok and failure is None:
            failure = WriterFailure(
                hresult=Hresult.VSS_E_WRITERERROR_NONRETRYABLE,
                message=f"On{kind.value} refused without a reason",
            )
        return Outcome(ok=ok, failure=failure, document=document)

    async def _callback(self, event: WriterEvent) -> tuple[bool, str | None]:
        """Return whether the callback went well, and the document to answer with."""
        writer = self._writer
        if event.kind is EventKind.IDENTIFY:
            return await self._identify(event)
        if event.kind is EventKind.BACKUP_SHUTDOWN:
            set_id = None if event.set_id is None else parse_guid(event.set_id)
            return await call(writer.on_backup_shutdown, set_id) is not False, None
        if event.kind in _WITH_COMPONENTS:
            return await self._with_components(event)
        plain: dict[EventKind, Callable[..., Any]] = {
            EventKind.PREPARE_SNAPSHOT: writer.on_prepare_snapshot,
            EventKind.FREEZE: writer.on_freeze,
            EventKind.THAW: writer.on_thaw,
            EventKind.ABORT: writer.on_abort,
        }
        return await call(plain[event.kind]) is not False, None

    async def _identify(self, event: WriterEvent) -> tuple[bool, str | None]:
        writer = self._writer
        major, minor = writer.version
        builder = WriterMetadataBuilder(
            writer_id=writer.writer_id,
            instance_id=event.instance_id,
            name=writer.name,
            usage=writer.usage,
            source=writer.source,
            instance_name=writer.instance_name,
            major_version=major,
            minor_version=minor,
        )
        if await call(writer.on_identify, builder) is False:
            return False, None
        return True, builder.document().to_xml()

    async def _with_components(self, event: WriterEvent) -> tuple[bool, str | None]:
        components = None
        if event.document is not None:
            components = Components(
                event.document,
                event.instance_id,
                is_read_only=event.kind not in _WRITES_DOCUMENT,
            )
        ok = await call(getattr(self._writer, _WITH_COMPONENTS[event.kind]), components)
        return ok is not False, None if components is None else components.changed()


_WITH_COMPONENTS = {
    EventKind.PREPARE_BACKUP: "on_prepare_backup",
    EventKind.POST_SNAPSHOT: "on_post_snapshot",
    EventKind.BACKUP_COMPLETE: "on_backup_complete",
}


def _failure_of(error: Exception) -> WriterFailure:
    if isinstance(error, VssError) and error.hresult in WRITER_FAILURES:
        return WriterFailure(hresult=error.hresult, message=error.fact)
    return WriterFailure(
        hresult=Hresult.VSS_E_WRITERERROR_NONRETRYABLE,
        message=f"{type(error).__name__}: {error}",
    )


def _cancelled(occasion: Occasion) -> Outcome:
    kind = occasion.event.kind.value
    if occasion.is_aborted:
        return Outcome(
            ok=False,
            failure=WriterFailure(
                hresult=Hresult.VSS_E_WRITERERROR_RETRYABLE,
                message=f"On{kind} was ended by Abort",
            ),
        )
    return Outcome(
        ok=False,
        failure=WriterFailure(
            hresult=Hresult.VSS_E_WRITERERROR_TIMEOUT,
            message=f"On{kind} did not end within {occasion.event.deadline_ms} ms",
        ),
    )
