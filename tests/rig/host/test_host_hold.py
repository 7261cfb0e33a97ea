"""The hold on real ext4 volumes, and every way in which it can end."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import pytest
import trio

from tests.rig.host.hostrig import CALLER, MIB, FileArray, Guard, Host, Place, eventually
from vssemu.host.guard import armed
from vssemu.host.hold import Target, hold
from vssemu.linux import freeze
from vssemu.linux.blockdev import DeviceNumber
from vssemu.vss.errors import HoldWritesTimeout, ObjectNotFound, VolumeNotSupported, VssError
from vssemu.vss.host import Volume


class Writer:
    """A thread that writes without end; `count` stands still while writes are held."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with self.path.open("wb", buffering=0) as file:
            while not self._over.is_set():
                os.pwrite(file.fileno(), os.urandom(4096), 0)
                self.count += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the writer is blocked by a freeze"


def is_frozen(directory: Path) -> bool:
    """Whether the file system is frozen; a second freeze of a frozen one is refused."""
    fd = freeze.open_directory(directory)
    try:
        freeze.freeze(fd)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    else:
        freeze.thaw(fd)
        return False
    finally:
        os.close(fd)


@pytest.fixture
async def volume(host: Host, array: FileArray) -> Volume:
    return await host.volume_on(array.create(), "F:\\")


@pytest.fixture
def mounted(place: Place, volume: Volume) -> Path:
    return place.paths.mnt / "F"


def device_of(directory: Path) -> DeviceNumber:
    number = directory.stat().st_dev
    return DeviceNumber(major=os.major(number), minor=os.minor(number))


