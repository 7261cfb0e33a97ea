"""The writers hub: who is subscribed, and one event to one writer with its answer.

A writer is an instance for as long as its Subscribe stream lives; its instance id is made
anew each time. Events to one instance queue; answers come on another connection and name the
event. Refuses to know backups: which writers take part, and what a failure means, is
`participants`.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from uuid import uuid4

import trio

from vssemu.service.events import EventLog
from vssemu.vss.errors import (
    InvalidArgument,
    ObjectNotFound,
    WriterAlreadySubscribed,
    WriterErrorTimeout,
    WriterNotResponding,
)
from vssemu.vss.identity import WriterInstanceId, braced
from vssemu.vss.writer import (
    FREEZE_LIMIT_MS,
    EventKind,
    WriterEvent,
    WriterFailure,
    WriterIdentity,
)

BACKLOG = 64
"""Events that may wait for a writer that does not read; more, and it counts as hung."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a writer answered. ok: False is fatal for its part. document: see the API."""

    ok: bool
    failure: WriterFailure | None = None
    document: str | None = None


@dataclass(eq=False, kw_only=True)
class _Question:
    answered: trio.Event = field(default_factory=trio.Event)
    answer: Answer | None = None


@dataclass(eq=False, kw_only=True)
class WriterInstance:
    """One running writer. uid, pid: of the process that subscribed."""

    id: WriterInstanceId
    identity: WriterIdentity
    uid: int
    pid: int
    gone: trio.Event = field(default_factory=trio.Event)
    send: trio.MemorySendChannel[WriterEvent]
    questions: dict[str, _Question] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the writer as messages name it."""
        return f"writer {self.identity.name} {braced(self.identity.writer_id)}"


Reply = Callable[[WriterEvent], Awaitable[None]]


class WriterHub:
    """The subscribed writers of this host."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._by_id: dict[WriterInstanceId, WriterInstance] = {}

    def instances(self) -> list[WriterInstance]:
        """Return the writers that are subscribed now, in the order of their subscription."""
        return list(self._by_id.values())

    async def subscribe(self, identity: WriterIdentity, uid: int, pid: int, reply: Reply) -> None:
        """Stream events to a writer until its connection ends.

        Raises InvalidArgument for an identity that is not whole, WriterAlreadySubscribed.
        """
        self._check(identity, uid, pid)
        send, receive = trio.open_memory_channel[WriterEvent](BACKLOG)
        instance = WriterInstance(
            id=WriterInstanceId(uuid4()), identity=identity, uid=uid, pid=pid, send=send
        )
        self._by_id[instance.id] = instance
        try:
            await reply(WriterEvent(event_id="", kind=EventKind.IDENTIFY, instance_id=instance.id))
            self._log.record("writer_subscribed", **_facts(instance))
            async for event in receive:
                await reply(event)
        finally:
            del self._by_id[instance.id]
            instance.gone.set()
            receive.close()
            self._log.record("writer_gone", **_facts(instance))

    def _check(self, identity: WriterIdentity, uid: int, pid: int) -> None:
        if not identity.name or not 0 < identity.freeze_limit_ms <= FREEZE_LIMIT_MS:
            raise InvalidArgument(
                f"Subscribe: name {identity.name!r}, freeze limit {identity.freeze_limit_ms} ms",
                hint=f"a writer has a name and a limit of 1 to {FREEZE_LIMIT_MS} ms",
                item=str(identity.writer_id),
            )
        for other in self._by_id.values():
            same = (other.uid, other.pid) == (uid, pid) and pid != 0
            names = (other.identity.writer_id, other.identity.instance_name)
            if same and names == (identity.writer_id, identity.instance_name):
                raise WriterAlreadySubscribed(
                    f"Subscribe: {other.describe()} of process {pid} is subscribed",
                    hint="give each instance in a process an instance name",
                    item=str(identity.writer_id),
                )

    async def ask(self, instance: WriterInstance, event: WriterEvent, limit: float) -> Answer:
        """Send an event and return the writer's answer.

        event: its event_id and deadline are filled in here. limit: seconds.
        Raises WriterErrorTimeout, WriterNotResponding when the writer is gone or went.
        """
        key = secrets.token_hex(8)
        question = instance.questions[key] = _Question()
        sent = replace(event, event_id=key, deadline_ms=max(1, int(limit * 1000)))
        try:
            instance.send.send_nowait(sent)
            with trio.fail_after(limit):
                await _first(question.answered, instance.gone)
        except trio.WouldBlock:
            raise _gone(instance, event, "it does not read its events") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise _gone(instance, event, "it is gone") from None
        except trio.TooSlowError:
            raise WriterErrorTimeout(
                f"{event.kind.value}: {instance.describe()} did not answer within {limit:g} s",
                item=str(instance.id),
            ) from None
        finally:
            del instance.questions[key]
        if question.answer is None:
            raise _gone(instance, event, "it went in the middle of the event")
        return question.answer

    def answer(self, event: str, answer: Answer, uid: int) -> None:
        """Take a writer's answer.

        Raises ObjectNotFound for an event that nobody waits for (any more) or that went to
        another user's writer.
        """
        for instance in self._by_id.values():
            question = instance.questions.get(event)
            if question is not None and uid in (0, instance.uid):
                question.answer = answer
                question.answered.set()
                return
        raise ObjectNotFound(
            "Answer: the event is not waited for", hint="its time limit has passed", item=event
        )


async def _first(*events: trio.Event) -> None:
    """Return when one of the events is set."""

    async def wait(event: trio.Event, scope: trio.CancelScope) -> None:
        await event.wait()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(wait, event, nursery.cancel_scope)


def _gone(instance: WriterInstance, event: WriterEvent, why: str) -> WriterNotResponding:
    return WriterNotResponding(
        f"{event.kind.value}: {instance.describe()}: {why}", item=str(instance.id)
    )


def _facts(instance: WriterInstance) -> dict[str, object]:
    return {
        "writer": instance.identity.name,
        "writer_id": str(instance.identity.writer_id),
        "instance_id": str(instance.id),
        "pid": instance.pid,
    }
