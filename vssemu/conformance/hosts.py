r"""A lab and its hosts in the hands of a test; everything blocks, nothing needs trio.

Paths are given as the host has them (`F:\data`, `/mnt/F/data`, a device object) and returned
as this machine reaches them.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vssemu
from vssemu.api import disks as disks_api
from vssemu.conformance.writers import RunningWriter, start_writer
from vssemu.lab import enter
from vssemu.lab.lab import Lab
from vssemu.linux import run
from vssemu.vss.drives import linux_path
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.host import Volume
from vssemu.writers.base import Writer


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What a program that ended left. status: its exit status, or minus a signal's number."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str


class VssLab:
    """A lab that runs. `lab` is what `vssemu lab` works with, for all that is not here."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.name = lab.paths.name

    @property
    def hosts(self) -> tuple["VssHost", ...]:
        """The hosts, in the order in which they were described."""
        return tuple(VssHost(self.lab, name) for name in self.lab.hosts())

    def host(self, name: str) -> "VssHost":
        """Return a host by its name. Raises ObjectNotFound."""
        self.lab.known.check_host(name)
        return VssHost(self.lab, name)

    @contextmanager
    def in_use(self, number: int) -> Iterator["VssHost"]:
        """Give the host of that number, from 0, switched on; its writers end with the block.

        Raises InvalidArgument for a lab that has fewer hosts.
        """
        names = self.lab.hosts()
        if number >= len(names):
            raise InvalidArgument(
                f"lab {self.name} has {len(names)} hosts, the test needs {number + 1}",
                hint="name more in vss_lab_hosts",
                item=self.name,
            )
        host = VssHost(self.lab, names[number])
        if not host.is_on():
            host.start()
        with host:
            yield host


class VssHost:
    """A host of a lab. As a block it ends the writers that were started on it."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.name = name
        self._lab = lab
        self._writers = ExitStack()

    def __repr__(self) -> str:
        return f"<host {self.name} of lab {self._lab.paths.name}>"

    def __enter__(self) -> "VssHost":
        return self

    def __exit__(self, *_: object) -> None:
        self._writers.close()

    def connect(self) -> vssemu.Vss:
        """Return a connection to its VSS service, as `vssemu.connect` there would."""
        return vssemu.connect(lab=self._lab.paths.name, host=self.name)

    def run(
        self,
        *argv: str | Path,
        input: str | None = None,  # noqa: A002  (the word that subprocess uses)
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        check: bool = True,
    ) -> Ran:
        """Run a program on the host and return what came of it.

        timeout: seconds, after which it is killed. env: added to this process's.
        check: raise ProgramFailed, which tells its error stream, for a status other than 0.
        Raises ProgramTimedOut.
        """
        words = tuple(map(str, argv))
        try:
            done = run.run(
                self.command(words),
                input=input,
                env={**os.environ, **(env or {})},
                timeout=timeout,
            )
        except run.ProgramTimedOut:
            raise
        except run.ProgramFailed as error:
            if check:
                raise run.ProgramFailed(words, error.returncode, error.stderr) from None
            return Ran(
                argv=words, status=error.returncode, stdout=error.stdout, stderr=error.stderr
            )
        return Ran(argv=words, status=0, stdout=done.stdout, stderr=done.stderr)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command line of this machine that runs a program on the host."""
        inside = [sys.executable, "-m", "vssemu.conformance.inside"]
        return [*inside, self._lab.paths.name, self.name, *argv]

    def path(self, path: str | Path) -> Path:
        r"""Return where this machine reaches a path of the host, such as `F:\data`.

        It holds until the host is switched off. Raises InvalidArgument for a relative path,
        Fail while the host is off.
        """
        return enter.inside(self._lab.paths, self.name, str(linux_path(str(path))))

    def volumes(self) -> list[Volume]:
        """Return the host's volumes, hidden ones among them."""
        with self._lab.vss(self.name) as vss:
            return vss.call(disks_api.list_volumes)

    def start_writer(
        self,
        writer: str | type[Writer],
        config: Mapping[str, Any] | None = None,
        *,
        timeout: float = 30.0,
    ) -> RunningWriter:
        """Run a writer on the host and return it, subscribed; it ends with the test at last.

        writer: the class, or `module:Class`, which the host imports as this process would.
        config: what `from_config` of the class takes, made of what TOML knows.
        Raises Fail with the writer's last words when it does not subscribe in `timeout` seconds.
        """
        started = start_writer(self.command, writer, config or {}, seconds=timeout)
        return self._writers.enter_context(started)

    def is_on(self) -> bool:
        """Tell whether the host runs."""
        return self._lab.known.host_process(self.name) is not None

    def power_off(self) -> None:
        """Press the host's power button: nothing is ended in order."""
        self._lab.power_off(self.name)

    def start(self) -> None:
        """Switch the host on and wait until it serves."""
        self._lab.start(self.name)
