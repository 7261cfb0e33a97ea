"""Providers as real processes: socket activation, overlapping calls, crashes, hangs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio

from vssemu.api import provider as table
from vssemu.service.catalog import Catalog, StoredProvider
from vssemu.service.events import EventLog, read
from vssemu.service.limits import ProviderLimits
from vssemu.service.providers import ProviderHub, socket_activation
from vssemu.vss.enums import ProviderType
from vssemu.vss.errors import UnexpectedProviderError
from vssemu.vss.identity import ProviderId, SnapshotSetId
from vssemu.vss.provider import HostIdentity
from vssemu.vss.snapshot import ProviderProperties

PROGRAM = Path(__file__).with_name("provider_program.py")
SET = SnapshotSetId(uuid4())


@pytest.fixture
async def start(short_directory: Any) -> Any:
    """Give a function that registers the program and returns its Provider."""
    catalog = Catalog(short_directory / "vss.db")
    root = Path(__file__).parents[3]
    async with trio.open_nursery() as nursery:
        hub = ProviderHub(
            catalog,
            host=HostIdentity(machine="systemOne", initiators=()),
            start=socket_activation(short_directory, {"PYTHONPATH": str(root)}),
            limits=ProviderLimits(commit_snapshots=0.5, start=20.0),
            log=EventLog(short_directory / "events.jsonl"),
            nursery=nursery,
        )

        def make(way: Any, command: Any = (sys.executable, str(PROGRAM))) -> Any:
            properties = ProviderProperties(
                provider_id=ProviderId(uuid4()),
                name=way,
                type=ProviderType.HARDWARE,
                version="1",
                version_id=uuid4(),
                class_id=uuid4(),
            )
            hub.register(
                StoredProvider(properties=properties, command=tuple(command), config={"way": way})
            )
            return hub.find(properties.provider_id)

        yield make
        await hub.close()
        nursery.cancel_scope.cancel()
    catalog.close()


def is_running(pid: Any) -> Any:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_program_is_started_at_the_first_call_and_ended_at_the_unload(start: Any) -> None:
    provider = start("well")
    assert not provider._program
    await provider.call(table.commit_snapshots, SET)
    pid = provider._program.pid
    assert is_running(pid)
    assert not await provider.unload(force=False)
    assert is_running(pid)
    assert await provider.unload(force=True)
    assert not is_running(pid)


async def test_abort_reaches_the_program_while_end_prepare_runs(start: Any) -> None:
    provider = start("well")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(provider.call, table.end_prepare_snapshots, SET)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.fail_after(20):
            await provider.call(table.abort_snapshots, SET)
        nursery.cancel_scope.cancel()
    await provider.call(table.commit_snapshots, SET)


@pytest.mark.parametrize("way", ["crash", "hang"])
async def test_a_program_that_crashes_or_hangs_is_gone_and_another_one_answers_next(
    start: Any, short_directory: Any, way: Any
) -> None:
    provider = start(way)
    await provider.call(table.pre_commit_snapshots, SET)
    first = provider._program.pid
    with pytest.raises(UnexpectedProviderError, match="CommitSnapshots"):
        await provider.call(table.commit_snapshots, SET)
    with trio.fail_after(5):
        await until(lambda: not is_running(first))
    await provider.call(table.pre_commit_snapshots, SET)
    assert provider._program.pid != first
    (event,) = [e for e in read(short_directory / "events.jsonl") if e["kind"] == "provider_error"]
    assert (event["method"], event["provider"]) == ("CommitSnapshots", way)


@pytest.mark.parametrize("command", [("/nonexistent/provider",), ("/bin/false",)])
async def test_a_command_that_does_not_serve_is_an_error_with_the_providers_name(
    start: Any, command: Any
) -> None:
    provider = start("absent", command)
    with pytest.raises(UnexpectedProviderError, match="absent"):
        await provider.call(table.commit_snapshots, SET)


async def test_a_program_dies_with_the_service_that_started_it(short_directory: Any) -> None:
    code = (
        "import os, socket, sys\n"
        "from pathlib import Path\n"
        "from vssemu.service import runner\n"
        "made = runner.spawn(['/bin/sleep', '60'], Path(sys.argv[1]), {}, 'sleeper')\n"
        "print(made.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(short_directory / "p.sock")]
    starter = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert starter.stdout
    said = b""
    with trio.fail_after(20):
        # What it logs comes before, and perhaps alone.
        while not (numbers := [line for line in said.split(b"\n")[:-1] if line.isdigit()]):
            said += await starter.stdout.receive_some()
        pid = int(numbers[0])
        await until(lambda: name_of(pid) == "sleep")
        starter.kill()
        await starter.wait()
        await until(lambda: name_of(pid) in ("", "dead"))


def name_of(pid: int) -> str:
    """The program that a process runs; `dead` for a zombie, empty when it is gone."""
    try:
        before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except FileNotFoundError:
        return ""
    return "dead" if after.split()[0] in "ZX" else before.partition("(")[2]


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110  (a process has no event here)
        await trio.sleep(0.01)