async def test_a_hold_stops_a_writer_and_lets_it_go_on(
    host: Host, volume: Volume, mounted: Path
) -> None:
    with Writer(mounted / "file") as writer:
        await eventually(lambda: writer.count > 10, what="the writer")
        async with host.agent.hold([volume], 10.0) as held:
            assert is_frozen(mounted)
            before = writer.count
            await trio.sleep(0.2)
            assert writer.count <= before + 1
            assert held.seconds == 0.0
        after = writer.count
        assert 0.2 <= held.seconds < 1
        await eventually(lambda: writer.count > after + 10, what="the thawed writer")


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_holder_that_dies_or_hangs_leaves_nothing_frozen(
    place: Place, volume: Volume, mounted: Path, way: signal.Signals
) -> None:
    limit, minor = 1.5, device_of(mounted).minor
    program = [sys.executable, str(Path(__file__).with_name("holder.py"))]
    arguments = [str(place.paths.guard_socket), str(limit), str(mounted), str(minor)]
    holder = await trio.lowlevel.open_process([*program, *arguments], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        assert (await holder.stdout.receive_some(5)).startswith(b"held")
        started = time.monotonic()
        assert is_frozen(mounted)
        holder.send_signal(way)
        await eventually(lambda: not is_frozen(mounted), seconds=limit + 1, what="the thaw")
        took = time.monotonic() - started
        print(f"{way.name}: thawed after {took:.3f} s")
        assert took < (limit if way is signal.SIGKILL else limit + 0.5)
    finally:
        holder.kill()
        await holder.wait()
        await holder.stdout.aclose()


async def test_a_guard_killed_during_the_hold_ends_it(
    host: Host, guard: Guard, volume: Volume, mounted: Path
) -> None:
    async def until_the_guard_dies() -> None:
        async with host.agent.hold([volume], 10.0):
            guard.kill()
            guard.wait()
            await trio.sleep_forever()

    with pytest.raises(HoldWritesTimeout, match="holdguard"):
        await until_the_guard_dies()
    assert not is_frozen(mounted)


async def test_without_a_guard_nothing_is_frozen(
    host: Host, guard: Guard, volume: Volume, mounted: Path
) -> None:
    guard.kill()
    guard.wait()
    with pytest.raises(HoldWritesTimeout, match="no holdguard"):
        async with host.agent.hold([volume], 10.0):
            raise AssertionError("the block ran")
    assert not is_frozen(mounted)


async def test_a_hold_beyond_its_limit_is_ended_and_reported(
    host: Host, volume: Volume, mounted: Path
) -> None:
    started = trio.current_time()
    with pytest.raises(HoldWritesTimeout, match="limit"):
        async with host.agent.hold([volume], 0.5):
            await trio.sleep_forever()
    assert trio.current_time() - started < 2
    assert not is_frozen(mounted)


async def test_a_hold_that_somebody_else_thawed_is_no_hold(
    host: Host, volume: Volume, mounted: Path
) -> None:
    with pytest.raises(HoldWritesTimeout, match="somebody else"):
        async with host.agent.hold([volume], 10.0):
            await trio.run_process(["fsfreeze", "-u", str(mounted)])


async def test_what_is_frozen_already_is_refused_and_stays_so(
    host: Host, volume: Volume, mounted: Path
) -> None:
    await trio.run_process(["fsfreeze", "-f", str(mounted)])
    try:
        with pytest.raises(HoldWritesTimeout, match="frozen already"):
            async with host.agent.hold([volume], 10.0):
                raise AssertionError("the block ran")
    finally:
        # The guard's thaw may have come first: it asks nobody who froze.
        again = ["fsfreeze", "-u", str(mounted)]
        await trio.run_process(again, check=False, stderr=subprocess.DEVNULL)


async def test_an_error_of_the_block_comes_out_as_it_is_and_thaws(
    host: Host, volume: Volume, mounted: Path
) -> None:
    with pytest.raises(ObjectNotFound, match="mine"):
        async with host.agent.hold([volume], 10.0):
            raise ObjectNotFound("mine")
    assert not is_frozen(mounted)


async def test_a_cancelled_hold_thaws_at_once(host: Host, volume: Volume, mounted: Path) -> None:
    with trio.move_on_after(0.3) as scope:
        async with host.agent.hold([volume], 10.0):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not is_frozen(mounted)


async def test_a_directory_that_lost_its_mount_is_never_frozen(
    place: Place, guard: Guard, nursery: trio.Nursery
) -> None:
    other = DeviceNumber(major=7, minor=1 << 19)
    target = Target(volume="gone", directory=place.root, device=other)
    with pytest.raises(VssError, match="not mounted there"):
        async with hold([target], 5.0, guard=place.paths.guard_socket, tasks=nursery):
            raise AssertionError("the block ran")


async def test_sigterm_to_the_guard_thaws_everything(
    host: Host, guard: Guard, volume: Volume, mounted: Path
) -> None:
    fd = freeze.open_directory(mounted)
    try:
        async with armed(host.paths.guard_socket, [fd], 30.0):
            freeze.freeze(fd)
            guard.terminate()
            assert await trio.to_thread.run_sync(guard.wait, 10) == 0
            assert not is_frozen(mounted)
    finally:
        os.close(fd)


async def test_the_guard_refuses_what_is_no_directory(place: Place, guard: Guard) -> None:
    with (place.root / "file").open("w") as file, pytest.raises(HoldWritesTimeout, match="refuse"):
        async with armed(place.paths.guard_socket, [file.fileno()], 1.0):
            raise AssertionError("the block ran")


async def test_a_volume_that_can_be_held_passes_the_probe(
    host: Host, array: FileArray, volume: Volume, mounted: Path
) -> None:
    await host.agent.check_can_hold(volume)
    assert not is_frozen(mounted)
    unmounted = await host.volume_on(array.create())
    with pytest.raises(VolumeNotSupported, match="not mounted"):
        await host.agent.check_can_hold(unmounted)


async def test_a_volume_with_the_catalog_on_it_is_refused(
    place: Place, array: FileArray, guard: Guard
) -> None:
    async with place.host() as first:
        await first.volume_on(array.create(), "F:\\")
        own = place.paths.mnt / "F"
        for name in ("run", "state", "mnt", "dev", "outside"):
            (own / name).mkdir()
        volume = await first.agent.volume("F:\\")
        object.__setattr__(first.agent.paths, "state", own / "state")
        with pytest.raises(VolumeNotSupported, match="own"):
            await first.agent.check_can_hold(volume)
        await first.disks.remove_access_path(CALLER, "F:\\")


async def test_sixteen_volumes_are_held_at_once(host: Host, array: FileArray) -> None:
    volumes = []
    for number in range(16):
        letter = chr(ord("F") + number)
        volumes.append(await host.volume_on(array.create(32 * MIB), f"{letter}:\\"))
        (host.paths.mnt / letter / "dirty").write_bytes(os.urandom(2 * MIB))
    async with host.agent.hold(volumes, 10.0) as held:
        pass
    print(f"16 volumes, 2 MiB dirty each: held {held.seconds * 1000:.1f} ms")
    assert held.seconds < 2
    async with host.agent.hold(volumes, 10.0) as held:
        pass
    print(f"16 volumes, idle: held {held.seconds * 1000:.1f} ms")
