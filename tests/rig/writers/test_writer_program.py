"""A writer as a program: its configuration, and its end while it holds a database."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.rig.writers.load import Load, Volume
from tests.unit.writers.test_writer_runner import Service
from vssemu.vss.writer import EventKind, SnapshotVolume

COMMAND = (sys.executable, "-m", "vssemu.daemons.writer_runner")


@pytest.mark.parametrize("journal_mode", ["wal"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_writer_program_that_is_ended_while_frozen_lets_the_application_go_on(
    volume: Volume, load: Load, scratch: Path, number: signal.Signals
) -> None:
    config = scratch / "writer.toml"
    config.write_text(f'databases = ["{load.database}"]\ninstance_name = "orders"\n')
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            service = Service(scratch / "vss.sock")
            await nursery.start(service.run)
            options = ["--config", str(config), "--socket", str(service.path)]
            run = partial(
                trio.run_process,
                [*COMMAND, "vssemu.writers.sqlite:SqliteWriter", *options],
                check=False,
            )
            process = await nursery.start(run)
            await service.subscribed.wait()
            assert service.identities[0].instance_name == "orders"
            volumes = (SnapshotVolume(volume=volume.name),)
            assert (await service.ask(EventKind.FREEZE, volumes=volumes))[0]
            await trio.sleep(0.3)
            held = load.drain()
            assert load.drain(timeout=0.3) <= held + 1
            os.kill(process.pid, number)
            await process.wait()
            assert process.returncode == (0 if number is signal.SIGTERM else -number)
            await trio.to_thread.run_sync(load.wait_for, 20)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "there is no colon"),
        (["json:JSONDecoder"], "is no writer"),
        (["vssemu.writers.sqlite:SqliteWriter"], "no database"),
        (["vssemu.writers.files:FilesWriter", "--config", "/nonexistent.toml"], "nonexistent"),
    ],
)
def test_a_program_that_cannot_run_says_why_in_one_line(arguments: list[str], said: str) -> None:
    ended = subprocess.run([*COMMAND, *arguments], check=False, capture_output=True, text=True)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
