import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vssemu.linux import loop, uevents


def wait_event(monitor: uevents.BlockMonitor, name: str) -> Any:
    deadline = time.monotonic() + 10
    while (left := deadline - time.monotonic()) > 0:
        select.select([monitor], [], [], left)
        event = monitor.receive_nowait()
        if event is not None and event.name == name:
            return event
    raise AssertionError(f"no event of {name}")


@pytest.fixture
def monitor() -> Iterator[Any]:
    with uevents.BlockMonitor() as opened:
        yield opened


def test_binding_a_loop_device_is_announced_as_a_change(
    monitor: uevents.BlockMonitor, request: pytest.FixtureRequest
) -> None:
    device = request.getfixturevalue("device")
    event = wait_event(monitor, f"loop{device.number}")
    assert event.action in {"change", "add"}
    assert (event.device.major, event.device.minor) == (loop.MAJOR, device.number)
    assert event.sequence > 0


def test_a_new_device_is_announced_and_so_is_its_end(monitor: uevents.BlockMonitor) -> None:
    number = 1 + max(int(path.name[4:]) for path in Path("/sys/block").glob("loop*"))
    loop.add(number)
    try:
        assert wait_event(monitor, f"loop{number}").action == "add"
    finally:
        loop.remove(number)
    assert wait_event(monitor, f"loop{number}").action == "remove"


def test_without_an_event_nothing_is_received_and_nothing_blocks(
    monitor: uevents.BlockMonitor,
) -> None:
    while monitor.receive_nowait() is not None:
        pass
    assert monitor.receive_nowait() is None


def test_a_closed_monitor_says_so() -> None:
    monitor = uevents.BlockMonitor()
    assert monitor.fileno() >= 0
    monitor.close()
    monitor.close()
    assert monitor.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        monitor.receive_nowait()
