import copy
import dataclasses
import os
import shutil
import sqlite3
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog
import trio

from tests.unit.service.doubles import InProcessProgram, MemoryArray, MemoryHost, ProviderDouble
from tests.unit.service.writerdouble import WriterDouble
from vssemu.api import registry as registry_table
from vssemu.api import requester as table
from vssemu.api.errors import decode_error, encode_error, unexpected
from vssemu.rpc import client_trio
from vssemu.rpc.caller import Caller
from vssemu.rpc.server import serve_unix
from vssemu.service import events as event_log
from vssemu.service.access import authorize
from vssemu.service.limits import Limits, ProviderLimits, WriterLimits
from vssemu.service.service import open_service
from vssemu.vss.enums import BackupType, ProviderType
from vssemu.vss.errors import VssError
from vssemu.vss.identity import ProviderId
from vssemu.vss.provider import HostIdentity

SHORT = Limits(
    hold=1.0,
    arrival=0.5,
    clean_up=15.0,
    recovery=15.0,
    stop=15.0,
    retry=0.2,
    writer=WriterLimits(
        identify=1.5,
        prepare_backup=3.0,
        prepare_snapshot=3.0,
        freeze=5.0,
        thaw=3.0,
        post_snapshot=3.0,
        abort=3.0,
        backup_complete=3.0,
        backup_shutdown=3.0,
    ),
    provider=ProviderLimits(
        start=5.0,
        begin_prepare_snapshot=1.5,
        end_prepare_snapshots=1.5,
        pre_commit_snapshots=1.5,
        commit_snapshots=10.0,
        post_commit_snapshots=1.5,
        pre_final_commit_snapshots=1.5,
        post_final_commit_snapshots=1.5,
        on_unload=1.5,
        other=1.5,
    ),
)
"""Long enough for a machine under load: only tests in which something hangs wait for them."""

PROVIDER = ProviderId(uuid4())


def admit(caller: Caller) -> None:
    """The service's own rule; whoever runs the tests is taken for root."""
    if caller.credentials.uid != os.geteuid():
        authorize(caller)


class Requester:
    """A requester over the real socket; `do_...` waits for the operation."""

    def __init__(self, client: Any, session: Any) -> None:
        self.plain = client
        self.client = client.scoped(session)
        self.session = session

    async def call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        return await self.client.call(method, *args, **kwargs)

    async def finish(self, method: Any) -> Any:
        operation = await self.client.call(method)
        return await self.client.call(table.wait, operation, None)

    async def done(self, method: Any) -> Any:
        status = await self.finish(method)
        if status.hresult & 0x80000000:
            raise decode_error(dataclasses.asdict(status))
        return status.hresult

    async def prepared(
        self, *volumes: Any, context: Any = 0x20, components: Any = (), writers: Any = True
    ) -> Any:
        """Go on to just before DoSnapshotSet; return the copies' ids."""
        await self.call(table.initialize_for_backup)
        await self.call(table.set_context, context)
        if writers:
            await self.call(table.set_backup_state, bool(components), False, BackupType.FULL)
            await self.done(table.gather_writer_metadata)
            for component in components:
                await self.call(table.add_component, **component)
        self.set_id = await self.call(table.start_snapshot_set)
        ids = [await self.call(table.add_to_snapshot_set, volume) for volume in volumes]
        if writers:
            await self.done(table.prepare_for_backup)
        return ids

    async def created(self, *volumes: Any, **options: Any) -> Any:
        ids = await self.prepared(*volumes, **options)
        await self.done(table.do_snapshot_set)
        return ids

    async def close(self) -> None:
        """Die: the connection ends without a word."""
        await self.plain.aclose()


