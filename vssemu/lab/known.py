"""What is known of a lab: its records, its processes, and how to talk to them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vssemu.api.blocking import VSS_SOCKET
from vssemu.api.errors import decode_error
from vssemu.array import leftovers
from vssemu.lab import config, enter, supervisor
from vssemu.lab.config import LabConfig
from vssemu.lab.paths import LabPaths
from vssemu.linux import cgroup, processes
from vssemu.rpc import client as rpc
from vssemu.vss.errors import BadState, Fail, InvalidArgument, ObjectNotFound


class Known:
    """The facts of one lab, each read when it is asked for; nothing is changed here."""

    def __init__(self, paths: LabPaths) -> None:
        self.paths = paths

    def config(self) -> LabConfig:
        """Return what the lab consists of. Raises ObjectNotFound when there is none."""
        try:
            return config.decode(self.paths.config.read_bytes())
        except FileNotFoundError:
            raise ObjectNotFound(
                f"there is no lab {self.paths.name}",
                hint=f"vssemu lab up --name {self.paths.name}",
                item=self.paths.name,
            ) from None

    def last_boot(self) -> str | None:
        """Return the machine's start in which the lab was brought up last; None: never."""
        try:
            return self.paths.boot.read_text()
        except FileNotFoundError:
            return None

    def pool(self) -> Path:
        """Return the pool's directory; the usual one when no record names another."""
        try:
            named = self.config().pool
        except (ObjectNotFound, InvalidArgument):
            named = None
        return Path(named) if named else self.paths.default_pool

    def backing_names(self) -> list[str]:
        """Return what the paths of the lab's LUN images contain.

        The ids of all LUNs that its array made; and the pool's own path, for a pool whose
        journal somebody removed under a running lab.
        """
        pool = self.pool()
        return [*leftovers.lun_ids(pool / "array"), f"{pool}/root/luns/"]

    def supervisor(self) -> processes.ProcessIdentity | None:
        """Return the lab's supervisor, None when it does not live."""
        try:
            record: dict[str, Any] = json.loads(self.paths.supervisor_pid.read_bytes())
            identity = processes.ProcessIdentity(pid=record["pid"], start_ticks=record["start"])
        except (OSError, ValueError, KeyError):
            return None
        return identity if processes.alive(identity) else None

    def host_process(self, host: str) -> processes.ProcessIdentity | None:
        """Return a host's PID 1, None while the host is off."""
        try:
            return enter.identity_of_host(self.paths, host)
        except Fail:
            return None

    def is_running(self) -> bool:
        """Tell whether the lab's supervisor lives."""
        return self.supervisor() is not None

    def is_whole(self) -> bool:
        """Tell whether the lab was brought up to the end and lives.

        A killed `lab up` leaves a part; a killed supervisor lives on for a moment.
        """
        answers = supervisor.answers(self.paths.supervisor_socket)
        return self.is_running() and self.paths.whole.exists() and answers

    def check_host(self, host: str) -> None:
        """Raise ObjectNotFound for a host that the lab lacks, BadState while it is down."""
        if host not in (names := self.config().hosts):
            raise ObjectNotFound(
                f"lab {self.paths.name} has no host {host}",
                hint=f"hosts: {', '.join(names)}",
                item=host,
            )
        if not self.is_running():
            raise BadState(
                f"lab {self.paths.name} is not running",
                hint=f"vssemu lab up --name {self.paths.name}",
                item=self.paths.name,
            )

    def group(self) -> Path:
        """Return the lab's control group. Raises Fail without control groups, version 2."""
        base = cgroup.find_cgroup2()
        if base is None:
            raise Fail(
                "this machine has no control groups of version 2",
                hint="mount -t cgroup2 none /sys/fs/cgroup",
            )
        return base / f"vssemu-{self.paths.name}"

    def host_group(self, host: str) -> Path:
        """Return the control group that holds a host's processes, below the fenced one."""
        return self.group() / host / "inside"

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
        path = enter.inside(self.paths, host, str(VSS_SOCKET))
        try:
            client = rpc.connect(path, decode_error=decode_error)
        except OSError as error:
            raise Fail(
                f"the VSS service of {host} does not answer: {error.strerror}", item=host
            ) from error
        with client:
            yield client
