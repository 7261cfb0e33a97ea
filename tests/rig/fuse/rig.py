"""What the devicefs tests stand on: ext4 images on read-only loops, and the daemon."""

import contextlib
import itertools
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vssemu.lab import supervisor
from vssemu.linux import loop, mount

PATIENCE = 30.0
_SOCKETS = itertools.count()
OPERATORS_GID = 54321
READ_ONLY_LOOP = loop.LoopFlag.READ_ONLY | loop.LoopFlag.AUTOCLEAR | loop.LoopFlag.DIRECT_IO


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds. Looks every few milliseconds, under a deadline."""
    deadline = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as nothing:
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
            nothing.select(0.005)


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done


def mounted_for(device: Path) -> list[str]:
    """Return the processes that see a mount of a device, whatever their mount namespace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f" {device} " in (process / "mountinfo").read_text():
                found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
    return found


class RawDevice:
    """An ext4 file system in a sparse file, bound read-only to a loop device."""

    def __init__(self, directory: Path, name: str, tree: Path, *, size: int = 64 << 20) -> None:
        self.image = directory / f"{name}.img"
        self.size = size
        with self.image.open("wb") as file:
            file.truncate(size)
        run("mkfs.ext4", "-q", "-b", "4096", "-d", tree, self.image)
        backing = os.open(self.image, os.O_RDONLY | os.O_CLOEXEC)
        bound = None
        try:
            while bound is None:
                bound = loop.try_bind(backing, block_size=4096, flags=READ_ONLY_LOOP)
        finally:
            os.close(backing)
        self.minor, self._fd = bound
        self.node = Path(f"/dev/loop{self.minor}")

    def facts(self, number: int, **properties: Any) -> dict[str, Any]:
        members = {"m_SnapshotId": f"id-{number}", "m_lSnapshotsCount": 1, **properties}
        return {
            "number": number,
            "size": self.size,
            "raw_major": loop.MAJOR,
            "raw_minor": self.minor,
            "properties": json.dumps(members),
        }

    def let_go(self) -> None:
        """Close the device, as a service does that is killed."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def is_bound(self) -> bool:
        """Tell whether a loop device has the image."""
        image = os.stat(self.image)
        return any(
            os.path.samestat(os.stat(each.backing_file), image)
            for each in loop.bound_loops()
            if os.path.exists(each.backing_file)
        )

    def close(self) -> None:
        self.let_go()
        try:
            wait_until(lambda: not self.is_bound(), f"{self.node} is unbound")
        except AssertionError as error:
            error.add_note(f"mounted in the mount namespaces of {mounted_for(self.node)}")
            raise


class Daemon:
    """A devicefs process and a service for it; see `service.py` for the commands."""

    def __init__(self, directory: Path, mountpoint: Path, *, limit: float = 10.0) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        self._socket = ours
        self._file = ours.makefile("rwb")
        self._log = directory / "log"
        self.mountpoint = mountpoint
        self.revision = 0
        self._pings = 0
        self.events: list[dict[str, int]] = []
        path = directory / f"vss{next(_SOCKETS)}.sock"
        where: list[str | Path] = ["--mountpoint", mountpoint, "--socket", path]
        service = [sys.executable, Path(__file__).with_name("service.py"), *where]
        service += ["--control", str(theirs.fileno())]
        devicefs = [sys.executable, "-m", "vssemu_fuse.devicefs", *where]
        devicefs += ["--group", str(OPERATORS_GID), "--surface-limit", str(limit)]
        with (directory / "service.log").open("ab") as service_log:
            self._service = subprocess.Popen(
                service, pass_fds=[theirs.fileno()], stderr=service_log
            )
        theirs.close()
        self.process = self._start(directory, [str(each) for each in devicefs])

    def _start(self, directory: Path, devicefs: list[str]) -> "subprocess.Popen[bytes]":
        """Start devicefs and return the process to be stopped at the end."""
        with self._log.open("ab") as log:
            return subprocess.Popen(devicefs, stderr=log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def tell(self, **command: Any) -> None:
        self._file.write(json.dumps(command).encode() + b"\n")
        self._file.flush()

    def publish(self, *copies: dict[str, Any]) -> None:
        """Make these the copies; return when the names are in force."""
        self.revision += 1
        self.tell(list=copies, revision=self.revision)
        self.wait_event(settled=self.revision)

    def wait_log(self, words: str) -> None:
        wait_until(lambda: words in self.log, f"{words} is in the log")

    def wait_event(self, **event: int) -> None:
        while event not in self.events:
            line = self._file.readline()
            assert line, f"the daemon ended: {self.log}"
            self.events.append(json.loads(line))

    def count(self, **event: int) -> int:
        """Return how often the daemon reported this event up to now."""
        self._pings += 1
        self.tell(ping=self._pings)
        self.wait_event(pong=self._pings)
        return self.events.count(event)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop_service(self) -> None:
        """Kill the service; nobody tells devicefs any more."""
        self._service.kill()
        self._service.wait(PATIENCE)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def close(self) -> None:
        for each in (self.process, self._service):
            each.kill()
            each.wait(PATIENCE)
        self._file.close()
        self._socket.close()


class KeptDaemon(Daemon):
    """A devicefs below the supervisor that is PID 1 of a host, and the service.

    `process` is the supervisor. `kill` kills devicefs, which comes back by itself.
    """

    _control: Path

    def _start(self, directory: Path, devicefs: list[str]) -> "subprocess.Popen[bytes]":
        self._control = directory / "init.sock"
        spec = {
            "name": "devicefs",
            "argv": [*devicefs, "--ready-fd", "{ready_fd}"],
            "descriptors": 100,
        }
        table = {"socket": str(self._control), "logs": str(directory), "services": [spec]}
        self._log = directory / "devicefs.log"
        file = directory / "table.json"
        file.write_text(json.dumps(table))
        command = [sys.executable, "-m", "vssemu.daemons.init", str(file)]
        with (directory / "init.log").open("ab") as log:
            started = subprocess.Popen(command, stderr=log)
        wait_until(lambda: supervisor.answers(self._control), "the supervisor answers")
        return started

    def facts(self) -> dict[str, Any]:
        """Return how devicefs stands."""
        return supervisor.services(self._control)["devicefs"]

    def kill(self) -> None:
        """Kill devicefs, serving or not, and return when it is dead; the next one comes."""
        wait_until(lambda: self.facts()["pid"] != 0, "devicefs runs")
        facts = self.facts()
        os.kill(facts["pid"], signal.SIGKILL)
        wait_until(lambda: self.facts()["pid"] != facts["pid"], "devicefs is dead")

    def wait_ready(self) -> None:
        """Return when devicefs serves."""
        supervisor.wait_ready(self._control, "devicefs", seconds=PATIENCE)

    def close(self) -> None:
        """End all, the supervisor first, so that nothing is started any more."""
        pid = 0 if self.process.poll() is not None else self.facts()["pid"]
        self.process.kill()
        if pid:
            os.kill(pid, signal.SIGKILL)
        super().close()

    def tell_supervisor(self, **request: Any) -> None:
        supervisor.request(self._control, {"name": "devicefs", **request})


class Rig:
    """A directory with a mount point, and all that must be gone at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mountpoint = directory / "GLOBALROOT"
        self.mountpoint.mkdir()
        self.tree = directory / "tree"
        self._devices: list[RawDevice] = []
        self._daemons: list[Daemon] = []
        self._started: list[subprocess.Popen[str]] = []
        (self.tree / "folder").mkdir(parents=True)
        (self.tree / "hello.txt").write_text("hello\n")
        (self.tree / "folder" / "random.bin").write_bytes(os.urandom(3 << 20))

    def raw_device(self, name: str = "copy", *, size: int = 64 << 20) -> RawDevice:
        device = RawDevice(self.directory, name, self.tree, size=size)
        self._devices.append(device)
        return device

    def daemon(self, *, limit: float = 10.0) -> Daemon:
        daemon = Daemon(self.directory, self.mountpoint, limit=limit)
        self._daemons.append(daemon)
        return daemon

    def kept_daemon(self, *, limit: float = 10.0) -> KeptDaemon:
        daemon = KeptDaemon(self.directory, self.mountpoint, limit=limit)
        self._daemons.append(daemon)
        return daemon

    def path(self, view: str, number: int = 1) -> Path:
        return self.mountpoint / view / f"HarddiskVolumeShadowCopy{number}"

    def mounts(self, fstype: str = "") -> list[mount.MountFacts]:
        return [
            each
            for each in mount.mounts()
            if each.mount_point.is_relative_to(self.directory) and fstype in each.fstype
        ]

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        """Start a program with pipes; it is killed at the end of the test at the latest."""
        pipe = subprocess.PIPE
        started = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self._started.append(started)
        return started

    def close(self) -> None:
        for daemon in self._daemons:
            daemon.close()
        for each in self._started:
            each.kill()
            each.communicate(timeout=PATIENCE)
        while left := self.mounts():
            mount.unmount(left[0].mount_point, mount.UnmountFlag.DETACH)
        for device in self._devices:
            device.close()
        shutil.rmtree(self.directory)
