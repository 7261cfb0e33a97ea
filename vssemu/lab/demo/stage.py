"""The demo's stage: a lab of three hosts, a work directory, programs that run on hosts."""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vssemu.api import blocking
from vssemu.api import shard as shard_api
from vssemu.api.errors import decode_error
from vssemu.api.shard import ChainFacts
from vssemu.lab import enter, hosts, supervisor
from vssemu.lab.config import LabConfig, VolumeSpec
from vssemu.lab.lab import Lab
from vssemu.lab.waiting import until
from vssemu.linux import cgroup, locks, run
from vssemu.rpc import client as rpc
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import BadState, Fail, ObjectNotFound, VssError
from vssemu.vss.identity import LunId

HOSTS = ("systemOne", "systemTwo", "systemThree")
LUN_SIZE = 2 << 30
PROGRAM_SECONDS = 120.0
_LOCKS = Path("/run")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Stage:
    """A running lab and a directory that its hosts share. work: gone at the demo's end."""

    lab: Lab
    work: Path
    engine: str

    def vss(self, host: str) -> blocking.Vss:
        """Connect to a host's VSS service, as a requester on it would."""
        return blocking.connect(enter.inside(self.lab.paths, host, str(blocking.VSS_SOCKET)))

    def command(self, host: str, *argv: str | Path) -> list[str]:
        """Return the command line that runs a program on a host."""
        name = self.lab.paths.name
        own = [sys.executable, "-m", "vssemu", "lab", "exec", "--name", name]
        return [*own, host, "--", *map(str, argv)]

    def run(self, host: str, *argv: str | Path, env: dict[str, str] | None = None) -> str:
        """Run a program on a host and return what it printed. Raises ProgramFailed."""
        return run.run(self.command(host, *argv), timeout=PROGRAM_SECONDS, env=env).stdout

    def module(self, host: str, name: str, *arguments: str | Path) -> str:
        """Run a module of ours on a host and return what it printed."""
        return self.run(host, sys.executable, "-m", name, *arguments)

    @contextmanager
    def background(self, host: str, name: str, *arguments: str | Path) -> Iterator[None]:
        """Run a module of ours on a host while the block runs, then end it by SIGTERM."""
        log = (self.work / f"{name}.log").open("ab")
        child = run.spawn(
            self.command(host, sys.executable, "-m", name, *arguments),
            stdout=log.fileno(),
            stderr=log.fileno(),
        )
        try:
            yield
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(timeout=PROGRAM_SECONDS)
            log.close()

    def kill_shards(self) -> int:
        """SIGKILL every shard of the cow engine; return how many come back."""
        control = self.lab.paths.supervisor_socket
        shards = [name for name in supervisor.services(control) if hosts.is_shard(name)]
        for name in shards:
            supervisor.request(control, {"op": "kill", "name": name, "restart": True})
        return len(shards)

    def chain_facts(self, lun: LunId) -> ChainFacts:
        """Return what the cow engine has of a copy. Raises ObjectNotFound."""
        for socket in sorted(self.lab.paths.shards.glob("*.sock")):
            with (
                contextlib.suppress(ObjectNotFound),
                rpc.connect(socket, decode_error=decode_error) as client,
            ):
                return client.call(shard_api.facts, lun)
        raise ObjectNotFound(f"no shard has LUN {lun}", item=lun)

    def last_creation(self, host: str) -> dict[str, Any]:
        """Return what the host's event log says of the creation that ended last."""
        log = self.lab.paths.host_state(host) / "var/events.jsonl"
        events = [json.loads(line) for line in log.read_text().splitlines()]
        return next(e for e in reversed(events) if e["kind"] == "creation")


def _sweep(name: str, *, keep: str) -> None:
    """Remove the work directories that killed demos left."""
    for left in Path(keep).parent.glob(f"vssemu-{name}-*"):
        if left != Path(keep):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def stage(name: str, engine: str) -> Iterator[Stage]:
    """Bring the demo's lab up and take it, and its files, away at the end.

    Raises BadState when another demo is running: its lab would be taken away.
    """
    lab = Lab(name)
    with (
        _alone(name),
        _told_to_end(),
        tempfile.TemporaryDirectory(prefix=f"vssemu-{name}-") as work,
    ):
        _sweep(name, keep=work)
        lab.down()
        try:
            volume = VolumeSpec(letter="F", size=LUN_SIZE)
            lab.up(LabConfig(name=name, hosts=HOSTS, volumes=(volume,), engine=engine))
            yield Stage(lab=lab, work=Path(work), engine=engine)
        except (VssError, run.ProgramFailed, OSError, RpcError) as error:
            _keep_logs(lab, Path(work), error)
            raise
        finally:
            with _uninterrupted():
                lab.down()


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Let one demo at a time run on this machine. Raises BadState."""
    path = _LOCKS / f"vssemu-{name}.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Whoever held the lock before may have taken this file away.
        if not (locks.try_lock(fd) and path.exists() and path.samefile(f"/proc/self/fd/{fd}")):
            other = os.pread(fd, 20, 0).decode() or "just ending"
            raise BadState(f"another demo runs on this machine: process {other}")
        os.pwrite(fd, b"%d" % os.getpid(), 0)
        try:
            yield
        finally:
            path.unlink()
    finally:
        os.close(fd)


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: the lab is taken away."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let no second Ctrl-C stop the block, nor a program that it runs."""
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)


def _keep_logs(lab: Lab, work: Path, error: Exception) -> None:
    """Copy the logs, if any, to a directory that stays, and note that with the error."""
    with contextlib.suppress(VssError, OSError):
        logs = [*lab.logs(), *work.glob("*.log")]
        kept = Path(tempfile.mkdtemp(prefix="vssemu-demo-logs-"))
        error.add_note(f"logs: {kept}")
        for log in logs:
            host = log.parts[-4] if log.parts[-3:-1] == ("var", "logs") else ""
            shutil.copyfile(log, kept / "-".join(filter(None, (host, log.name))))


def leftovers(name: str) -> list[str]:
    """Return what the lab left on this machine: mounts, loop devices, groups, directories."""
    paths = Lab(name).paths
    mounts = [
        line
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if f"{paths.state}/" in line or f"{paths.run}/" in line
    ]
    loops = [
        str(path.parent.parent.name)
        for path in Path("/sys/block").glob("loop*/loop/backing_file")
        if f"{paths.state}/" in _text(path)
    ]
    base = cgroup.find_cgroup2()
    groups = [base / f"vssemu-{name}"] if base else []
    directories = [str(d) for d in (paths.state, paths.run, *groups) if d.exists()]
    return [*mounts, *loops, *directories]


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def require_programs(*programs: str) -> None:
    """Raise Fail unless the programs are installed."""
    missing = [p for p in programs if shutil.which(p) is None]
    if missing:
        raise Fail(f"{', '.join(missing)}: not installed", hint="make setup; vssemu doctor")


def wait_for(condition: Any, what: str) -> None:
    """Return when the condition holds. Raises Fail naming what did not come."""
    if not until(condition, seconds=PROGRAM_SECONDS):
        raise Fail(f"{what} did not come within {PROGRAM_SECONDS:g} s")


def is_root() -> bool:
    """Tell whether labs can be run."""
    return os.geteuid() == 0
