"""What the tests of the host agent stand on: a small array over plain files, and hosts.

The array speaks io.vssemu.array.Initiator on a real socket, so the agent, the initiator and
the descriptors between them are the real ones. Hosts live below a directory of the test.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from vssemu.api.array import initiator
from vssemu.api.device_objects import device_objects
from vssemu.api.errors import encode_error
from vssemu.fabric.arraylink import ArrayLink
from vssemu.fabric.loop.initiator import open_initiator
from vssemu.fabric.loop.nodes import MachineNodes
from vssemu.host.agent import HostAgent, open_host
from vssemu.host.disks import Disks
from vssemu.host.paths import HostPaths
from vssemu.host.storage import ArrayStorage
from vssemu.host.volumes import HostVolume
from vssemu.linux import loop, mount
from vssemu.linux.credentials import PeerCredentials
from vssemu.linux.uevents import BlockMonitor
from vssemu.rpc.caller import Caller
from vssemu.rpc.interface import Interface
from vssemu.rpc.server import serve_unix
from vssemu.vss.array import ArrayLun, LunKind, LunState, View
from vssemu.vss.errors import NotSupportedHere, ObjectNotFound
from vssemu.vss.host import Volume
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId
from vssemu.vss.lun import IdentifierType, LunInformation, StorageIdentifier

MIB = 1 << 20
CALLER = Caller(PeerCredentials(pid=0, uid=0, gid=0, groups=()))


async def serve(
    path: Path,
    interface: Interface,
    implementation: object,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve one interface on a socket until cancelled."""
    await serve_unix(
        path,
        {interface: implementation},
        vendor="vssemu",
        product="test",
        version="1",
        url="about:blank",
        encode_error=encode_error,
        task_status=task_status,
    )


Guard = subprocess.Popen[bytes]


async def eventually(
    condition: Callable[[], bool], *, seconds: float = 10.0, what: str = "the condition"
) -> None:
    """Wait until a condition holds, or fail."""
    deadline = trio.current_time() + seconds
    while not condition():
        assert trio.current_time() < deadline, f"{what} did not come within {seconds} s"
        await trio.sleep(0.01)


@dataclass
class FileLun:
    id: LunId
    path: Path
    information: LunInformation
    origin: LunId | None = None
    flags: int = 0


