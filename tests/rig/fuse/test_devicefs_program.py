"""The devicefs program against a service on a real socket, also while that restarts."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.rig.fuse.rig import PATIENCE, RawDevice, Rig
from tests.rig.fuse.service import mount_tree, unmount_tree
from vssemu.api.device_objects import CopyList, DeviceObject, device_objects
from vssemu.api.errors import encode_error
from vssemu.rpc.caller import Caller
from vssemu.rpc.server import serve_unix
from vssemu.vss.errors import ObjectNotFound


class Service:
    """The service's half of io.vssemu.DeviceObjects."""

    def __init__(self, mountpoint: Path, *copies: DeviceObject) -> None:
        self.mountpoint = mountpoint
        self.copies = list(copies)
        self.settled_revisions: list[int] = []
        self.surfaced: list[int] = []
        self._changed = trio.Event()
        self._revisions = itertools.count(time.time_ns())
        self.revision = next(self._revisions)

    def publish(self, *copies: DeviceObject) -> None:
        self.copies = list(copies)
        self.revision = next(self._revisions)
        self._changed.set()
        self._changed = trio.Event()

    async def watch(self, caller: Caller, reply: Callable[[CopyList], Awaitable[None]]) -> None:
        while True:
            changed = self._changed
            latest = CopyList(revision=self.revision, server_pid=os.getpid(), copies=self.copies)
            await reply(latest)
            await changed.wait()

    async def surface(self, caller: Caller, number: int) -> None:
        self.surfaced.append(number)
        facts = next((each for each in self.copies if each.number == number), None)
        if facts is None or not facts.raw_major:
            raise ObjectNotFound(f"no tree for copy {number}")
        await trio.to_thread.run_sync(mount_tree, self.directory(number), facts.raw_minor)

    def directory(self, number: int) -> Path:
        return self.mountpoint / "Device" / f"HarddiskVolumeShadowCopy{number}"

    async def settled(self, caller: Caller, revision: int) -> None:
        listed = {each.number for each in self.copies}
        for number in set(self.surfaced) - listed:
            await trio.to_thread.run_sync(unmount_tree, self.directory(number))
        self.settled_revisions.append(revision)

    async def wait_settled(self) -> None:
        await wait_for(lambda: self.revision in self.settled_revisions)


@asynccontextmanager
async def listening(service: Service, path: Path) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(
                serve_unix, path, {device_objects: service}, vendor="v", product="p",
                version="1", url="http://localhost", encode_error=encode_error,
            )
        )  # fmt: skip
        yield
        nursery.cancel_scope.cancel()


class Program:
    def __init__(self, rig: Rig) -> None:
        self.socket = rig.directory / "vss.sock"
        self.log = rig.directory / "program.log"
        command = [sys.executable, "-m", "vssemu_fuse.devicefs", "--mountpoint", rig.mountpoint]
        command += ["--socket", self.socket, "--group", "no-such-group"]
        with self.log.open("ab") as file:
            self.process = subprocess.Popen([str(each) for each in command], stderr=file)

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await trio.to_thread.run_sync(self.process.wait, PATIENCE)


@pytest.fixture
async def program(rig: Rig) -> AsyncIterator[Program]:
    program = Program(rig)
    try:
        yield program
    finally:
        with trio.CancelScope(shield=True):
            await program.end(signal.SIGKILL)


def facts(raw: RawDevice, number: int = 1) -> DeviceObject:
    return DeviceObject(**raw.facts(number))


async def read_hello(rig: Rig, number: int = 1) -> str:
    """Return what a process that is not the service reads, or the complaint."""
    path = rig.path("Device", number) / "hello.txt"
    done = await trio.run_process(
        ["cat", path], capture_stdout=True, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode()


async def wait_for(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  # nobody could set an event
            await trio.sleep(0.005)


async def test_the_program_serves_what_the_service_lists(
    rig: Rig, raw: RawDevice, program: Program
) -> None:
    service = Service(rig.mountpoint, facts(raw))
    async with listening(service, program.socket):
        await service.wait_settled()
        assert await read_hello(rig) == "hello\n"
        service.publish()
        await service.wait_settled()
        assert not rig.mounts("ext4")
        assert service.surfaced == [1]
        assert await program.end(signal.SIGTERM) == 0
    assert not rig.mounts()


async def test_names_outlive_the_service_and_a_look_up_waits_for_the_next_one(
    rig: Rig, raw: RawDevice, program: Program
) -> None:
    other = rig.raw_device("other")
    service = Service(rig.mountpoint, facts(raw, 1), facts(other, 2))
    async with listening(service, program.socket):
        await service.wait_settled()
        assert await read_hello(rig, 1) == "hello\n"
    assert len(await trio.to_thread.run_sync(os.listdir, rig.mountpoint / "Image")) == 2
    assert await read_hello(rig, 1) == "hello\n"
    seen: list[str] = []

    async def look() -> None:
        seen.append(await read_hello(rig, 2))

    successor = Service(rig.mountpoint, facts(raw, 1), facts(other, 2))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            async with listening(successor, program.socket):
                await successor.wait_settled()
                await wait_for(lambda: bool(seen))
    assert seen == ["hello\n"]
    assert successor.surfaced == [2]


async def test_a_reason_of_the_service_reaches_the_log_and_the_walker(
    rig: Rig, raw: RawDevice, program: Program
) -> None:
    broken = DeviceObject(number=3, size=4096, raw_major=0, raw_minor=0, properties="{}")
    service = Service(rig.mountpoint, broken)
    async with listening(service, program.socket):
        await service.wait_settled()
        assert "Input/output error" in await read_hello(rig, 3)
    assert "no tree for copy 3" in program.log.read_text()


async def test_the_program_replaces_its_killed_predecessor(
    rig: Rig, raw: RawDevice, program: Program
) -> None:
    service = Service(rig.mountpoint, facts(raw))
    async with listening(service, program.socket):
        await service.wait_settled()
        assert await read_hello(rig) == "hello\n"
        await program.end(signal.SIGKILL)
        service.publish(facts(raw))
        successor = Program(rig)
        try:
            await service.wait_settled()
            assert await read_hello(rig) == "hello\n"
        finally:
            assert await successor.end(signal.SIGTERM) == 0
        assert service.surfaced == [1, 1]


def test_a_mount_point_that_cannot_be_is_one_line(rig: Rig) -> None:
    (rig.directory / "file").touch()
    command = [sys.executable, "-m", "vssemu_fuse.devicefs", "--group", "root", "--mountpoint"]
    done = subprocess.run(
        [*command, rig.directory / "file" / "x"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"devicefs: [Errno 20] Not a directory: '{rig.directory}/file/x'\n"
