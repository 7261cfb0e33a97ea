"""Shards as real processes below a real supervisor, their control, and loop devices over views.

    with running(directory, shards=2) as rig:             # lunfs itself
        rig.serve(luns_directory)                         # every shard serves that pool
        rig.call(0, api.create, lun, 64 * MIB)
        with rig.loop(lun) as device:                     # /dev/loopN over the view
            rig.kill(0); rig.wait_ready(0)                # kill -9; the supervisor starts it anew

    with running(directory, images=files) as rig:         # the data path alone: plainserver
        with rig.loop("image") as device: ...

Nothing here can hang for good: whatever waits for a shard waits under a deadline, after which
the FUSE connections are aborted, so that all that hangs on them fails, and the test with it.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tests.rig.lunfs import plainserver
from vssemu.api import shard as api
from vssemu.api.errors import decode_error
from vssemu.lab import supervisor
from vssemu.linux import capabilities, filesystems, loop, mount
from vssemu.rpc.client import Client, connect
from vssemu.rpc.interface import Method
from vssemu.vss.errors import Fail

P = ParamSpec("P")
R = TypeVar("R")

MIB = 1 << 20
BLOCK = 4096
PATIENCE = 20.0
"""Seconds that anything may wait for a shard."""
CLOSING = 15.0
"""Seconds for cleaning up before connections are aborted."""
LOOP_FLAGS = loop.LoopFlag.AUTOCLEAR | loop.LoopFlag.DIRECT_IO


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    """Return when the condition holds. Looks every few milliseconds, under a deadline."""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as nothing:
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
            nothing.select(0.005)


def run(*command: str | Path | int, seconds: float = 60.0, check: bool = True) -> str:
    """Run a program and return what it printed; fail with its words when it does."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert not check or done.returncode == 0, f"{command}: {done.returncode} {done.stderr}"
    return done.stdout + done.stderr


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A bound loop device. fd: open for reading and writing; it is the rig's."""

    path: Path
    number: int
    fd: int

    @property
    def facts(self) -> loop.BoundLoop:
        """What /sys says of it."""
        found = loop.sysfs_facts(self.number)
        assert found is not None
        return found


