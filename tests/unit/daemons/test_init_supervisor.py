"""The supervisor on a machine that is short of everything: it must not end."""

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from vssemu.daemons.init import Init
from vssemu.daemons.supervised import RESTART_PAUSE
from vssemu.daemons.supervision import STEADY_SECONDS


@pytest.fixture
def init(tmp_path: Path) -> Iterator[Init]:
    numbers = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    table: dict[str, Any] = {
        "socket": str(tmp_path / "init.sock"),
        "logs": str(tmp_path),
        "services": [{"name": "one", "argv": ["true"]}],
    }
    made = Init(table)
    yield made
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)
    for key in list(made.selector.get_map().values()):
        if not isinstance(key.fileobj, int):
            key.fileobj.close()  # type: ignore[attr-defined]
    made.selector.close()


def refuse(*_: object) -> NoReturn:
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.mark.parametrize("call", ["pipe", "fork"])
def test_a_service_that_the_machine_cannot_start_now_is_put_off(
    init: Init, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, call, refuse)
    init.supervisor.step()
    monkeypatch.undo()
    service = init.supervisor.services["one"]
    assert service.pid == 0
    assert service.wanted
    assert service.not_before > time.monotonic()
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_control_connection_that_cannot_be_taken_ends_nothing(init: Init) -> None:
    class Listener:
        accept = staticmethod(refuse)

    init.control.accept(Listener())  # type: ignore[arg-type]
    assert init.control.buffers == {}


@pytest.mark.parametrize(("served", "longer"), [(True, False), (False, True)])
def test_only_a_service_that_never_served_is_put_off_longer_each_time(
    init: Init, served: bool, longer: bool
) -> None:
    service = init.supervisor.services["one"]
    service.says_ready = True
    for _ in range(4):
        service.ready, service.started_at = served, time.monotonic()
        init.supervisor._ended(service, signal.SIGKILL)
    pause = service.not_before - time.monotonic()
    assert (pause > 2 * RESTART_PAUSE) is longer


def test_a_service_that_lived_long_is_there_again_at_once(init: Init) -> None:
    service = init.supervisor.services["one"]
    pauses = []
    for seconds in (STEADY_SECONDS + 1, 0.0, STEADY_SECONDS + 1):
        service.started_at = time.monotonic() - seconds
        init.supervisor._ended(service, signal.SIGKILL)
        pauses.append(service.not_before > time.monotonic() + RESTART_PAUSE / 2)
    assert pauses == [False, True, False]


def test_a_service_has_its_niceness_from_the_start(init: Init) -> None:
    service = init.supervisor.services["one"]
    service.argv, service.nice = ["sleep", "60"], os.getpriority(os.PRIO_PROCESS, 0) + 3
    init.supervisor.step()
    try:
        wait = time.monotonic() + 10
        while os.getpriority(os.PRIO_PROCESS, service.pid) != service.nice:
            assert time.monotonic() < wait
    finally:
        os.kill(service.pid, signal.SIGKILL)
        os.waitpid(service.pid, 0)