class FileArray:
    """LUNs as plain files of one directory, all of them unmasked to the one host."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.luns_by_id: dict[LunId, FileLun] = {}
        self.masked: set[LunId] = set()
        self.reclaimed: list[LunId] = []
        self.shared: list[tuple[LunId, str]] = []
        self.independent: list[LunId] = []
        self.import_failed: list[LunId] = []
        self._changed = trio.Event()

    # What a test does at the array

    def create(self, size: int = 64 * MIB) -> FileLun:
        lun = self._new()
        with lun.path.open("wb") as image:
            image.truncate(size)
        self.prompt()
        return lun

    def snapshot(self, origin: FileLun, *, masked: bool = False) -> FileLun:
        """Copy the image as it is now, as an array does: no file system is asked."""
        lun = self._new(origin.id)
        _clone(origin.path, lun.path)
        lun.flags = origin.flags
        if masked:
            self.masked.add(lun.id)
        self.prompt()
        return lun

    def mask_now(self, lun: FileLun) -> None:
        self.masked.add(lun.id)
        self.prompt()

    def unmask_now(self, lun: FileLun) -> None:
        self.masked.discard(lun.id)
        self.prompt()

    def prompt(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def scratch_path(self, lun: FileLun) -> Path:
        return lun.path.with_suffix(".scratch")

    def _new(self, origin: LunId | None = None) -> FileLun:
        naa = uuid.uuid4().bytes
        identifier = StorageIdentifier(
            code_set=1, type=IdentifierType.FCPH_NAME, identifier=b"\x60" + naa[1:]
        )
        record = LunInformation(serial_number=uuid.uuid4().hex, identifiers=(identifier,))
        assert record.naa is not None
        path = self.directory / f"{record.naa}.img"
        lun = FileLun(id=record.naa, path=path, information=record, origin=origin)
        self.luns_by_id[lun.id] = lun
        return lun

    def _visible(self, lun: LunId) -> FileLun:
        if lun not in self.luns_by_id or lun in self.masked:
            raise ObjectNotFound(f"no LUN {lun}")
        return self.luns_by_id[lun]

    # io.vssemu.array.Initiator

    async def initiator_names(self, caller: Caller) -> list[Initiator]:
        return [Initiator("here")]

    async def luns(self, caller: Caller) -> list[ArrayLun]:
        return [
            ArrayLun(
                id=each.id,
                serial="",
                size=each.path.stat().st_size,
                allocated=0,
                kind=LunKind.BASE,
                engine="file",
                state=LunState.READY,
                origin=each.origin,
                set_id=None,
                masked_to=(Initiator("here"),),
                information=each.information,
            )
            for each in self.luns_by_id.values()
            if each.id not in self.masked
        ]

    async def attach(
        self, caller: Caller, lun: LunId, view: View, writable: bool
    ) -> tuple[int, int]:
        found = self._visible(lun)
        path = found.path
        if view is View.SCRATCH:
            path = self.scratch_path(found)
            if not path.exists():
                _clone(found.path, path)
        mode = os.O_RDWR if writable else os.O_RDONLY
        return path.stat().st_size, os.open(path, mode | os.O_CLOEXEC)

    async def discard_scratch(self, caller: Caller, lun: LunId) -> None:
        self.scratch_path(self._visible(lun)).unlink(missing_ok=True)

    async def lun_flags(self, caller: Caller, lun: LunId) -> int:
        return self._visible(lun).flags

    async def set_lun_flags(self, caller: Caller, lun: LunId, flags: int) -> None:
        self._visible(lun).flags = flags

    async def reserve_device(self, caller: Caller) -> int:
        return loop.free_number()

    async def retract(self, caller: Caller, records: list[LunInformation]) -> None:
        self.masked |= {naa_of(record) for record in records}
        self.prompt()

    async def share(self, caller: Caller, record: LunInformation, initiator: Initiator) -> None:
        self.shared.append((naa_of(record), initiator))

    async def set_independent(self, caller: Caller, records: list[LunInformation]) -> None:
        self.independent += [naa_of(record) for record in records]

    async def set_import_failed(self, caller: Caller, records: list[LunInformation]) -> None:
        self.import_failed += [naa_of(record) for record in records]

    async def reclaim(self, caller: Caller, record: LunInformation) -> None:
        self.luns_by_id.pop(naa_of(record), None)
        self.reclaimed.append(naa_of(record))

    async def watch(self, caller: Caller, reply: Callable[[None], Awaitable[None]]) -> None:
        while True:
            changed = self._changed
            await reply(None)
            await changed.wait()

    async def can_copy(self, caller: Caller, luns: list[LunId], kind: LunKind) -> bool:
        raise NotSupportedHere("can_copy")

    async def prepare(
        self,
        caller: Caller,
        set_id: SnapshotSetId,
        luns: list[LunId],
        kind: LunKind,
        auto_release: bool,
    ) -> None:
        raise NotSupportedHere("prepare")

    async def finish_prepare(self, caller: Caller, set_id: SnapshotSetId) -> None:
        raise NotSupportedHere("finish_prepare")

    async def commit(self, caller: Caller, set_id: SnapshotSetId) -> list[LunInformation]:
        raise NotSupportedHere("commit")

    async def settle(self, caller: Caller, set_id: SnapshotSetId) -> None:
        raise NotSupportedHere("settle")

    async def abort(self, caller: Caller, set_id: SnapshotSetId) -> None:
        raise NotSupportedHere("abort")

    async def copies_of(
        self, caller: Caller, set_id: SnapshotSetId, sources: list[LunId]
    ) -> list[LunInformation]:
        raise NotSupportedHere("copies_of")

    async def surface(self, caller: Caller, records: list[LunInformation]) -> None:
        raise NotSupportedHere("surface")


def is_freed(number: int) -> bool:
    """Whether a device that nobody wants any more is free within a few seconds."""
    deadline = time.monotonic() + 5
    with BlockMonitor() as events:
        while loop.sysfs_facts(number) is not None and time.monotonic() < deadline:
            select.select([events], [], [], 0.1)
            while events.receive_nowait() is not None:
                pass
    return loop.sysfs_facts(number) is None


def naa_of(record: LunInformation) -> LunId:
    assert record.naa is not None
    return record.naa


def _clone(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", source, target], check=True)


@dataclass
class Host:
    """A running host agent with what tests use of it."""

    agent: HostAgent
    paths: HostPaths
    disks: Disks = field(init=False)

    def __post_init__(self) -> None:
        self.disks = Disks(self.agent)

    async def volume_on(
        self, lun: FileLun, path: str | None = None, filesystem: str = "ext4"
    ) -> Volume:
        """Make a volume on a LUN and return its description."""
        await self.agent.rescan()
        name = await self.disks.create_volume(CALLER, lun.id, filesystem, None, path)
        return await self.agent.volume(name)

    def topology_volume(self, lun: FileLun) -> HostVolume:
        """Return the one volume on a LUN, whatever it is."""
        (volume,) = self.agent.topology.volumes_on(lun.id)
        return volume

    def loops_of(self, lun: FileLun) -> list[loop.LoopStatus]:
        status = lun.path.stat()
        return loop.bindings_of({(status.st_dev, status.st_ino)})


@dataclass
class Place:
    """Directories of one host and of the array, below a test's own directory."""

    root: Path
    guard: subprocess.Popen[bytes] | None = None

    @property
    def paths(self) -> HostPaths:
        return HostPaths(
            run=self.root / "run",
            state=self.root / "state",
            mnt=self.root / "mnt",
            dev=self.root / "dev",
            outside=self.root / "outside",
        )

    def make(self) -> None:
        for name in ("run", "state", "mnt", "dev", "outside", "pool"):
            (self.root / name).mkdir(parents=True)

    @asynccontextmanager
    async def array(self) -> AsyncIterator[FileArray]:
        """Serve an array during the block."""
        array = FileArray(self.root / "pool")
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, self.paths.array_socket, initiator, array)
            yield array
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def host(self) -> AsyncIterator[Host]:
        """Run a host agent during the block, device objects served on vss.sock."""
        link = ArrayLink(self.paths.array_socket)
        async with (
            open_initiator(link, MachineNodes()) as adapter,
            open_host(self.paths, adapter, ArrayStorage(link), machine="here") as agent,
            trio.open_nursery() as nursery,
        ):
            socket = self.paths.run / "vss.sock"
            await nursery.start(serve, socket, device_objects, agent.device_objects)
            yield Host(agent, self.paths)
            nursery.cancel_scope.cancel()
        await link.aclose()

    def start_guard(self) -> subprocess.Popen[bytes]:
        reader, writer = os.pipe()
        socket = self.paths.guard_socket
        program = [sys.executable, "-m", "vssemu.daemons.holdguard", str(socket)]
        self.guard = subprocess.Popen([*program, "--ready-fd", str(writer)], pass_fds=[writer])
        os.close(writer)
        with os.fdopen(reader) as ready:
            assert ready.read() == "READY\n"
        return self.guard

    def clean_up(self) -> list[str]:
        """Remove everything of this place; return what should not have been there."""
        left = []
        if self.guard is not None:
            self.guard.terminate()
            self.guard.wait(20)
        for each in reversed(mount.mounts()):
            if self.root in each.mount_point.parents:
                mount.unmount(each.mount_point, mount.UnmountFlag.DETACH)
        for bound in loop.bound_loops():
            if bound.backing_file.startswith(f"{self.root}/"):
                fd = loop.open_device(bound.number)
                with contextlib.suppress(OSError):
                    loop.clear(fd)
                os.close(fd)
                if not is_freed(bound.number):
                    left.append(f"loop{bound.number} over {bound.backing_file}")
        shutil.rmtree(self.root, ignore_errors=True)
        return left
