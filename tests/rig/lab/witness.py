"""A writer inside the test's own process: it notes its events, and stops in them when told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

import trio

from tests.rig.lab.labrig import Rig
from vssemu.vss.documents.wmdbuilder import WriterMetadataBuilder
from vssemu.vss.documents.writer import ComponentInfo, FileSpec
from vssemu.vss.enums import ComponentType
from vssemu.vss.identity import WriterId
from vssemu.writers.base import Writer
from vssemu.writers.components import Components
from vssemu.writers.runner import run_writer

GATE_SECONDS: Final = 40.0


@dataclass(frozen=True)
class Gate:
    """A point at which the writer waits: `reached` tells the test, `go` lets it go on."""

    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def wait_reached(self) -> None:
        assert self.reached.wait(GATE_SECONDS), "the writer did not come to this event"


class Witness(Writer):
    """Notes the name of each event; has one component with the files in F:\\data."""

    name = "Witness"

    def __init__(self) -> None:
        self.writer_id = WriterId(uuid4())
        self.events: list[str] = []
        self.gates: dict[str, Gate] = {}
        self.succeeded: list[bool | None] = []

    def stop_at(self, event: str) -> Gate:
        self.gates[event] = Gate()
        return self.gates[event]

    def _note(self, event: str) -> None:
        self.events.append(event)
        gate = self.gates.pop(event, None)
        if gate is not None:
            gate.reached.set()
            gate.go.wait(GATE_SECONDS)

    def on_identify(self, metadata: WriterMetadataBuilder) -> None:
        self._note("identify")
        metadata.add_component(
            ComponentInfo(
                component_type=ComponentType.FILEGROUP,
                logical_path=None,
                name="data",
                selectable=True,
                file_sets=(FileSpec(path="F:\\data", filespec="*", recursive=True),),
            )
        )

    def on_prepare_backup(self, components: Components | None) -> None:
        self._note("prepare backup")

    def on_prepare_snapshot(self) -> None:
        self._note("prepare snapshot")

    def on_freeze(self) -> None:
        self._note("freeze")

    def on_thaw(self) -> None:
        self._note("thaw")

    def on_post_snapshot(self, components: Components | None) -> None:
        self._note("post snapshot")

    def on_backup_complete(self, components: Components | None) -> None:
        self.succeeded = [one.backup_succeeded for one in components or ()]
        self._note("backup complete")

    def on_backup_shutdown(self, set_id: UUID | None) -> None:
        self._note("backup shutdown")

    def on_abort(self) -> None:
        self._note("abort")


@contextmanager
def attending(rig: Rig, host: str, writer: Writer) -> Iterator[None]:
    """Have a writer take part in the backups of a host during the block."""
    ready = threading.Event()
    failed: list[BaseException] = []
    scope = trio.CancelScope()
    tokens: list[trio.lowlevel.TrioToken] = []
    path = rig.path(host, "/run/vssemu/vss.sock")

    async def main() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        with scope:
            async with trio.open_nursery() as nursery:

                async def serve(*, task_status: trio.TaskStatus[None]) -> None:
                    await run_writer(writer, socket_path=path, task_status=task_status)

                await nursery.start(serve)
                ready.set()

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as error:  # noqa: BLE001 - handed to the test below
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(30), "the writer was not subscribed"
        if failed:
            raise failed[0]
        yield
    finally:
        if isinstance(writer, Witness):
            for gate in list(writer.gates.values()):
                gate.go.set()
        tokens[0].run_sync_soon(scope.cancel)
        thread.join(60)
    if failed:
        raise failed[0]
