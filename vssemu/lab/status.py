"""How a lab stands: its hosts, its array, every process with its memory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from vssemu.api import disks as disks_api
from vssemu.lab import enter, hosts, paths, supervisor
from vssemu.lab.config import LabConfig
from vssemu.lab.known import Known
from vssemu.linux import cgroup, memory
from vssemu.linux.processes import boot_id
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import AccessDenied, VssError


class LabState(Enum):
    """Whether a lab runs, and why not."""

    RUNNING = "running"
    RESTARTED = "down since the machine restarted"
    KILLED = "not running: its processes ended"
    PARTIAL = "not brought up to the end"
    SPOILT = "not known: its record is spoilt"


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
class ShardStatus:
    """How a shard of the cow engine stands. pid: None while it does not run."""

    name: str
    pid: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessStatus:
    """A process of a lab. host: None outside the hosts. rss, pss: bytes; see `linux.memory`.

    name: the module that it runs, without its packages, or the program's name.
    """

    pid: int
    name: str
    host: str | None
    rss: int
    pss: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LabStatus:
    """How a lab stands."""

    name: str
    running: bool
    state: LabState
    engine: str
    hosts: tuple[HostStatus, ...]
    array: ArrayStatus
    shards: tuple[ShardStatus, ...]
    processes: tuple[ProcessStatus, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabSummary:
    """A lab as a list of all shows it. pool: the directory, or None for its own."""

    name: str
    state: LabState
    hosts: tuple[str, ...]
    volumes: tuple[str, ...]
    pool: str | None


def status(known: Known) -> LabStatus:
    """Return how a lab stands. Raises ObjectNotFound when there is none."""
    config = known.config()
    outside: dict[str, dict[str, Any]] = {}
    how = state(known)
    if how in {LabState.RUNNING, LabState.PARTIAL}:
        try:
            outside = supervisor.services(known.paths.supervisor_socket)
        except supervisor.SupervisorGone:
            how = LabState.KILLED if how is LabState.RUNNING else how
    return LabStatus(
        name=known.paths.name,
        running=bool(outside),
        state=how,
        engine=config.engine,
        hosts=tuple(_host(known, host) for host in config.hosts),
        array=ArrayStatus(
            pid=outside.get(hosts.ARRAY, {}).get("pid") or None,
            pool=config.pool or str(known.paths.default_pool),
        ),
        shards=tuple(
            ShardStatus(name=name, pid=facts["pid"] or None)
            for name, facts in outside.items()
            if hosts.is_shard(name)
        ),
        processes=tuple(processes(known, config)),
    )


def state(known: Known) -> LabState:
    """Return whether a lab of which there is a record runs, and why not."""
    was_whole = known.paths.whole.exists()
    if known.is_running():
        return LabState.RUNNING if was_whole else LabState.PARTIAL
    if known.last_boot() not in {None, boot_id()}:
        return LabState.RESTARTED
    return LabState.KILLED if was_whole else LabState.PARTIAL


def summary(known: Known) -> LabSummary:
    """Return a lab as a list shows it; one without a good record too."""
    try:
        config = known.config()
    except VssError:
        how = LabState.SPOILT if known.paths.config.exists() else LabState.PARTIAL
        return LabSummary(name=known.paths.name, state=how, hosts=(), volumes=(), pool=None)
    return LabSummary(
        name=known.paths.name,
        state=state(known),
        hosts=config.hosts,
        volumes=tuple(f"{each.letter}:@{config.host_of(each)}" for each in config.volumes),
        pool=config.pool,
    )


def all_labs() -> list[LabSummary]:
    """Return the labs of this machine by name, also those that do not run."""
    if os.geteuid() != 0:
        raise AccessDenied("only root runs labs", hint="run the command with sudo")
    return [summary(Known(paths.LabPaths(name=name))) for name in paths.all_labs()]


def processes(known: Known, config: LabConfig) -> Iterator[ProcessStatus]:
    """Give every process of a lab, those outside the hosts first, in the order of pids."""
    group = known.group()
    groups: list[tuple[str | None, Path]] = [(None, group / "outside")]
    groups += [(host, group / host) for host in config.hosts]
    for host, each in groups:
        for pid in sorted(cgroup.pids(each)):
            try:
                used = memory.memory_of(pid)
                name = _name(pid)
            except OSError:
                continue  # it ended under the look
            yield ProcessStatus(pid=pid, name=name, host=host, rss=used.rss, pss=used.pss)


def _name(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if words[1:2] == ["-m"]:
        return words[2].rpartition(".")[2]
    return Path(words[0]).name


def _host(known: Known, host: str) -> HostStatus:
    try:
        pid = enter.identity_of_host(known.paths, host).pid
        with known.vss(host) as vss:
            volumes = vss.call(disks_api.list_volumes)
    except (VssError, RpcError, OSError):
        # It does not run, or is just ending: either way nothing is known of it.
        pid, volumes = None, []
    letters = tuple(letter for v in volumes for letter in v.letters)
    return HostStatus(name=host, pid=pid, volumes=letters)
