"""The real arrayd as a process, its sockets, and hosts that bind loop devices."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import trio

from tests.rig.lunfs.lunfsrig import LunfsRig
from vssemu.api import array as api
from vssemu.api.errors import decode_error
from vssemu.linux import loop
from vssemu.rpc.client_trio import Client, connect
from vssemu.vss.array import ArrayLun, LunKind, View
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId
from vssemu.vss.lun import LunInformation

MIB = 1 << 20
BLOCK = 4096
ONE, TWO, THREE = Initiator("systemOne"), Initiator("systemTwo"), Initiator("systemThree")
SCRATCH = Path("/tmp/vssemu-array")
START_SECONDS = 30.0
ENGINE = os.environ.get("VSSEMU_ENGINE", "reflink")
"""The engine that the tests of arrays run on, but for those that are about one."""


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Return the first true answer; fail when none comes in time."""
    with trio.fail_after(seconds):
        answer = await trio.to_thread.run_sync(condition)
        while not answer:
            await trio.sleep(0.01)
            answer = await trio.to_thread.run_sync(condition)
    return answer


def loops_over(path: Path) -> list[int]:
    """Return the loop devices over a file, as losetup finds them."""
    listed = subprocess.run(
        ["losetup", "-j", str(path), "--noheadings", "-O", "NAME"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [int(name.removeprefix("/dev/loop")) for name in listed.stdout.split()]


class ArrayProcess:
    """arrayd as a process over a directory of its own; with cow, above two shards."""

    def __init__(
        self,
        directory: Path,
        *,
        pool_size: int,
        fence: Path | None = None,
        engine: str = ENGINE,
        shards: int = 2,
    ) -> None:
        self.directory = directory
        self.engine = engine
        self.shards = LunfsRig(directory / "shards", shards=shards) if engine == "cow" else None
        self.run = directory / "run"
        self.pool = directory / "pool"
        self.image = self.pool / "pool.img"
        self._pool_size = pool_size
        self._fence = fence
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it serves."""
        ready, tell = os.pipe()
        argv = [sys.executable, "-m", "vssemu.daemons.arrayd", "--ready-fd", str(tell)]
        argv += ["--state", str(self.directory / "state"), "--run", str(self.run)]
        argv += ["--pool", str(self.pool), "--pool-size", str(self._pool_size)]
        argv += ["--fence", str(self._fence)] if self._fence else []
        if self.shards is not None:
            argv += ["--engine", "cow", "--shards", str(self.shards.directory)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, pass_fds=[tell], stderr=log)
        os.close(tell)
        try:
            assert select.select([ready], [], [], START_SECONDS)[0], self.log()
            assert os.read(ready, 64) == b"READY\n", self.log()
        finally:
            os.close(ready)

    def start_shards(self) -> None:
        """Start the shards, which live through restarts of arrayd."""
        if self.shards is not None:
            self.shards.directory.mkdir()
            self.shards.start()

    def close_shards(self) -> None:
        """End the shards."""
        if self.shards is not None:
            self.shards.close()
            self.shards = None

    def bytes_of(self, copy: LunId) -> Path:
        """Return the file that has a copy's bytes, seen as arrayd sees it."""
        root = Path(f"/proc/{self.pid}/root{self.pool}/root")
        return root / "luns" / copy / ("image" if self.shards is None else "store")

    @property
    def remainder(self) -> int:
        """What is left of a copy that was ended: bytes on the disk, of the head of a store."""
        return 0 if self.engine == "reflink" else BLOCK

    def restart_all(self) -> None:
        """Kill arrayd and the shards, and start all of it again."""
        self.kill()
        if self.shards is not None:
            for number in range(self.shards.shards):
                self.shards.restart(number)
        self.start()

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            assert self._process.wait(20) == 0, self.log()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def lun_directories(self) -> set[str]:
        """Return the directories of LUNs, seen through arrayd's own mount namespace."""
        return set(os.listdir(f"/proc/{self.pid}/root{self.pool}/root/luns"))

    async def admin(self) -> Client:
        return await connect(self.run / "array.sock", decode_error=decode_error)

    async def initiator(self, name: Initiator) -> Client:
        path = self.run / "hosts" / name / "array.sock"
        return await connect(path, decode_error=decode_error)


@asynccontextmanager
async def running(process: ArrayProcess) -> AsyncIterator[ArrayProcess]:
    """Run arrayd during the block and see that nothing is left of it."""
    try:
        # Not in a thread, at whose end they would be killed.
        process.start_shards()
        await trio.to_thread.run_sync(process.start)
        yield process
    finally:
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(process.stop)
            finally:
                await trio.to_thread.run_sync(process.close_shards)
            if process.image.exists():
                await until(lambda: not loops_over(process.image))


class Host:
    """What a host does over its socket, the way its fabric does it."""

    def __init__(self, name: Initiator, client: Client) -> None:
        self.name = name
        self.client = client
        self.call = client.call

    async def luns(self) -> list[LunId]:
        return [lun.id for lun in await self.call(api.luns)]

    async def open(self, lun: LunId, view: View = View.LUN, *, writable: bool = False) -> int:
        _, descriptor = await self.client.call_with_descriptor(api.attach, lun, view, writable)
        return descriptor

    async def write(self, lun: LunId, data: bytes, offset: int = 0) -> None:
        """Write to a LUN past its loop devices, which see it all the same."""
        descriptor = await self.open(lun, writable=True)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, data[written:], offset + written)
        finally:
            os.close(descriptor)

    async def read(self, lun: LunId, length: int, offset: int = 0, view: View = View.LUN) -> bytes:
        descriptor = await self.open(lun, view)
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    @asynccontextmanager
    async def bound(
        self, lun: LunId, view: View = View.LUN, *, writable: bool = True
    ) -> AsyncIterator[int]:
        """Bind a LUN to a loop device that the array gives; gives its number."""
        number = await self.call(api.reserve_device)
        backing = await self.open(lun, view, writable=writable)
        device = loop.open_device(number, os.O_RDWR if writable else os.O_RDONLY)
        try:
            loop.configure(
                device,
                backing,
                block_size=BLOCK,
                flags=loop.LoopFlag.AUTOCLEAR | loop.LoopFlag.DIRECT_IO,
            )
            os.close(backing)
            backing = -1
            yield number
        finally:
            if backing >= 0:
                os.close(backing)
            os.close(device)

    async def copy(self, *luns: LunId) -> tuple[SnapshotSetId, list[LunInformation]]:
        """Make a snapshot set, all the way."""
        set_id = SnapshotSetId(uuid4())
        await self.call(api.prepare, set_id, list(luns), LunKind.DIFFERENTIAL)
        await self.call(api.finish_prepare, set_id)
        await self.call(api.commit, set_id)
        await self.call(api.settle, set_id)
        return set_id, await self.call(api.copies_of, set_id, list(luns))


class Site:
    """An array, its administrator and three hosts."""

    def __init__(self, process: ArrayProcess, admin: Client, hosts: dict[Initiator, Host]) -> None:
        self.process = process
        self.admin = admin
        self.call = admin.call
        self.one, self.two, self.three = (hosts[name] for name in (ONE, TWO, THREE))

    async def lun(self, *hosts: Initiator, size: int = 16 * MIB) -> ArrayLun:
        """Make a LUN and unmask it."""
        lun = await self.call(api.create_lun, size)
        for host in hosts:
            await self.call(api.unmask_lun, lun.id, host, len(hosts) > 1)
        return lun

    async def states(self) -> dict[LunId, str]:
        return {lun.id: lun.state.value for lun in await self.call(api.inventory)}


@asynccontextmanager
async def connected(process: ArrayProcess) -> AsyncIterator[Site]:
    """Give the site of a running arrayd."""
    async with await process.admin() as admin:
        for name in (ONE, TWO, THREE):
            await admin.call(api.add_initiator, name)
        clients = {name: await process.initiator(name) for name in (ONE, TWO, THREE)}
        try:
            yield Site(process, admin, {n: Host(n, client) for n, client in clients.items()})
        finally:
            with trio.CancelScope(shield=True):
                for client in clients.values():
                    await client.aclose()


@contextmanager
def foreign_mount(device: int, place: Path) -> Iterator[subprocess.Popen[str]]:
    """Mount a device in a mount namespace of its own, as another host would have it."""
    place.mkdir()
    script = (
        f'mount /dev/loop{device} "{place}" && echo mounted && while read word; do $word; done'
    )
    child = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "mounted\n"
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
        child.communicate()
        place.rmdir()
