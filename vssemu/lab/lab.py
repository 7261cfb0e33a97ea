"""A lab as a whole: bring it up, look at it, switch hosts off and on, take it down."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vssemu.api import array as array_api
from vssemu.api import disks as disks_api
from vssemu.api import registry as registry_api
from vssemu.api.errors import decode_error
from vssemu.array import leftovers
from vssemu.lab import cleanup, config, enter, hosts, supervisor
from vssemu.lab.config import LabConfig, VolumeSpec
from vssemu.lab.paths import LabPaths
from vssemu.lab.waiting import until
from vssemu.linux import cgroup, locks, processes, run
from vssemu.rpc import client as rpc
from vssemu.rpc.errors import RpcError
from vssemu.vss.array import ArrayLun
from vssemu.vss.errors import (
    AccessDenied,
    BadState,
    Fail,
    InvalidArgument,
    ObjectNotFound,
    VssError,
)
from vssemu.vss.identity import ARRAY_PROVIDER_ID, Initiator, LunId

START_SECONDS = 60.0
"""How long the array, and each host, may take to serve."""
HOPELESS_STARTS = 6
"""A service that ended so often without ever serving is not waited for any longer."""
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


class Lab:
    """One lab, by its name. Every method may be called at any time, by several processes."""

    def __init__(self, name: str) -> None:
        self.paths = LabPaths(name=name)

    # --- up

    def up(self, wanted: LabConfig) -> bool:
        """Bring the lab up; return False when it was up already, with the same configuration.

        Raises BadState when it is up with another one, Fail with the log's last lines when
        something does not start. What a failed start left is taken away again.
        """
        config.checked(wanted)
        with self._locked():
            if self._is_running():
                if self._config() == wanted:
                    return False
                raise BadState(
                    f"lab {self.paths.name} is up with another configuration",
                    hint=f"vssemu lab down --name {self.paths.name}",
                    item=self.paths.name,
                )
            is_new = not self.paths.config.exists()
            try:
                self._bring_up(wanted)
            except BaseException:
                self._take_away(delete=is_new)
                raise
        return True

    def _bring_up(self, wanted: LabConfig) -> None:
        self._take_away(delete=False)
        group = self._group()
        cgroup.create(group)
        for directory in (self.paths.logs, self.paths.run):
            directory.mkdir(parents=True, exist_ok=True)
        for host in wanted.hosts:
            self.paths.host_outside(host).mkdir(parents=True, exist_ok=True)
            for part in (group / host, group / host / "inside"):
                cgroup.create(part)
        self.paths.config.write_bytes(config.encode(wanted))
        self._start_supervisor(wanted, group)
        self._wait(self.paths.supervisor_socket, hosts.ARRAY)
        with self.array() as array:
            for host in wanted.hosts:
                array.call(array_api.add_initiator, Initiator(host))
        for host in wanted.hosts:
            self._add_host(wanted, host, group)
        for host in wanted.hosts:
            self._settle_host(host)
        for volume in wanted.volumes:
            self._provide(wanted, volume)

    def _start_supervisor(self, wanted: LabConfig, group: Path) -> None:
        table = hosts.outside_table(wanted, self.paths, group)
        self.paths.table.write_text(json.dumps(table))
        with (self.paths.logs / "supervisor.log").open("ab") as log:
            child = run.spawn(
                hosts.module("vssemu.daemons.init", self.paths.table),
                env=hosts.environment(),
                cwd="/",
                stdout=log.fileno(),
                stderr=log.fileno(),
                start_new_session=True,
            )
        outside = group / "outside"
        cgroup.create(outside)
        cgroup.move(outside, child.pid)
        identity = processes.identity_of(child.pid)
        self.paths.supervisor_pid.write_text(
            json.dumps({"pid": identity.pid, "start": identity.start_ticks})
        )
        if not until(self._supervisor_answers, seconds=START_SECONDS):
            raise Fail(f"the supervisor did not start: {self._last_line('supervisor')}")

    def _supervisor_answers(self) -> bool:
        try:
            supervisor.services(self.paths.supervisor_socket)
        except supervisor.SupervisorGone:
            return False
        return True

    def _add_host(self, wanted: LabConfig, host: str, group: Path) -> None:
        service = hosts.host_service(wanted, self.paths, host, group)
        supervisor.request(self.paths.supervisor_socket, {"op": "add", "service": service})

    def _settle_host(self, host: str) -> None:
        """Wait until a host serves, and give it the array's provider when it has none."""
        if not until(lambda: self._inner_socket_exists(host), seconds=START_SECONDS):
            raise Fail(
                f"host {host} did not start: {self._last_line(hosts.host_name(host))}", item=host
            )
        inner = enter.inside(self.paths, host, "/run/vssemu/init.sock")
        self._wait(inner, hosts.VSSD, host)
        self._wait(inner, hosts.DEVICEFS, host)
        with self.vss(host) as vss:
            known = vss.call(registry_api.query_providers)
            if all(p.provider_id != ARRAY_PROVIDER_ID for p in known):
                hosts.register_array_provider(vss)

    def _inner_socket_exists(self, host: str) -> bool:
        try:
            return enter.inside(self.paths, host, "/run/vssemu/init.sock").exists()
        except (Fail, OSError):
            return False

    def _wait(self, socket: Path, service: str, host: str | None = None) -> None:
        try:
            self._wait_ready(socket, service)
        except Fail as error:
            raise Fail(
                f"{service} did not start: {self._last_line(service, host)}",
                hint=f"vssemu lab logs --name {self.paths.name}",
                item=service,
            ) from error

    @staticmethod
    def _wait_ready(socket: Path, service: str) -> None:
        """Return when a service serves. Raises Fail, early for one that ends at every start."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                supervisor.wait_ready(socket, service, seconds=1.0)
            except Fail:
                starts = supervisor.services(socket)[service]["starts"]
                if starts >= HOPELESS_STARTS or time.monotonic() >= deadline:
                    raise
            else:
                return

    def _last_line(self, service: str, host: str | None = None) -> str:
        """Return the last words of a service, or of the supervisor that should start it."""
        logs = self.paths.host_state(host) / "var/logs" if host else self.paths.logs
        for file in (logs / f"{service}.log", self.paths.logs / "supervisor.log"):
            with contextlib.suppress(OSError):
                if lines := file.read_text(errors="replace").splitlines():
                    return _said(lines[-1])
        return "it left no log"

    def _provide(self, wanted: LabConfig, volume: VolumeSpec) -> None:
        """Make a volume's LUN, unmask it, and put the volume on it, unless that was done."""
        record = self.paths.state / "volumes.json"
        done: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
        host = wanted.host_of(volume)
        key = f"{host}:{volume.letter}"
        if key in done:
            return
        with self.array() as array, self.vss(host) as vss:
            lun: ArrayLun = array.call(array_api.create_lun, volume.size)
            array.call(array_api.unmask_lun, lun.id, Initiator(host))
            vss.call(disks_api.rescan)
            vss.call(
                disks_api.create_volume, lun.id, volume.filesystem, None, f"{volume.letter}:\\"
            )
        record.write_text(json.dumps({**done, key: lun.id}))

    # --- connections

    @contextmanager
    def array(self) -> Iterator[rpc.Client]:
        """Give a client of the array's administration. Raises Fail when it does not run."""
        try:
            client = rpc.connect(self.paths.array_socket, decode_error=decode_error)
        except OSError as error:
            raise Fail(
                f"the array of lab {self.paths.name} does not answer: {error.strerror}",
                hint=f"vssemu lab up --name {self.paths.name}",
                item=str(self.paths.array_socket),
            ) from error
        with client:
            yield client

    @contextmanager
    def vss(self, host: str) -> Iterator[rpc.Client]:
        """Give a client of a host's VSS service, from outside. Raises Fail."""
        path = enter.inside(self.paths, host, "/run/vssemu/vss.sock")
        try:
            client = rpc.connect(path, decode_error=decode_error)
        except OSError as error:
            raise Fail(
                f"the VSS service of {host} does not answer: {error.strerror}", item=host
            ) from error
        with client:
            yield client

    # --- status, power, exec

    def status(self) -> LabStatus:
        """Return how the lab stands. Raises ObjectNotFound when there is none."""
        known = self._config()
        outside: dict[str, dict[str, Any]] = {}
        running = self._is_running()
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
            with self.vss(host) as vss:
                volumes = vss.call(disks_api.list_volumes)
        except (VssError, RpcError, OSError):
            # It does not run, or is just ending: either way nothing is known of it.
            pid, volumes = None, []
        letters = tuple(letter for v in volumes for letter in v.letters)
        return HostStatus(name=host, pid=pid, volumes=letters)

    def power_off(self, host: str) -> None:
        """Press a host's power button: thaw what it holds, then kill its PID 1."""
        with self._locked():
            self._known_host(host)
            control = self.paths.supervisor_socket
            guard = hosts.guard_name(host)
            supervisor.request(control, {"op": "stop", "name": guard})
            until(lambda: not supervisor.services(control)[guard]["pid"], seconds=START_SECONDS)
            supervisor.request(control, {"op": "kill", "name": hosts.host_name(host)})
            cleanup.end_processes(self._group() / host, self._lun_names())
            supervisor.request(control, {"op": "start", "name": guard})

    def start(self, host: str) -> None:
        """Switch a host on that is off."""
        with self._locked():
            self._known_host(host)
            group = self._group()
            for part in (group / host, group / host / "inside"):
                cgroup.create(part)
            with self.array() as array:
                array.call(array_api.add_initiator, Initiator(host))
            supervisor.request(
                self.paths.supervisor_socket, {"op": "start", "name": hosts.host_name(host)}
            )
            self._settle_host(host)

    def execute(self, host: str, argv: list[str]) -> int:
        """Run a program on a host and return its exit status; see `enter.run_inside`."""
        self._known_host(host)
        return enter.run_inside(self.paths, host, self._group() / host / "inside", argv)

    def logs(self) -> list[Path]:
        """Return the log files of the lab, those of the hosts' services among them."""
        self._config()
        return sorted(
            [
                *self.paths.logs.glob("*.log"),
                *self.paths.state.glob("hosts/*/var/logs/*.log"),
            ]
        )

    # --- down

    def down(self, *, force: bool = False) -> bool:
        """Take the lab away with all it has; return False when there is none.

        A pool that was named stays, with its LUNs. force: do not wait for an orderly end.
        """
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
        identity = self._supervisor()
        if identity is None:
            return
        try:
            supervisor.request(self.paths.supervisor_socket, {"op": "shutdown"})
        except Fail:
            return
        processes.wait_gone([identity], time.monotonic() + STOP_SECONDS)

    def _take_away(self, *, delete: bool) -> None:
        names = self._lun_names()
        if (identity := self._supervisor()) is not None:
            processes.kill(identity, signal.SIGKILL)
        group = cgroup.find_cgroup2()
        if group is not None:
            cleanup.end_processes(self._group(), names)
        cleanup.release_loops([*names, str(self._pool() / "pool.img")])
        if delete:
            cleanup.remove_files(self.paths)
        else:
            for stale in self.paths.run.glob("*.pid"):
                stale.unlink()

    # --- what is known

    def _config(self) -> LabConfig:
        try:
            return config.decode(self.paths.config.read_bytes())
        except FileNotFoundError:
            raise ObjectNotFound(
                f"there is no lab {self.paths.name}",
                hint=f"vssemu lab up --name {self.paths.name}",
                item=self.paths.name,
            ) from None

    def _known_host(self, host: str) -> None:
        if host not in (known := self._config().hosts):
            raise ObjectNotFound(
                f"lab {self.paths.name} has no host {host}",
                hint=f"hosts: {', '.join(known)}",
                item=host,
            )
        if not self._is_running():
            raise BadState(
                f"lab {self.paths.name} is not running",
                hint=f"vssemu lab up --name {self.paths.name}",
                item=self.paths.name,
            )

    def _pool(self) -> Path:
        try:
            named = self._config().pool
        except (ObjectNotFound, InvalidArgument):
            named = None
        return Path(named) if named else self.paths.default_pool

    def _lun_names(self) -> list[LunId]:
        return leftovers.lun_ids(self._pool() / "array")

    def _supervisor(self) -> processes.ProcessIdentity | None:
        try:
            record: dict[str, Any] = json.loads(self.paths.supervisor_pid.read_bytes())
            identity = processes.ProcessIdentity(pid=record["pid"], start_ticks=record["start"])
        except (OSError, ValueError, KeyError):
            return None
        return identity if processes.alive(identity) else None

    def _is_running(self) -> bool:
        return self._supervisor() is not None

    def _group(self) -> Path:
        base = cgroup.find_cgroup2()
        if base is None:
            raise Fail(
                "this machine has no control groups of version 2",
                hint="mount -t cgroup2 none /sys/fs/cgroup",
            )
        return base / f"vssemu-{self.paths.name}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if os.geteuid() != 0:
            raise AccessDenied("only root runs labs", hint="sudo vssemu lab ...")
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


def _said(line: str) -> str:
    """Return what a line of a log says to a user: of a structured one, the error."""
    try:
        fields = json.loads(line)
        return str(fields.get("error") or fields["event"])
    except (ValueError, AttributeError, KeyError):
        return line
