"""A VSS service in memory, with the blocking client's method names and the real order of calls.

It keeps sets in a `Machine`, checks each call against the life cycle table of the real
service, and can be told to fail a call. It holds no writes and copies no bytes.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tests.unit.tools.diskshadow.backup_double import Backup
from tests.unit.tools.diskshadow.machine import Machine
from vssemu.api import disks
from vssemu.api.blocking import Vss
from vssemu.tools.diskshadow.command import run
from vssemu.vss.lifecycle.requester import (
    Phase,
)


class FakeClient:
    """The wire, for io.vssemu.Disks alone."""

    is_over = False

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def call(self, method: object, *arguments: Any) -> Any:
        assert method is disks.list_volumes
        return list(self._machine.volumes)


class FakeVss:
    """A connection."""

    def __init__(self, machine: Machine) -> None:
        self.client = FakeClient(machine)
        self._machine = machine
        self._objects: list[Backup] = []

    def backup_components(self) -> Backup:
        self._objects.append(Backup(self._machine))
        return self._objects[-1]

    def close(self) -> None:
        for one in self._objects:
            if one.state.phase is not Phase.RELEASED:
                one.release()


@dataclass(frozen=True)
class Ran:
    """What a run left: its exit status and the lines of its output, without the banner."""

    status: int
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def diskshadow(
    machine: Machine,
    directory: Path,
    *lines: str,
    parameters: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Run a script of these lines against a machine."""
    script = directory / "script.dsh"
    script.write_text("\r\n".join(lines) + "\r\n")
    return diskshadow_file(machine, script, parameters=parameters, environment=environment)


def diskshadow_file(
    machine: Machine,
    script: Path,
    *,
    parameters: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Run a script file against a machine."""
    out = io.StringIO()
    status = run(
        ["/s", str(script), *parameters],
        out=out,
        connect=lambda: cast("Vss", FakeVss(machine)),
        environment={} if environment is None else environment,
    )
    return Ran(int(status), out.getvalue().split("\n")[4:-1])
