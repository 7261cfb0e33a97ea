"""A lab as a whole: bring it up, look at it, switch hosts off and on, take it down."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vssemu.api import disks as disks_api
from vssemu.lab import cleanup, config, enter, hosts, root, supervisor
from vssemu.lab.config import LabConfig
from vssemu.lab.known import Known
from vssemu.lab.paths import LabPaths
from vssemu.lab.starting import START_SECONDS, Starting
from vssemu.lab.waiting import until
from vssemu.linux import cgroup, locks, processes
from vssemu.rpc import client as rpc
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import (
    AccessDenied,
    BadState,
    Fail,
    VssError,
)

STOP_SECONDS = 40.0
"""How long an orderly end may take before everything is killed."""
LOCK_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class HostStatus:
    """How a host stands. pid: of its PID 1, None while it is off. volumes: letters."""

    name: str
    pid: int | None
    volumes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayStatus:
    """How the array stands. pid: None while it does not run."""

    pid: int | None
    pool: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LabStatus:
    """How a lab stands."""

    name: str
    running: bool
    engine: str
    hosts: tuple[HostStatus, ...]
    array: ArrayStatus


def _check_root() -> None:
    if os.geteuid() != 0:
        raise AccessDenied("only root runs labs", hint="run the command with sudo")


class Lab:
    """One lab, by its name. Every method may be called at any time, by several processes.

    Every method raises AccessDenied for anybody but root.
    """

    def __init__(self, name: str) -> None:
        self.paths = LabPaths(name=name)
        self.known = Known(self.paths)

    def up(self, wanted: LabConfig) -> bool:
        """Bring the lab up; return False when it was up already, with the same configuration.

        Raises BadState when it is up with another one, Fail with the log's last lines when
        something does not start. What a failed start left is taken away again.
        """
        config.checked(wanted)
        if unseen := root.unseen_programs():
            raise Fail(
                f"{unseen[0]} lies where no host sees it",
                hint=f"move it out of {', '.join(map(str, root.OWN_OF_HOSTS))}",
                item=str(unseen[0]),
            )
        with self._locked():
            if self.known.is_whole():
                if self.known.config() == wanted:
                    return False
                raise BadState(
                    f"lab {self.paths.name} is up with another configuration",
                    hint=f"vssemu lab down --name {self.paths.name}",
                    item=self.paths.name,
                )
            is_new = not self.paths.config.exists()
            try:
                self._take_away(delete=False)
                Starting(self.known).lab(wanted)
            except BaseException:
                self._take_away(delete=is_new)
                raise
        return True

    def array(self) -> AbstractContextManager[rpc.Client]:
        """Give a client of the array's administration; see `Known.array`."""
        _check_root()
        return self.known.array()

    def vss(self, host: str) -> AbstractContextManager[rpc.Client]:
        """Give a client of a host's VSS service, from outside; see `Known.vss`."""
        return self.known.vss(host)

    def status(self) -> LabStatus:
        """Return how the lab stands. Raises ObjectNotFound when there is none."""
        _check_root()
        known = self.known.config()
        outside: dict[str, dict[str, Any]] = {}
        running = self.known.is_running()
        if running:
            try:
                outside = supervisor.services(self.paths.supervisor_socket)
            except supervisor.SupervisorGone:
                running = False
        pool = known.pool or str(self.paths.default_pool)
        return LabStatus(
            name=self.paths.name,
            running=running,
            engine=known.engine,
            hosts=tuple(self._host_status(known, host) for host in known.hosts),
            array=ArrayStatus(pid=outside.get(hosts.ARRAY, {}).get("pid") or None, pool=pool),
        )

    def _host_status(self, known: LabConfig, host: str) -> HostStatus:
        try:
            pid = enter.identity_of_host(self.paths, host).pid
            with self.known.vss(host) as vss:
                volumes = vss.call(disks_api.list_volumes)
        except (VssError, RpcError, OSError):
            # It does not run, or is just ending: either way nothing is known of it.
            pid, volumes = None, []
        letters = tuple(letter for v in volumes for letter in v.letters)
        return HostStatus(name=host, pid=pid, volumes=letters)

    def power_off(self, host: str) -> None:
        """Press a host's power button: thaw what it holds, then kill its PID 1."""
        with self._locked():
            self.known.check_host(host)
            control = self.paths.supervisor_socket
            guard = hosts.guard_name(host)
            supervisor.request(control, {"op": "stop", "name": guard})
            until(lambda: not supervisor.services(control)[guard]["pid"], seconds=START_SECONDS)
            supervisor.request(control, {"op": "kill", "name": hosts.host_name(host)})
            cleanup.end_processes(self.known.group() / host, self.known.backing_names())
            supervisor.request(control, {"op": "start", "name": guard})

    def start(self, host: str) -> None:
        """Switch a host on that is off."""
        with self._locked():
            self.known.check_host(host)
            Starting(self.known).host(host)

    def execute(self, host: str, argv: list[str]) -> int:
        """Run a program on a host and return its exit status; see `enter.run_inside`."""
        _check_root()
        self.known.check_host(host)
        return enter.run_inside(self.paths, host, self.known.host_group(host), argv)

    def logs(self) -> list[Path]:
        """Return the log files of the lab, those of the hosts' services among them."""
        _check_root()
        self.known.config()
        return sorted(
            [
                *self.paths.logs.glob("*.log"),
                *self.paths.state.glob("hosts/*/var/logs/*.log"),
            ]
        )

    def down(self, *, force: bool = False) -> bool:
        """Take the lab away with all it has; return False when there is none.

        A pool that was named stays, with its LUNs. force: do not wait for an orderly end.
        """
        _check_root()
        if not self.paths.state.exists() and not self.paths.run.exists():
            return False
        with self._locked():
            # Whoever held the lock before may have taken everything away but it.
            was_there = self.paths.state.exists() or any(
                path != self.paths.lock for path in self.paths.run.iterdir()
            )
            if not force:
                self._end_orderly()
            self._take_away(delete=True)
        return was_there

    def _end_orderly(self) -> None:
        identity = self.known.supervisor()
        if identity is None:
            return
        try:
            supervisor.request(self.paths.supervisor_socket, {"op": "shutdown"})
        except Fail:
            return
        processes.wait_gone([identity], time.monotonic() + STOP_SECONDS)

    def _take_away(self, *, delete: bool) -> None:
        names = self.known.backing_names()
        if (identity := self.known.supervisor()) is not None:
            processes.kill(identity, signal.SIGKILL)
        group = cgroup.find_cgroup2()
        if group is not None:
            cleanup.end_processes(self.known.group(), names)
        cleanup.release_loops([*names, str(self.known.pool() / "pool.img")])
        if delete:
            cleanup.remove_files(self.paths)
        else:
            for stale in (*self.paths.run.glob("*.pid"), self.paths.whole):
                stale.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        _check_root()
        while True:
            self.paths.run.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT
            with locks.locked(self.paths.lock, seconds=LOCK_SECONDS, flags=flags) as lock:
                # Whoever held the lock before may have taken the lab, and this file, away.
                if self.paths.lock.exists() and os.path.samestat(
                    os.fstat(lock), self.paths.lock.stat()
                ):
                    yield
                    return
