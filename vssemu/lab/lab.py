"""A lab as a whole: bring it up, look at it, switch hosts off and on, take it down."""

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from vssemu.array import leftovers
from vssemu.lab import cleanup, config, enter, hosts, root, shards, status, supervisor
from vssemu.lab.changing import Changing
from vssemu.lab.config import LabConfig
from vssemu.lab.growth import Growth, grown, growth, settled, whole
from vssemu.lab.known import Known
from vssemu.lab.paths import LabPaths
from vssemu.lab.starting import START_SECONDS, Starting
from vssemu.lab.waiting import until
from vssemu.linux import cgroup, locks, processes
from vssemu.rpc import client as rpc
from vssemu.vss.errors import AccessDenied, BadState, Fail, ObjectNotFound

STOP_SECONDS = 40.0
"""How long an orderly end may take before everything is killed."""
LOCK_SECONDS = 120.0


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

    def up(self, wanted: LabConfig | None = None) -> Growth:
        """Bring the lab up, or give one that is up what it lacks; return what is new.

        wanted: None for what is recorded of the lab, or a lab of the usual hosts. A lab that
        is recorded and does not run, as after a restart of the machine, comes back with all it
        had. Nothing new: it was up already.
        Raises BadState when `wanted` is not what is recorded, or more; Fail with the log's last
        lines when something does not start. What a failed start left is taken away again.
        """
        if wanted is not None:
            config.checked(wanted)
        if unseen := root.unseen_programs():
            raise Fail(
                f"{unseen[0]} lies where no host sees it",
                hint=f"move it out of {', '.join(map(str, root.OWN_OF_HOSTS))}",
                item=str(unseen[0]),
            )
        if wanted is not None and self.recorded() is None:
            self._check_pool(wanted)
        with self._locked():
            recorded = self.recorded()
            if wanted is None:
                wanted = recorded or LabConfig(name=self.paths.name)
            added = growth(recorded, wanted) if recorded else whole(wanted)
            if recorded and self.known.is_whole():
                if added:
                    Changing(self.known).add(added)
                return added
            full = grown(recorded, added) if recorded else settled(wanted)
            try:
                self._take_away(delete=False)
                Starting(self.known).lab(full)
            except BaseException:
                self._take_away(delete=recorded is None)
                if recorded is not None:
                    self.paths.config.write_bytes(config.encode(recorded))
                raise
        return whole(full)

    @staticmethod
    def _check_pool(wanted: LabConfig) -> None:
        """Raise BadState for a pool that another engine made."""
        pool = wanted.pool
        made_by = None if pool is None else leftovers.engine(Path(pool))
        if made_by not in {None, wanted.engine}:
            raise BadState(
                f"the pool {pool} is of the engine {made_by}, not {wanted.engine}",
                hint=f"give --engine {made_by}, or another pool",
                item=pool,
            )

    def recorded(self) -> LabConfig | None:
        """Return what the lab consists of; None when there is none. Raises InvalidArgument."""
        _check_root()
        try:
            return self.known.config()
        except ObjectNotFound:
            return None

    def hosts(self) -> tuple[str, ...]:
        """Return the names of the hosts. Raises ObjectNotFound when there is no such lab."""
        _check_root()
        return self.known.config().hosts

    def add(self, added: Growth) -> None:
        """Add hosts and volumes to the running lab: all, or none.

        Raises BadState for what it has already, InvalidArgument, and as `up`.
        """
        with self._locked():
            now = settled(self._running())
            for host in added.hosts:
                if host in now.hosts:
                    raise BadState(f"lab {now.name} has host {host} already", item=host)
            volumes = [replace(each, host=now.host_of(each)) for each in added.volumes]
            for volume in volumes:
                if any((v.host, v.letter) == (volume.host, volume.letter) for v in now.volumes):
                    raise BadState(
                        f"lab {now.name} has volume {volume.letter}: of {volume.host} already",
                        hint="choose another letter",
                        item=f"{volume.letter}:",
                    )
            Changing(self.known).add(growth(now, config.checked(grown(now, added))))

    def remove_host(self, host: str) -> None:
        """Take a host out of the running lab; see `Changing.remove_host`."""
        with self._locked():
            self._running()
            self.known.check_host(host)
            Changing(self.known).remove_host(host)

    def remove_volumes(self, host: str | None, letters: Collection[str]) -> None:
        """Take volumes out of the running lab; see `Changing.remove_volumes`.

        host: None for the first one.
        """
        with self._locked():
            host = host or self._running().hosts[0]
            self.known.check_host(host)
            Changing(self.known).remove_volumes(host, letters)

    def _running(self) -> LabConfig:
        """Return what the lab consists of. Raises BadState while it does not run."""
        now = self.known.config()
        if not self.known.is_whole():
            raise BadState(
                f"lab {self.paths.name} is {status.state(self.known).value}",
                hint=f"vssemu lab up --name {self.paths.name}",
                item=self.paths.name,
            )
        return now

    def array(self) -> AbstractContextManager[rpc.Client]:
        """Give a client of the array's administration; see `Known.array`."""
        _check_root()
        return self.known.array()

    def vss(self, host: str) -> AbstractContextManager[rpc.Client]:
        """Give a client of a host's VSS service, from outside; see `Known.vss`."""
        return self.known.vss(host)

    def status(self) -> status.LabStatus:
        """Return how the lab stands. Raises ObjectNotFound when there is none."""
        _check_root()
        return status.status(self.known)

    def power_off(self, host: str) -> None:
        """Press a host's power button: thaw what it holds, then kill its PID 1."""
        with self._locked():
            self.known.check_host(host)
            shards.revive(self.paths)
            control = self.paths.supervisor_socket
            guard = hosts.guard_name(host)
            supervisor.request(control, {"op": "stop", "name": guard})
            until(lambda: not supervisor.services(control)[guard]["pid"], seconds=START_SECONDS)
            first = self.known.host_process(host)
            supervisor.request(control, {"op": "kill", "name": hosts.host_name(host)})
            cleanup.end_processes(self.known.group() / host, self.known.backing_names())
            # PID 1 has left its group while it waits for the last of its programs to be reaped.
            if first is not None:
                processes.wait_gone([first], time.monotonic() + cleanup.GONE_SECONDS)
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
            shards.revive(self.paths)
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
            cleanup.cut_connections(self.known.group() / "outside")
            cleanup.end_processes(self.known.group(), names)
        cleanup.release_loops([*names, str(self.known.pool() / "pool.img")])
        if delete:
            cleanup.remove_files(self.paths)
        else:
            # A socket that is there stands for a shard that comes back.
            sockets = self.paths.shards.glob("*.sock")
            for stale in (*self.paths.run.glob("*.pid"), self.paths.whole, *sockets):
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