class Node:
    """One host with its service, its provider and its socket."""

    def __init__(
        self,
        directory: Any,
        array: Any,
        name: Any,
        letters: Any,
        nursery: Any,
        limits: Any = SHORT,
    ) -> None:
        self.directory = directory
        self.array = array
        self.journal = array.journal
        self.host = MemoryHost(array, name, letters)
        self.plan: dict[str, Any] = {}
        self.nursery = nursery
        self.limits = limits
        self.path = directory / f"{name}.sock"
        self.state = directory / name
        self.provider_id = PROVIDER
        self.programs: list[Any] = []
        self.clients: list[Any] = []

    def _start(self, stored: Any) -> Any:
        plan = self.plan.setdefault(stored.properties.name, {})
        double = ProviderDouble(self.array, self.host.name, plan)
        path = self.directory / f"{self.host.name}-p{len(self.programs)}.sock"
        program = InProcessProgram(double, path, self.nursery)
        self.programs.append(program)
        return program

    async def start(self) -> None:
        self.scope = trio.CancelScope()
        await self.nursery.start(self._run)

    async def _run(self, task_status: Any) -> None:
        self.ended = trio.Event()
        try:
            with self.scope:
                async with (
                    open_service(
                        self.host,
                        state=self.state,
                        identity=HostIdentity(machine=self.host.name, initiators=()),
                        start_provider=self._start,
                        limits=self.limits,
                    ) as self.service,
                    trio.open_nursery() as nursery,
                ):
                    await nursery.start(self._serve)
                    await self._preloaded()
                    task_status.started()
        finally:
            self.ended.set()

    async def _preloaded(self) -> None:
        """Wait for the starts ahead of need: when they come must not decide a test."""
        # A task that was just started has its first step, and the lock, before this goes on.
        await trio.lowlevel.checkpoint()
        for provider in self.service.parts.providers.all():
            async with provider._loading:
                pass

    async def _serve(self, task_status: Any) -> None:
        await serve_unix(
            self.path,
            self.service.interfaces(),
            vendor="t",
            product="t",
            version="1",
            url="",
            encode_error=encode_error,
            authorize=admit,
            unexpected=unexpected,
            task_status=task_status,
        )

    async def stop(self) -> None:
        if not self.ended.is_set():
            await self.service.end_sessions()
        self.scope.cancel()
        await self.ended.wait()

    async def crash(self) -> None:
        """End the service so that its catalog, host and array are as SIGKILL would leave them."""
        kept = sqlite3.connect(self.directory / "kept.db")
        self.service.parts.catalog._db.backup(kept)
        things = ("flags", "objects", "detached", "failed")
        host = {name: copy.deepcopy(getattr(self.host, name)) for name in things}
        copies = copy.deepcopy(self.array.copies)
        self.scope.cancel()
        await self.ended.wait()
        for file in self.state.glob("vss.db*"):
            file.unlink()
        with sqlite3.connect(self.state / "vss.db") as database:
            kept.backup(database)
        kept.close()
        database.close()
        for name, value in host.items():
            setattr(self.host, name, value)
        self.array.copies = copies
        self.host.is_fresh = True

    async def connect(self) -> Any:
        return await client_trio.connect(self.path, decode_error=decode_error)

    async def register(
        self, name: Any = "array", kind: Any = ProviderType.HARDWARE, provider_id: Any = None
    ) -> None:
        async with await self.connect() as client:
            await client.call(
                registry_table.register_provider,
                provider_id or self.provider_id,
                uuid4(),
                name,
                kind,
                "1.0",
                uuid4(),
                ["program"],
                {},
            )
        await self._preloaded()

    async def requester(self) -> Any:
        client = await self.connect()
        # A client that nobody holds is closed, and its session with it.
        self.clients.append(client)
        return Requester(client, await client.call(table.open))

    async def writer(self, name: Any, **options: Any) -> Any:
        double = WriterDouble(self.journal, name, **options)
        await self.nursery.start(double.run, self.path)
        return double

    def events(self, kind: Any) -> Any:
        return [e for e in event_log.read(self.state / "events.jsonl") if e["kind"] == kind]

    async def until(self, condition: Any, seconds: Any = 5.0) -> None:
        with trio.fail_after(seconds):
            while not condition():  # noqa: ASYNC110  (any condition, of any object)
                await trio.sleep(0.01)


@pytest.fixture(autouse=True)
def plain_log() -> Any:
    """Tracebacks as the service prints them, not with all local variables."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
def short_directory() -> Any:
    # Socket addresses are 108 bytes long at most; pytest's own directories are longer.
    path = Path(tempfile.mkdtemp(prefix="vs-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def nodes(short_directory: Any) -> Any:
    array = MemoryArray()

    @asynccontextmanager
    async def running() -> Any:
        async with trio.open_nursery() as nursery:
            one = Node(short_directory, array, "systemOne", "FGH", nursery)
            two = Node(short_directory, array, "systemTwo", "", nursery)
            for node in (one, two):
                await node.start()
                await node.register()
            yield one, two
            for node in (one, two):
                await node.stop()
            nursery.cancel_scope.cancel()

    async with running() as both:
        yield both


@pytest.fixture
def one(nodes: Any) -> Any:
    return nodes[0]


@pytest.fixture
def two(nodes: Any) -> Any:
    return nodes[1]


@pytest.fixture
async def requester(one: Any) -> Any:
    return await one.requester()


def code_of(error: VssError) -> str:
    return error.hresult.name
