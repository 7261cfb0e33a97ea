"""A writer over the real socket: streams its events, answers by plan."""

from contextlib import suppress
from typing import Any
from uuid import uuid4

import trio

from vssemu.api import writer as table
from vssemu.api.errors import decode_error
from vssemu.rpc import client_trio
from vssemu.rpc.errors import RpcError
from vssemu.vss.enums import ApplicationLevel, ComponentType
from vssemu.vss.errors import ObjectNotFound
from vssemu.vss.identity import WriterId
from vssemu.vss.writer import EventKind, WriterFailure, WriterIdentity

METADATA = (
    '<WRITER_METADATA xmlns="x-schema:#VssWriterMetadataInfo" version="1.2" backupSchema="0">'
    '<IDENTIFICATION writerId="{writer}" instanceId="{instance}" friendlyName="{name}"'
    ' usage="USER_DATA" dataSource="OTHER" majorVersion="1" minorVersion="0"/>'
    '<BACKUP_LOCATIONS><FILE_GROUP componentName="files" selectable="yes"'
    ' selectableForRestore="no"><FILE_LIST path="F:\\data" filespec="*" recursive="yes"/>'
    "</FILE_GROUP></BACKUP_LOCATIONS>"
    '<RESTORE_METHOD method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="never"'
    ' rebootRequired="no"/></WRITER_METADATA>'
)


class WriterDouble:
    """plan: EventKind to `hang`, `die`, a WriterFailure (veto), (WriterFailure,) for a fatal
    one, or an async function that returns the document to answer with."""

    def __init__(
        self,
        journal: Any,
        name: Any,
        level: Any = ApplicationLevel.FRONT_END,
        freeze_limit_ms: Any = 60_000,
        plan: Any = None,
    ) -> None:
        self.journal = journal
        self.plan = plan or {}
        self.scope = trio.CancelScope()
        self.subscribed = trio.Event()
        self.events: list[Any] = []
        self.identity = WriterIdentity(
            writer_id=WriterId(uuid4()),
            name=name,
            instance_name=name,
            level=level,
            freeze_limit_ms=freeze_limit_ms,
        )

    @property
    def kinds(self) -> Any:
        return [event.kind.value for event in self.events]

    @property
    def instance_id(self) -> Any:
        return self.first.instance_id

    def component(self) -> Any:
        return {
            "instance_id": self.instance_id,
            "writer_id": self.identity.writer_id,
            "component_type": ComponentType.FILEGROUP,
            "logical_path": None,
            "component_name": "files",
        }

    async def run(self, path: Any, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        with self.scope:
            async with (
                await client_trio.connect(path, decode_error=decode_error) as events,
                await client_trio.connect(path, decode_error=decode_error) as answers,
                trio.open_nursery() as nursery,
                events.stream(table.subscribe, writer=self.identity) as stream,
            ):
                self.first = await anext(stream)
                self.subscribed.set()
                task_status.started()
                with suppress(RpcError):
                    async for event in stream:
                        self.events.append(event)
                        self.journal.append(f"{self.identity.name}: {event.kind.value}")
                        nursery.start_soon(self._answer, answers, event)
                nursery.cancel_scope.cancel()

    async def _answer(self, client: Any, event: Any) -> None:
        action = self.plan.get(event.kind)
        ok, failure, document = True, None, None
        if action == "hang":
            return
        if action == "die":
            self.scope.cancel()
            return
        if isinstance(action, WriterFailure):
            failure = action
        elif isinstance(action, tuple):
            ok, failure = False, action[0]
        elif action is not None:
            document = await action(event)
        if event.kind is EventKind.IDENTIFY and document is None:
            document = METADATA.format(
                writer=self.identity.writer_id,
                instance=self.instance_id,
                name=self.identity.name,
            )
        with suppress(RpcError, ObjectNotFound):
            await client.call(
                table.answer, event=event.event_id, ok=ok, failure=failure, document=document
            )