class LunfsRig:
    """The supervisor, its shards, and what the test has open of them.

    directory: for logs, sockets, mount points. images: serve its files, by `plainserver`.
    arguments: further words on the command line of each shard.
    """

    def __init__(
        self,
        directory: Path,
        *,
        shards: int = 1,
        images: Path | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.shards = shards
        self._images = images
        self._arguments = arguments
        self._control = directory / "init.sock"
        self._mounts: dict[int, int] = {}
        self._minors: dict[int, set[int]] = {}
        self._luns: int | None = None
        self._is_over: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    # --- processes

    def start(self) -> None:
        """Start the supervisor and return when every shard serves."""
        services = [self._service(number) for number in range(self.shards)]
        table = {
            "socket": str(self._control),
            "logs": str(self.directory),
            "services": services,
        }
        file = self.directory / "table.json"
        file.write_text(json.dumps(table))
        with (self.directory / "init.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vssemu.daemons.init", str(file)],
                stderr=log,
                # Whatever happens to the tests, no shard outlives them.
                preexec_fn=lambda: capabilities.set_parent_death_signal(signal.SIGKILL),
            )
        wait_until(lambda: supervisor.answers(self._control), "the supervisor answers")
        for number in range(self.shards):
            self.wait_ready(number)

    def _service(self, number: int) -> dict[str, Any]:
        where = ["--number", str(number), "--socket", str(self.socket(number))]
        if self._images is not None:
            program = [str(Path(plainserver.__file__)), "--images", str(self._images)]
        else:
            program = ["-m", "vssemu_fuse.lunfs"]
        ready = ["--ready-fd", "{ready_fd}"]
        return {
            "name": self.name(number),
            "argv": [sys.executable, *program, *where, *ready, *self._arguments],
            "descriptors": 4,
            "nice": -15,
            "dies_with_me": True,
        }

    @staticmethod
    def name(shard: int) -> str:
        """Return a shard's name as a service."""
        return f"lunfs-{shard}"

    def socket(self, shard: int) -> Path:
        """Return the path of a shard's control socket, named as arrayd wants it."""
        return self.directory / f"lunfs-{shard}.sock"

    def facts(self, shard: int = 0) -> dict[str, Any]:
        """Return how a shard stands, in the supervisor's words: pid, ready, starts, kept."""
        return supervisor.services(self._control)[self.name(shard)]

    def pid(self, shard: int = 0) -> int:
        """Return the process of a shard; 0 while there is none."""
        pid: int = self.facts(shard)["pid"]
        return pid

    def log(self, shard: int = 0) -> str:
        """Return all that a shard has logged."""
        return (self.directory / f"{self.name(shard)}.log").read_text()

    def wait_ready(self, shard: int = 0) -> None:
        """Return when a shard serves its control socket."""
        try:
            supervisor.wait_ready(self._control, self.name(shard), seconds=PATIENCE)
        except Fail as error:
            raise AssertionError(f"{error}; its log: {self.log(shard)[-2000:]}") from error

    def kill(self, shard: int = 0) -> None:
        """Kill a shard by SIGKILL and return when it is dead; the next one comes by itself."""
        wait_until(lambda: self.pid(shard), "the shard runs")
        pid = self.pid(shard)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.pid(shard) != pid, "the shard is dead")

    def restart(self, shard: int = 0) -> None:
        """Kill a shard by SIGKILL and return when the next one serves."""
        self.kill(shard)
        self.wait_ready(shard)

    def stop(self, shard: int = 0) -> None:
        """Stop a shard for good: the supervisor lets go of what it kept for it."""
        supervisor.request(self._control, {"op": "stop", "name": self.name(shard)})
        wait_until(lambda: self.pid(shard) == 0, "the shard ended")

    def kill_for_good(self, shard: int = 0) -> None:
        """Kill a shard by SIGKILL; it does not come back and nothing of it is kept."""
        fields = {"op": "kill", "name": self.name(shard), "restart": False}
        supervisor.request(self._control, fields)
        wait_until(lambda: self.pid(shard) == 0, "the shard is dead")
        self._is_over.add(shard)

    @contextlib.contextmanager
    def dead(self, shard: int = 0) -> Iterator[None]:
        """Keep a shard dead during the block, its connection kept; it serves afterwards.

        It is stopped (SIGSTOP) as soon as it was started again, before it takes anything. It
        stays dead when it is killed for good meanwhile.
        """
        self.kill(shard)
        pid = 0
        try:
            wait_until(lambda: self.pid(shard), "the shard is started again")
            pid = self.pid(shard)
            os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            if shard not in self._is_over:
                if pid:
                    os.kill(pid, signal.SIGCONT)
                self.wait_ready(shard)

    # --- control

    def client(self, shard: int = 0) -> Client:
        """Return a new connection to a shard's control socket; the caller closes it."""
        return connect(self.socket(shard), decode_error=decode_error, timeout=PATIENCE)

    def call(self, shard: int, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method of a shard's control interface."""
        with self.client(shard) as client:
            return client.call(method, *args, **kwargs)

    def serve(self, luns: Path) -> None:
        """Have every shard serve a pool: the directory of the LUNs' directories."""
        self._luns = os.open(luns, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for number in range(self.shards):
            self.call(number, api.serve, os.getpid(), self._luns, self.shards)

    def mount(self, shard: int = 0) -> int:
        """Return the descriptor of a shard's mount; it is the rig's."""
        if shard not in self._mounts:
            method = api.mount if self._images is None else plainserver.mount
            with self.client(shard) as client:
                number, descriptor = client.call_with_descriptor(method)
            assert number == shard
            self._mounts[shard] = descriptor
            with self.guarded():
                minor = os.minor(os.fstat(descriptor).st_dev)
            self._minors.setdefault(shard, set()).add(minor)
        return self._mounts[shard]

    def forget_mount(self, shard: int = 0) -> None:
        """Have `mount` ask again, after a shard made a new one."""
        os.close(self._mounts.pop(shard))

    # --- files

    def path(self, name: str, shard: int = 0) -> str:
        """Return a path of a view that works in this process, as arrayd has it."""
        return f"/proc/{os.getpid()}/fd/{self.mount(shard)}/{name}"

    def open(self, name: str, shard: int = 0, flags: int = os.O_RDWR) -> int:
        """Open a view; the caller closes the descriptor."""
        directory = self.mount(shard)
        with self.guarded():
            return os.open(name, flags | os.O_CLOEXEC, dir_fd=directory)

    @contextlib.contextmanager
    def loop(self, name: str, shard: int = 0, *, writable: bool = True) -> Iterator[Device]:
        """Bind a loop device to a view during the block: direct I/O, blocks of 4096 bytes."""
        backing = self.open(name, shard, os.O_RDWR if writable else os.O_RDONLY)
        flags = LOOP_FLAGS if writable else LOOP_FLAGS | loop.LoopFlag.READ_ONLY
        bound = None
        try:
            with self.guarded():
                while bound is None:
                    bound = loop.try_bind(backing, block_size=BLOCK, flags=flags)
        finally:
            os.close(backing)
        number, fd = bound
        try:
            yield Device(path=loop.node(number), number=number, fd=fd)
        finally:
            with self.guarded(CLOSING):
                os.close(fd)
                wait_until(lambda: not self._is_ours(number), f"loop{number} is unbound")

    def _is_ours(self, number: int) -> bool:
        try:
            fd = loop.open_device(number)
        except OSError:
            return False
        try:
            minor = os.minor(loop.status(fd).device)
        except OSError:
            return False
        finally:
            os.close(fd)
        return any(minor in minors for minors in self._minors.values())

    @contextlib.contextmanager
    def mounted(self, device: Device, fstype: str = "ext4") -> Iterator[Path]:
        """Mount a device's file system during the block."""
        place = self.directory / f"mounted-{device.number}"
        place.mkdir(exist_ok=True)
        run("mount", "-t", fstype, device.path, place)
        try:
            yield place
        finally:
            self.unmount(place)

    def unmount(self, place: Path) -> None:
        """Unmount; after CLOSING seconds in spite of whoever does not answer."""
        with self.guarded(CLOSING):
            mount.unmount(place)

    # --- when nothing else helps

    @contextlib.contextmanager
    def guarded(self, seconds: float = PATIENCE) -> Iterator[None]:
        """Abort all connections when the block takes longer: what waits for shards then fails."""
        timer = threading.Timer(seconds, self.abort)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def abort(self, shard: int | None = None) -> None:
        """End the connection of a shard, or of all: every request fails, now and later."""
        control = mount.detached_mount("fusectl", None, read_only=False)
        try:
            for minor in [
                minor
                for number, minors in self._minors.items()
                if shard is None or number == shard
                for minor in minors
            ]:
                # FileNotFoundError: it has ended.
                with contextlib.suppress(FileNotFoundError):
                    fd = os.open(f"{minor}/abort", os.O_WRONLY, dir_fd=control)
                    os.write(fd, b"1")
                    os.close(fd)
        finally:
            os.close(control)

    def close(self) -> None:
        """End it all, whatever state it is in."""
        with self.guarded(CLOSING):
            for descriptor in self._mounts.values():
                os.close(descriptor)
            if self._luns is not None:
                os.close(self._luns)
            if self._process is None:
                return
            pids = [self.pid(number) for number in range(self.shards)]
            with contextlib.suppress(Fail):
                supervisor.request(self._control, {"op": "shutdown"})
            try:
                self._process.wait(CLOSING / 2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(CLOSING)
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL) if pid else None
                raise


@contextlib.contextmanager
def running(
    directory: Path,
    *,
    shards: int = 1,
    images: Path | None = None,
    arguments: tuple[str, ...] = (),
) -> Iterator[LunfsRig]:
    """Run shards during the block; see `LunfsRig`."""
    rig = LunfsRig(directory, shards=shards, images=images, arguments=arguments)
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


@contextlib.contextmanager
def xfs_pool(directory: Path, size: int = 512 * MIB) -> Iterator[Path]:
    """Make and mount an XFS pool during the block; gives its directory of LUNs' directories.

    It is to be left when no shard has a file of it open any more.
    """
    image, place = directory / "pool.img", directory / "pool"
    with image.open("xb") as file:
        file.truncate(size)
    place.mkdir()
    try:
        filesystems.make_xfs(image, timeout=60.0, allocation_groups=4)
        run("mount", "-o", "loop", image, place)
        try:
            (place / "luns").mkdir()
            yield place / "luns"
        finally:
            run("umount", place)
    finally:
        image.unlink()
