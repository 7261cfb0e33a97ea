"""A volume of its own, and a process that writes to a database on it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.writers.load import Load, Volume
from vssemu.writers.sqlite import SqliteWriter

SCRATCH = Path("/tmp/writers")
Protect = Callable[..., SqliteWriter]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this directory needs root."""
    if os.geteuid() != 0:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skipif(True, reason="needs root"))


@pytest.fixture
def scratch() -> Iterator[Path]:
    directory = SCRATCH / str(os.getpid())
    directory.mkdir(parents=True)
    yield directory
    shutil.rmtree(directory)
    if not any(SCRATCH.iterdir()):
        SCRATCH.rmdir()


@pytest.fixture
def volume(scratch: Path) -> Iterator[Volume]:
    """An ext4 on a loop device, mounted."""
    image, root = scratch / "volume.img", scratch / "volume"
    with image.open("xb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", image], check=True)
    root.mkdir()
    subprocess.run(["mount", "-o", "loop", image, root], check=True)
    yield Volume(image=image, root=root)
    subprocess.run(["umount", root], check=True)


@pytest.fixture
def protect(volume: Volume) -> Iterator[Protect]:
    """Makes writers for a database; their connections are closed before the volume goes."""
    made: list[SqliteWriter] = []

    def one(database: Path, **options: Any) -> SqliteWriter:
        made.append(SqliteWriter([str(database)], **options))
        return made[-1]

    yield one
    for writer in made:
        writer.close()


@pytest.fixture(params=["wal", "delete"])
def journal_mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


@pytest.fixture
def load(volume: Volume, journal_mode: str) -> Iterator[Load]:
    """Another process that commits transactions as fast as it can, with a busy_timeout."""
    database = volume.root / "orders.db"
    program = Path(__file__).with_name("load.py")
    process = subprocess.Popen(
        [sys.executable, program, database, journal_mode], stdout=subprocess.PIPE
    )
    made = Load(process, database)
    made.wait_for(20)
    yield made
    process.send_signal(signal.SIGKILL)
    process.wait()
    made.close()
