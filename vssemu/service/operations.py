"""Asynchronous operations (IVssAsync): how they run, end, are waited for and cancelled.

An operation belongs to its session and runs in the service's nursery, so that it outlives
the connection that started it. A session runs one at a time.
Source: IVssAsync::Wait, QueryStatus, Cancel.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
import trio

from vssemu.api.requester import OperationStatus
from vssemu.service.together import ungrouped
from vssemu.vss.errors import ObjectNotFound, Unexpected, VssError
from vssemu.vss.hresult import Hresult

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Work = Callable[[], Awaitable[Hresult]]
"""What an operation does: returns VSS_S_ASYNC_FINISHED or another success code, or raises."""

PENDING = OperationStatus(hresult=Hresult.VSS_S_ASYNC_PENDING)
CANCELLED = OperationStatus(hresult=Hresult.VSS_S_ASYNC_CANCELLED)


@dataclass(eq=False, kw_only=True)
class Operation:
    """One operation. name: the Windows name of the method that made it; uid: whose it is."""

    name: str
    uid: int
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    status: OperationStatus = PENDING
    ended: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def run(self, work: Work, on_end: Callable[[bool], None]) -> None:
        """Run the work to its end; `on_end` is told whether it succeeded."""
        status = CANCELLED
        try:
            status = await self._outcome(work)
        finally:
            self.status = status
            on_end(not status.hresult & 0x8000_0000 and not self.is_cancelled)
            self.ended.set()

    async def _outcome(self, work: Work) -> OperationStatus:
        try:
            # A failure of the work may meet the cancellation in one group: the scope takes its
            # part out of that, and what is left is the outcome.
            with ungrouped(), self.scope:
                return OperationStatus(hresult=await work())
        except VssError as error:
            return _failed(error)
        except Exception as error:
            logger.exception("operation_failed_unexpectedly", operation=self.name)
            text = f"{self.name}: {type(error).__name__}: {error}"
            return _failed(Unexpected(text, hint="the service's log has the details"))
        return CANCELLED

    @property
    def is_cancelled(self) -> bool:
        """Whether it ended by Cancel."""
        return self.status.hresult == Hresult.VSS_S_ASYNC_CANCELLED

    async def wait(self, timeout_ms: int | None) -> OperationStatus:
        """Return the status as soon as it has ended, or after the time, still pending."""
        seconds = float("inf") if timeout_ms is None or timeout_ms < 0 else timeout_ms / 1000
        with trio.move_on_after(seconds):
            await self.ended.wait()
        return self.status

    async def cancel(self) -> OperationStatus:
        """End it: S_OK when this call did so, else how it had ended before."""
        if self.ended.is_set():
            return self.status
        self.scope.cancel()
        await self.ended.wait()
        return OperationStatus(hresult=Hresult.S_OK) if self.is_cancelled else self.status


def _failed(error: VssError) -> OperationStatus:
    return OperationStatus(
        hresult=error.hresult, fact=error.fact, hint=error.hint, item=error.item
    )


class Operations:
    """The operations of all sessions, by key."""

    def __init__(self) -> None:
        self._by_key: dict[str, Operation] = {}

    def add(self, operation: Operation) -> None:
        """Keep an operation until it is forgotten with its session."""
        self._by_key[operation.key] = operation

    def forget(self, operation: Operation) -> None:
        """Drop an operation; its key names nothing any more."""
        self._by_key.pop(operation.key, None)

    def find(self, key: str, uid: int) -> Operation:
        """Return the operation of that key. Raises ObjectNotFound, also for another user's."""
        operation = self._by_key.get(key)
        if operation is None or uid not in (0, operation.uid):
            raise ObjectNotFound(
                "the operation does not exist",
                hint="it ends with the session that began it",
                item=key,
            )
        return operation
