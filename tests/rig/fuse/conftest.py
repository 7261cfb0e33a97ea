"""Fixtures: a rig, a raw device, a running devicefs that shows it as copy 1."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.fuse.rig import Daemon, RawDevice, Rig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here mounts: it needs root and /dev/fuse."""
    if os.geteuid() == 0 and Path("/dev/fuse").exists():
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skipif(True, reason="needs root and /dev/fuse"))


@pytest.fixture
def rig() -> Iterator[Rig]:
    base = Path("/tmp/vssemu-fuse")
    base.mkdir(exist_ok=True)
    rig = Rig(Path(tempfile.mkdtemp(dir=base)))
    try:
        yield rig
    finally:
        rig.close()
        if not any(base.iterdir()):
            base.rmdir()
    assert not rig.mounts()


@pytest.fixture
def raw(rig: Rig) -> RawDevice:
    return rig.raw_device()


@pytest.fixture
def daemon(rig: Rig, raw: RawDevice) -> Daemon:
    daemon = rig.daemon()
    daemon.publish(raw.facts(1))
    return daemon
