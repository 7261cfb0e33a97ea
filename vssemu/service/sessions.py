"""Requester sessions: one IVssBackupComponents object each, tied to a connection.

A session lives as long as the connection that opened it; other connections of the same user
may name it. It runs one call that changes it at a time; one asynchronous operation at a time;
AbortBackup and Release do not wait for either. Its end, for whatever reason, is in `ending`.
"""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from vssemu.linux.credentials import PeerCredentials
from vssemu.service.openset import OpenSet
from vssemu.service.operations import Operation, Operations, Work
from vssemu.service.participants import Occasion, Participants
from vssemu.service.record import Request, code_text, short
from vssemu.service.recording import Recorder, noted, recording
from vssemu.service.trace import Trace
from vssemu.vss.attributes import Context
from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.errors import BadState, ObjectNotFound
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import SnapshotSetId
from vssemu.vss.lifecycle import requester as lifecycle
from vssemu.vss.lifecycle.requester import Call, Phase, RequesterState
from vssemu.vss.writer import WriterStatus


@dataclass(eq=False, kw_only=True)
class Session:
    """One requester object.

    uid: whose it is. trace: the steps of its backup. recorder: its trace for users. created:
    the set that it created, None before. statuses: what the last GatherWriterStatus found.
    ended: set when everything that the end brings has been done.
    """

    uid: int
    participants: Participants
    trace: Trace
    recorder: Recorder
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    state: RequesterState = field(default_factory=RequesterState)
    context: int = int(Context.BACKUP)
    document: BackupComponentsDocument = field(default_factory=BackupComponentsDocument.new)
    open_set: OpenSet | None = None
    created: SnapshotSetId | None = None
    statuses: list[WriterStatus] = field(default_factory=list)
    operation: Operation | None = None
    operations: list[Operation] = field(default_factory=list)
    turn: trio.Lock = field(default_factory=trio.Lock)
    ended: trio.Event = field(default_factory=trio.Event)
    is_ending: bool = False
    _calls: set[trio.CancelScope] = field(default_factory=set)

    def check(self, call: Call) -> None:
        """Raise BadState unless the call is legal now."""
        lifecycle.check(self.state, call)

    @asynccontextmanager
    async def calling(
        self, call: Call, about: str = "", *, without_writers: bool = False
    ) -> AsyncIterator[Request]:
        """Run one call that changes the object; when the block is left well, it has moved.

        about: its arguments, for the object's trace, whose entry the block may fill in.
        Raises BadState, also when AbortBackup or Release ended the call.
        """
        request = Request(method=call.value, arguments=short(about))
        with recording(self.recorder), noted(request):
            async with self._calling(call, without_writers=without_writers):
                yield request

    @asynccontextmanager
    async def _calling(self, call: Call, *, without_writers: bool) -> AsyncIterator[None]:
        self.check(call)
        with trio.CancelScope() as scope:
            self._calls.add(scope)
            try:
                async with self.turn:
                    self.check(call)
                    yield
                    self.state = lifecycle.after(self.state, call, without_writers=without_writers)
            finally:
                self._calls.discard(scope)
        if scope.cancelled_caught:
            raise BadState(f"{call.value}: AbortBackup or Release ended it", item=call.value)

    def begin(
        self, call: Call, work: Work, operations: Operations, nursery: trio.Nursery
    ) -> Operation:
        """Start an asynchronous call and return its operation. Raises BadState."""
        if self.turn.locked():
            raise BadState(f"{call.value}: another call of this object is under way")
        self.state = lifecycle.after(self.state, call)

        def on_end(succeeded: bool) -> None:
            self.state = lifecycle.ended(self.state, succeeded=succeeded)
            self.operation = None

        async def recorded() -> Hresult:
            with recording(self.recorder), noted(Request(method=call.value)) as request:
                result = await work()
                request.code = code_text(result)
                return result

        operation = self.operation = Operation(name=call.value, uid=self.uid)
        self.operations.append(operation)
        operations.add(operation)
        nursery.start_soon(operation.run, recorded, on_end)
        return operation

    async def interrupt(self) -> None:
        """End what runs: calls are cancelled, an operation is undone and has ended."""
        for scope in self._calls:
            scope.cancel()
        if self.operation is not None:
            await self.operation.cancel()
        async with self.turn:
            return

    def occasion(self) -> Occasion:
        """Return what writers are told outside DoSnapshotSet."""
        set_id = self.created or (None if self.open_set is None else self.open_set.set_id)
        return Occasion(
            context=self.context,
            document=self.document,
            set_id=None if set_id is None else str(set_id),
        )

    @property
    def phase(self) -> Phase:
        """How far the object is."""
        return self.state.phase


class Sessions:
    """The sessions of one service, by key."""

    def __init__(self, make: Callable[[PeerCredentials], Session]) -> None:
        self._make = make
        self._by_key: dict[str, Session] = {}

    def open(self, peer: PeerCredentials) -> Session:
        """Make a session for a process and its user."""
        session = self._make(peer)
        self._by_key[session.key] = session
        return session

    def find(self, key: str, uid: int) -> Session:
        """Return a session. Raises ObjectNotFound, also for another user's."""
        session = self._by_key.get(key)
        if session is None or session.is_ending or uid not in (0, session.uid):
            raise ObjectNotFound(
                "the session does not exist",
                hint="it ends with Release and with the connection that opened it",
                item=key,
            )
        return session

    def any(self, key: str, uid: int) -> Session | None:
        """Return a session, also one that is ending; None for one that is not there."""
        session = self._by_key.get(key)
        return session if session is not None and uid in (0, session.uid) else None

    def forget(self, session: Session) -> None:
        """Drop a session."""
        self._by_key.pop(session.key, None)

    def all(self) -> list[Session]:
        """Return all sessions."""
        return list(self._by_key.values())
