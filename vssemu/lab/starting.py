"""Bringing a lab up: the supervisor, the array, the hosts, their volumes."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

from vssemu.api import array as array_api
from vssemu.api import registry as registry_api
from vssemu.lab import config, enter, hosts, supervisor
from vssemu.lab.config import LabConfig
from vssemu.lab.known import Known
from vssemu.lab.volumes import provide
from vssemu.lab.waiting import until
from vssemu.linux import cgroup, processes, run
from vssemu.vss.errors import Fail
from vssemu.vss.identity import ARRAY_PROVIDER_ID, Initiator

START_SECONDS = 60.0
"""How long the array, and each host, may take to serve."""
HOPELESS_STARTS = 6
"""A service that ended so often without ever serving is not waited for any longer."""


class Starting:
    """One bringing up of a lab, or of one host of it."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.paths = known.paths

    def lab(self, wanted: LabConfig) -> None:
        """Bring everything up. Raises VssError, and then a part of it runs."""
        group = self.known.group()
        cgroup.create(group)
        shards = hosts.shard_names(wanted)
        places = [self.paths.host_outside(host) for host in wanted.hosts]
        places += [self.paths.shards] if shards else []
        for directory in (self.paths.logs, self.paths.run, *places):
            directory.mkdir(parents=True, exist_ok=True)
        self.paths.config.write_bytes(config.encode(wanted))
        self.paths.boot.write_text(processes.boot_id())
        self._start_supervisor(wanted, group)
        for service in (*shards, hosts.ARRAY):
            self._wait(self.paths.supervisor_socket, service)
        for host in wanted.hosts:
            self._admit(host)
            self._supervise(hosts.host_service(wanted, self.paths, host, group))
        for host in wanted.hosts:
            self._settle_host(host)
        provide(self.known, wanted)
        self.paths.whole.touch()

    def new_host(self, wanted: LabConfig, host: str) -> None:
        """Start a host that comes to a running lab. Raises VssError; a part may run then."""
        self.paths.host_outside(host).mkdir(parents=True, exist_ok=True)
        self._admit(host)
        self._supervise(hosts.guard_service(self.paths, host))
        self._supervise(hosts.host_service(wanted, self.paths, host, self.known.group()))
        self._settle_host(host)

    def host(self, host: str) -> None:
        """Switch one host on that is off. Raises VssError."""
        self._admit(host)
        supervisor.request(
            self.paths.supervisor_socket, {"op": "start", "name": hosts.host_name(host)}
        )
        self._settle_host(host)

    def _supervise(self, service: Mapping[str, object]) -> None:
        supervisor.request(self.paths.supervisor_socket, {"op": "add", "service": service})

    def _admit(self, host: str) -> None:
        """Make a host's control groups, and have the array know it."""
        inside = self.known.host_group(host)
        for group in (inside.parent, inside):
            cgroup.create(group)
        with self.known.array() as array:
            array.call(array_api.add_initiator, Initiator(host))

    def _start_supervisor(self, wanted: LabConfig, group: Path) -> None:
        table = hosts.outside_table(wanted, self.paths, group)
        self.paths.table.write_text(json.dumps(table))
        outside = group / "outside"
        cgroup.create(outside)
        # It joins its group itself, before it does anything: who is killed here leaves nothing
        # that `down` does not find, and a group that `down` took away is not joined.
        joining = ("/bin/sh", "-c", 'echo 0 > "$0" && exec "$@"', str(outside / "cgroup.procs"))
        with (self.paths.logs / "supervisor.log").open("ab") as log:
            child = run.spawn(
                [*joining, *hosts.module("vssemu.daemons.init", self.paths.table)],
                env=hosts.environment(),
                cwd="/",
                stdout=log.fileno(),
                stderr=log.fileno(),
                start_new_session=True,
            )
        identity = processes.identity_of(child.pid)
        self.paths.supervisor_pid.write_text(
            json.dumps({"pid": identity.pid, "start": identity.start_ticks})
        )
        control = self.paths.supervisor_socket
        if not until(lambda: supervisor.answers(control), seconds=START_SECONDS):
            raise Fail(f"the supervisor did not start: {self._last_line('supervisor')}")

    def _settle_host(self, host: str) -> None:
        """Wait until a host serves, and give it the array's provider when it has none."""
        if not until(lambda: self._inner_answers(host), seconds=START_SECONDS):
            raise Fail(
                f"host {host} did not start: {self._last_line(hosts.host_name(host))}", item=host
            )
        inner = enter.inside(self.paths, host, hosts.INIT_SOCKET)
        self._wait(inner, hosts.VSSD, host)
        self._wait(inner, hosts.DEVICEFS, host)
        with self.known.vss(host) as vss:
            known = vss.call(registry_api.query_providers)
            if all(p.provider_id != ARRAY_PROVIDER_ID for p in known):
                hosts.register_array_provider(vss)

    def _inner_answers(self, host: str) -> bool:
        try:
            return supervisor.answers(enter.inside(self.paths, host, hosts.INIT_SOCKET))
        except Fail:
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


def _said(line: str) -> str:
    """Return what a line of a log says to a user: of a structured one, the error."""
    try:
        fields = json.loads(line)
        return str(fields.get("error") or fields["event"])
    except (ValueError, AttributeError, KeyError):
        return line
