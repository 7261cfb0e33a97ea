"""The runner against a small service that speaks the writers' real interface."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.unit.writers.writer_support import INSTANCE_ID, RecordingWriter, event
from vssemu.api import writer as api
from vssemu.api.errors import encode_error, unexpected
from vssemu.rpc.server import serve_unix
from vssemu.vss.errors import AccessDenied, ObjectNotFound
from vssemu.vss.hresult import Hresult
from vssemu.vss.writer import EventKind, WriterEvent
from vssemu.writers.runner import run_writer


class Service:
    """Sends events to the one writer that subscribes, and keeps its answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identities: list[Any] = []
        self.subscribed = trio.Event()
        self.refusal: Exception | None = None
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self._questions: dict[str, Any] = {}

    async def subscribe(self, caller: Any, writer: RecordingWriter, reply: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.identities.append(writer)
        self._send, receive = trio.open_memory_channel(64)
        await reply(WriterEvent(event_id="", kind=EventKind.IDENTIFY, instance_id=INSTANCE_ID))
        self.subscribed.set()
        async for each in receive:
            await reply(each)

    async def answer(self, caller: Any, event: Any, ok: Any, failure: Any, document: Any) -> None:
        if event not in self._questions:
            raise ObjectNotFound("nobody waits for it")
        self._questions.pop(event).send_nowait((ok, failure, document))

    def post(self, kind: EventKind, **changes: Any) -> Any:
        """Send an event and return where its answer comes."""
        made = event(kind, **changes)
        send, receive = trio.open_memory_channel(1)
        self._questions[made.event_id] = send
        self._send.send_nowait(made)
        return receive

    async def ask(self, kind: EventKind, **changes: Any) -> Any:
        return await self.post(kind, **changes).receive()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self.scope:
            await serve_unix(
                self.path,
                {api.writer: self},
                vendor="test",
                product="service",
                version="1",
                url="",
                encode_error=encode_error,
                unexpected=unexpected,
                task_status=task_status,
            )
        self.ended.set()


@pytest.fixture
async def service(tmp_path: Path, nursery: trio.Nursery) -> Any:
    made = Service(tmp_path / "vss.sock")
    await nursery.start(made.run)
    return made


@pytest.fixture
async def running(service: Service, writer: RecordingWriter, nursery: trio.Nursery) -> Any:
    """The writer, subscribed; the scope ends it."""
    scope = trio.CancelScope()

    async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with scope:
            await run_writer(writer, socket_path=service.path, task_status=task_status)

    await nursery.start(run)
    return scope


async def until(condition: Any) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - the writer has no event for it
            await trio.sleep(0.01)


async def test_a_writer_subscribes_with_its_identity_and_answers(
    service: Service, writer: RecordingWriter, running: trio.CancelScope
) -> None:
    (identity,) = service.identities
    assert (identity.writer_id, identity.name) == (writer.writer_id, "Recording Writer")
    ok, failure, document = await service.ask(EventKind.IDENTIFY)
    assert (ok, failure) == (True, None)
    assert "things" in document


async def test_events_are_served_one_at_a_time_in_order(
    service: Service, writer: RecordingWriter, running: trio.CancelScope
) -> None:
    kinds = [EventKind.PREPARE_SNAPSHOT, EventKind.FREEZE, EventKind.THAW]
    answers = [service.post(kind) for kind in kinds]
    for answer in answers:
        assert (await answer.receive())[0]
    assert writer.seen == ["start", "prepare_snapshot", "freeze", "thaw"]


async def test_an_exception_is_a_failure_and_the_writer_lives(
    service: Service, writer: RecordingWriter, running: trio.CancelScope
) -> None:
    def broken() -> None:
        raise RuntimeError("oops")

    writer.answers["freeze"] = broken
    ok, failure, _ = await service.ask(EventKind.FREEZE)
    assert not ok
    assert failure.hresult is Hresult.VSS_E_WRITERERROR_NONRETRYABLE
    assert (await service.ask(EventKind.IDENTIFY))[0]


async def test_abort_reaches_a_writer_whose_callback_still_runs(
    service: Service, nursery: trio.Nursery
) -> None:
    class Slow(RecordingWriter):
        async def on_freeze(self) -> None:
            self.seen.append("freeze")
            await trio.sleep_forever()

    slow = Slow()
    await nursery.start(partial(run_writer, slow, socket_path=service.path))
    frozen = service.post(EventKind.FREEZE)
    await until(lambda: "freeze" in slow.seen)
    with trio.fail_after(5):
        ok, _, _ = await service.ask(EventKind.ABORT)
        assert ok
        ok, failure, _ = await frozen.receive()
    assert not ok
    assert failure.hresult is Hresult.VSS_E_WRITERERROR_RETRYABLE
    assert slow.seen == ["start", "freeze", "abort"]


async def test_a_service_that_dies_between_freeze_and_thaw_releases_the_writer(
    service: Service, writer: RecordingWriter, running: trio.CancelScope, nursery: trio.Nursery
) -> None:
    await service.ask(EventKind.FREEZE)
    service.scope.cancel()
    await until(lambda: "abort" in writer.seen)
    await service.ended.wait()
    again = Service(service.path)
    await nursery.start(again.run)
    with trio.fail_after(5):
        await again.subscribed.wait()
    assert (await again.ask(EventKind.IDENTIFY))[0]
    assert writer.seen == ["start", "freeze", "abort", "identify"]


async def test_a_service_that_dies_at_rest_aborts_nothing(
    service: Service, writer: RecordingWriter, running: trio.CancelScope, nursery: trio.Nursery
) -> None:
    await service.ask(EventKind.FREEZE)
    await service.ask(EventKind.THAW)
    service.scope.cancel()
    await service.ended.wait()
    again = Service(service.path)
    await nursery.start(again.run)
    with trio.fail_after(5):
        await again.subscribed.wait()
    assert writer.seen == ["start", "freeze", "thaw"]


async def test_leaving_between_freeze_and_thaw_releases_the_writer(
    service: Service, writer: RecordingWriter, running: trio.CancelScope
) -> None:
    await service.ask(EventKind.FREEZE)
    running.cancel()
    await until(lambda: "stop" in writer.seen)
    assert writer.seen == ["start", "freeze", "abort", "stop"]


async def test_leaving_at_rest_aborts_nothing(
    service: Service, writer: RecordingWriter, running: trio.CancelScope
) -> None:
    running.cancel()
    await until(lambda: "stop" in writer.seen)
    assert writer.seen == ["start", "stop"]


async def test_a_freeze_without_a_thaw_ends_at_the_writers_limit(
    service: Service, writer: RecordingWriter, running: trio.CancelScope
) -> None:
    writer.freeze_limit_ms = 200
    await service.ask(EventKind.FREEZE)
    await until(lambda: "abort" in writer.seen)
    ok, failure, _ = await service.ask(EventKind.THAW)
    assert not ok
    assert failure.hresult is Hresult.VSS_E_WRITERERROR_TIMEOUT
    assert "200 ms" in failure.message
    assert "thaw" not in writer.seen
    assert (await service.ask(EventKind.ABORT))[0]
    assert (await service.ask(EventKind.FREEZE))[0]
    assert (await service.ask(EventKind.THAW))[0]


async def test_a_service_that_comes_later_is_waited_for(
    tmp_path: Path, writer: RecordingWriter, nursery: trio.Nursery
) -> None:
    started = trio.Event()
    path = tmp_path / "late.sock"

    async def run() -> None:
        await nursery.start(partial(run_writer, writer, socket_path=path))
        started.set()

    nursery.start_soon(run)
    await until(lambda: "start" in writer.seen)
    late = Service(path)
    await nursery.start(late.run)
    with trio.fail_after(5):
        await started.wait()
    assert late.identities


async def test_a_writer_that_is_refused_ends_with_the_reason(
    service: Service, writer: RecordingWriter
) -> None:
    service.refusal = AccessDenied("not for you")
    with pytest.raises(AccessDenied, match="not for you"):
        await run_writer(writer, socket_path=service.path)
    assert writer.seen == ["start", "stop"]


async def test_an_answer_that_comes_too_late_ends_nothing(
    service: Service, writer: RecordingWriter, running: trio.CancelScope
) -> None:
    late = replace(event(EventKind.PREPARE_SNAPSHOT), event_id="nobody-waits")
    service._send.send_nowait(late)
    assert (await service.ask(EventKind.IDENTIFY))[0]
