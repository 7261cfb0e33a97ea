"""A writer on the service's socket: subscribe, serve events, come back after a restart.

One connection streams events, a second one carries the answers. Owns the duty that no writer
stays stopped: whatever ends the link between Freeze and Thaw (the service dies, this process
is told to leave, the freeze limit passes) makes the writer's on_abort run here.

    waiting for the service --> subscribed --connection lost--> waiting for the service
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import structlog
import trio

from vssemu.api import writer as api
from vssemu.api.blocking import VSS_SOCKET
from vssemu.api.errors import decode_error
from vssemu.rpc.client_trio import Client, connect
from vssemu.rpc.errors import RpcBroken, RpcError
from vssemu.vss.errors import VssError, WriterAlreadySubscribed
from vssemu.vss.hresult import Hresult
from vssemu.vss.writer import EventKind, WriterEvent, WriterFailure
from vssemu.writers.base import Writer
from vssemu.writers.dispatch import Dispatcher, Outcome, call

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
"""Seconds between attempts to reach the service; each failure doubles the pause."""

ABORT_SECONDS: Final = 30.0
"""How long on_abort may take when the link is lost."""

_LAST_OF_OPERATION: Final = frozenset({EventKind.THAW, EventKind.POST_SNAPSHOT})


async def run_writer(
    writer: Writer,
    *,
    socket_path: str | Path = VSS_SOCKET,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Take part in the backups of this host until cancelled; started when subscribed.

    A service that is not there is waited for, one that goes away is looked for again.
    Raises the VssError with which the service refuses the writer for good, and
    InvalidArgument for a writer without identity. Cancelled between Freeze and Thaw, it runs
    on_abort first.
    """
    runner = _Runner(writer, Path(socket_path))
    writer.identity()
    await call(writer.on_start)
    try:
        await runner.run(task_status)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + ABORT_SECONDS):
            await runner.abort_if_stopped("the writer is leaving")
            await call(writer.on_stop)


class _Runner:
    """One writer through all its subscriptions."""

    def __init__(self, writer: Writer, path: Path) -> None:
        self._writer = writer
        self._path = path
        self._dispatcher = Dispatcher(writer)
        self._last: WriterEvent | None = None
        self._freeze_ends: float | None = None
        self._is_expired = False
        self._log = logger.bind(writer=writer.name)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Subscribe, again and again, until cancelled or refused."""
        pause = FIRST_PAUSE
        is_started = False
        while True:
            try:
                async with self._subscribed() as (first, stream, answers):
                    self._log.info("writer_subscribed", instance=str(first.instance_id))
                    pause = FIRST_PAUSE
                    if not is_started:
                        is_started = True
                        task_status.started()
                    await self._serve(stream, answers)
                self._log.info("subscription_ended")
            except (OSError, RpcError, WriterAlreadySubscribed) as error:
                self._log.info("service_not_reached", error=str(error), retry_seconds=pause)
            await self.abort_if_stopped("the service is gone")
            await trio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    @contextlib.asynccontextmanager
    async def _subscribed(
        self,
    ) -> AsyncIterator[tuple[WriterEvent, AsyncIterator[WriterEvent], Client]]:
        async with (
            await connect(self._path, decode_error=decode_error) as events,
            await connect(self._path, decode_error=decode_error) as answers,
            events.stream(api.subscribe, self._writer.identity()) as stream,
        ):
            async for first in stream:
                yield first, stream, answers
                return
            raise RpcBroken("the service ended the subscription at once")

    async def _serve(self, stream: AsyncIterator[WriterEvent], answers: Client) -> None:
        """Serve one subscription; raises what ended it, returns when the stream ended."""
        send, receive = trio.open_memory_channel[WriterEvent](float("inf"))
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._work, receive, answers)
            try:
                async for event in stream:
                    if event.kind is EventKind.ABORT:
                        self._dispatcher.abort_running()
                    send.send_nowait(event)
            except (OSError, RpcError) as error:
                failure = error
            except VssError as error:
                self._log.warning("subscription_refused", error=str(error))
            # The service is gone, so nobody waits for what is still running.
            self._dispatcher.abort_running()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _work(self, events: trio.MemoryReceiveChannel[WriterEvent], answers: Client) -> None:
        while True:
            event = await self._next(events)
            if event is None:
                await self._expire()
                continue
            outcome = await self._outcome(event)
            if event.event_id:
                await self._answer(answers, event, outcome)

    async def _next(self, events: trio.MemoryReceiveChannel[WriterEvent]) -> WriterEvent | None:
        """Return the next event, None when the freeze limit passes first."""
        with trio.CancelScope(deadline=self._freeze_ends or float("inf")):
            return await events.receive()
        return None

    async def _outcome(self, event: WriterEvent) -> Outcome:
        self._last = event
        if self._is_expired and event.kind in _LAST_OF_OPERATION:
            return Outcome(ok=False, failure=self._timeout())
        self._is_expired = self._is_expired and event.kind is EventKind.IDENTIFY
        if event.kind is EventKind.FREEZE:
            limit = min(self._writer.freeze_limit_ms / 1000, 60.0)
            self._freeze_ends = trio.current_time() + limit
        outcome = await self._dispatcher.deliver(event)
        if not self._dispatcher.is_stopped:
            self._freeze_ends = None
        self._log.debug("event_served", kind=event.kind.value, ok=outcome.ok)
        return outcome

    async def _answer(self, answers: Client, event: WriterEvent, outcome: Outcome) -> None:
        try:
            await answers.call(
                api.answer,
                event=event.event_id,
                ok=outcome.ok,
                failure=outcome.failure,
                document=outcome.document,
            )
        except VssError as error:
            self._log.warning("answer_refused", kind=event.kind.value, error=str(error))
        except (OSError, RpcError) as error:
            # The event stream ends too, and that is what ends the subscription.
            self._log.info("answer_lost", kind=event.kind.value, error=str(error))

    async def _expire(self) -> None:
        self._freeze_ends = None
        self._is_expired = True
        await self.abort_if_stopped(f"no Thaw within {self._writer.freeze_limit_ms} ms")

    async def abort_if_stopped(self, why: str) -> None:
        """Run on_abort unless the writer is moving."""
        self._freeze_ends = None
        if not self._dispatcher.is_stopped or self._last is None:
            return
        self._log.warning("writer_released", why=why)
        event = WriterEvent(
            event_id="",
            kind=EventKind.ABORT,
            instance_id=self._last.instance_id,
            set_id=self._last.set_id,
            context=self._last.context,
            volumes=self._last.volumes,
            deadline_ms=round(ABORT_SECONDS * 1000),
        )
        await self._dispatcher.deliver(event)

    def _timeout(self) -> WriterFailure:
        return WriterFailure(
            hresult=Hresult.VSS_E_WRITERERROR_TIMEOUT,
            message=f"no Thaw within {self._writer.freeze_limit_ms} ms; the writer went on",
        )
