"""Descriptors that a supervisor keeps for a service between its lives."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vssemu.lab import supervisor
from vssemu.linux.fdstore import Store

PATIENCE = 30.0
KEEPER = """
import json, os, sys, time
from vssemu.linux import fdstore

store, found = fdstore.Store.of_starter(), fdstore.inherited()
print(json.dumps({name: os.pread(found[name], 99, 0).decode() for name in found}), flush=True)
for name in sys.argv[2:]:
    fd = os.memfd_create(name)
    os.write(fd, f"{name} of {os.getpid()}".encode())
    store.keep(name, fd)
    os.close(fd)
store.settle()
os.write(int(sys.argv[1]), b"READY")
time.sleep(600)
"""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.005)


class Supervised:
    """A supervisor process with one service that gives descriptors away."""

    def __init__(self, directory: Path, *names: str, room: int, **others: Any) -> None:
        self.directory = directory
        self.socket = directory / "init.sock"
        services = [{"name": "keeper", "descriptors": room, **others}]
        services[0]["argv"] = [sys.executable, "-c", KEEPER, "{ready_fd}", *names]
        if "after" in others:
            argv = [
                "sh",
                "-c",
                "read _ < $0; echo READY > /proc/self/fd/{ready_fd}; exec sleep 600",
            ]
            services.append({"name": "other", "argv": [*argv, str(directory / "gate")]})
            os.mkfifo(directory / "gate")
        table = {"socket": str(self.socket), "logs": str(directory), "services": services}
        (directory / "table.json").write_text(json.dumps(table))
        command = [sys.executable, "-m", "vssemu.daemons.init", directory / "table.json"]
        with (directory / "init.log").open("ab") as log:
            self.process = subprocess.Popen([str(each) for each in command], stderr=log)
        wait_until(lambda: supervisor.answers(self.socket), "the supervisor answers")

    def facts(self, name: str = "keeper") -> dict[str, Any]:
        found: dict[str, Any] = supervisor.services(self.socket)[name]
        return found

    def ask(self, **request: Any) -> None:
        supervisor.request(self.socket, {"name": "keeper", **request})

    def wait_ready(self) -> int:
        """Return the pid of the service once it is ready."""
        supervisor.wait_ready(self.socket, "keeper", seconds=PATIENCE)
        pid: int = self.facts()["pid"]
        return pid

    def kill(self) -> None:
        pid = self.facts()["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.facts()["pid"] not in {pid, 0}, "the next one runs")

    @property
    def found(self) -> list[dict[str, str]]:
        """What each of the services found, the latest last."""
        lines = (self.directory / "keeper.log").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        supervisor.request(self.socket, {"op": "shutdown"})
        self.process.wait(PATIENCE)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    made: list[Supervised] = []

    def make(*names: str, room: int = 9, **others: Any) -> Supervised:
        made.append(Supervised(tmp_path, *names, room=room, **others))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_killed_service_gets_back_the_latest_that_it_gave_by_each_name(
    supervised: Callable[..., Supervised],
) -> None:
    host = supervised("one", "two", "one")
    first = host.wait_ready()
    assert host.facts()["kept"] == ["one", "two"]
    host.kill()
    second = host.wait_ready()
    host.kill()
    host.wait_ready()
    assert host.found == [
        {},
        {"one": f"one of {first}", "two": f"two of {first}"},
        {"one": f"one of {second}", "two": f"two of {second}"},
    ]


def test_there_is_no_more_room_than_the_table_says(
    supervised: Callable[..., Supervised],
) -> None:
    host = supervised("one", "two", room=1)
    host.wait_ready()
    assert host.facts()["kept"] == ["one"]
    assert '"descriptor not kept"' in (host.directory / "init.log").read_text()


def test_nothing_is_kept_of_a_service_that_is_not_to_run(
    supervised: Callable[..., Supervised],
) -> None:
    host = supervised("one")
    host.wait_ready()
    host.ask(op="kill", restart=False)
    wait_until(lambda: host.facts()["pid"] == 0, "it is dead")
    assert host.facts()["kept"] == []
    host.ask(op="start")
    host.wait_ready()
    assert host.found == [{}, {}]


def test_nothing_is_taken_from_a_stranger(supervised: Callable[..., Supervised]) -> None:
    host = supervised("one")
    host.wait_ready()
    reader, writer = os.pipe()
    stranger = Store(str(host.directory / "init.notify"))
    stranger.keep("two", writer)
    stranger.forget("one")
    os.close(writer)
    stranger.settle()
    assert host.facts()["kept"] == ["one"]
    with os.fdopen(reader) as end:
        assert end.read() == "", "the supervisor has closed what came"


def test_one_with_something_kept_is_not_kept_waiting_for_those_before_it(
    supervised: Callable[..., Supervised],
) -> None:
    host = supervised("one", after=["other"])
    with (host.directory / "gate").open("w") as gate:
        gate.write("go\n")
    host.wait_ready()
    os.kill(host.facts("other")["pid"], signal.SIGKILL)
    wait_until(lambda: not host.facts("other")["ready"], "the other waits at its gate")
    host.kill()
    host.wait_ready()
    assert not host.facts("other")["ready"]
