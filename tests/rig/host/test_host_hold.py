"""The hold on real ext4 volumes, and every way in which it can end."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trio
from hostrig import MIB, eventually

from vssemu.host.guard import armed
from vssemu.host.hold import Target, hold
from vssemu.linux import freeze
from vssemu.linux.blockdev import DeviceNumber
from vssemu.vss.errors import HoldWritesTimeout, ObjectNotFound, VolumeNotSupported, VssError


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

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the writer is blocked by a freeze"


def is_frozen(directory: Path) -> bool:
    """Whether the file system is frozen; a second freeze of a frozen one is refused."""
    fd = freeze.open_directory(directory)
    try:
        freeze.freeze(fd)
    except OSError as error:
        assert error.errno == errno.EBUSY
        return True
    else:
        freeze.thaw(fd)
        return False
    finally:
        os.close(fd)


@pytest.fixture
async def volume(host, array):
    return await host.volume_on(array.create(), "F:\\")


@pytest.fixture
def mounted(place, volume):
    return place.paths.mnt / "F"


def device_of(directory: Path) -> DeviceNumber:
    number = directory.stat().st_dev
    return DeviceNumber(major=os.major(number), minor=os.minor(number))


async def test_a_hold_stops_a_writer_and_lets_it_go_on(host, volume, mounted):
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
async def test_a_holder_that_dies_or_hangs_leaves_nothing_frozen(place, volume, mounted, way):
    limit, minor = 1.5, device_of(mounted).minor
    program = [sys.executable, Path(__file__).with_name("holder.py")]
    arguments = [place.paths.guard_socket, str(limit), mounted, str(minor)]
    holder = subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE)
    try:
        assert await trio.to_thread.run_sync(holder.stdout.readline) == b"held\n"
        started = time.monotonic()
        assert is_frozen(mounted)
        holder.send_signal(way)
        await eventually(lambda: not is_frozen(mounted), seconds=limit + 1, what="the thaw")
        took = time.monotonic() - started
        print(f"{way.name}: thawed after {took:.3f} s")
        assert took < (limit if way is signal.SIGKILL else limit + 0.5)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


async def test_a_guard_killed_during_the_hold_ends_it(host, guard, volume, mounted):
    with pytest.raises(HoldWritesTimeout, match="holdguard"):
        async with host.agent.hold([volume], 10.0):
            guard.kill()
            guard.wait()
            await trio.sleep_forever()
    assert not is_frozen(mounted)


async def test_without_a_guard_nothing_is_frozen(host, guard, volume, mounted):
    guard.kill()
    guard.wait()
    with pytest.raises(HoldWritesTimeout, match="no holdguard"):
        async with host.agent.hold([volume], 10.0):
            raise AssertionError("the block ran")
    assert not is_frozen(mounted)


async def test_a_hold_beyond_its_limit_is_ended_and_reported(host, volume, mounted):
    started = trio.current_time()
    with pytest.raises(HoldWritesTimeout, match="limit"):
        async with host.agent.hold([volume], 0.5):
            await trio.sleep_forever()
    assert trio.current_time() - started < 2
    assert not is_frozen(mounted)


async def test_a_hold_that_somebody_else_thawed_is_no_hold(host, volume, mounted):
    with pytest.raises(HoldWritesTimeout, match="somebody else"):
        async with host.agent.hold([volume], 10.0):
            subprocess.run(["fsfreeze", "-u", mounted], check=True)


async def test_what_is_frozen_already_is_refused_and_stays_so(host, volume, mounted):
    subprocess.run(["fsfreeze", "-f", mounted], check=True)
    try:
        with pytest.raises(HoldWritesTimeout, match="frozen already"):
            async with host.agent.hold([volume], 10.0):
                raise AssertionError("the block ran")
    finally:
        # The guard's thaw may have come first: it asks nobody who froze.
        subprocess.run(["fsfreeze", "-u", mounted], check=False, stderr=subprocess.DEVNULL)


async def test_an_error_of_the_block_comes_out_as_it_is_and_thaws(host, volume, mounted):
    with pytest.raises(ObjectNotFound, match="mine"):
        async with host.agent.hold([volume], 10.0):
            raise ObjectNotFound("mine")
    assert not is_frozen(mounted)


async def test_a_directory_that_lost_its_mount_is_never_frozen(place, guard, nursery):
    other = DeviceNumber(major=7, minor=1 << 19)
    target = Target(volume="gone", directory=place.root, device=other)
    with pytest.raises(VssError, match="not mounted there"):
        async with hold([target], 5.0, guard=place.paths.guard_socket, tasks=nursery):
            raise AssertionError("the block ran")


async def test_sigterm_to_the_guard_thaws_everything(host, guard, volume, mounted):
    fd = freeze.open_directory(mounted)
    try:
        async with armed(host.paths.guard_socket, [fd], 30.0):
            freeze.freeze(fd)
            guard.terminate()
            assert await trio.to_thread.run_sync(guard.wait, 10) == 0
            assert not is_frozen(mounted)
    finally:
        os.close(fd)


async def test_the_guard_refuses_what_is_no_directory(place, guard):
    with (place.root / "file").open("w") as file, pytest.raises(HoldWritesTimeout, match="refuse"):
        async with armed(place.paths.guard_socket, [file.fileno()], 1.0):
            raise AssertionError("the block ran")


async def test_a_volume_that_can_be_held_passes_the_probe(host, array, volume, mounted):
    await host.agent.check_can_hold(volume)
    assert not is_frozen(mounted)
    unmounted = await host.volume_on(array.create())
    with pytest.raises(VolumeNotSupported, match="not mounted"):
        await host.agent.check_can_hold(unmounted)


async def test_a_volume_with_the_catalog_on_it_is_refused(place, array, guard):
    async with place.host(array) as first:
        await first.volume_on(array.create(), "F:\\")
        own = place.paths.mnt / "F"
        for name in ("run", "state", "mnt", "dev", "outside"):
            (own / name).mkdir()
        volume = await first.agent.volume("F:\\")
        object.__setattr__(first.agent.paths, "state", own / "state")
        with pytest.raises(VolumeNotSupported, match="own"):
            await first.agent.check_can_hold(volume)
        await first.disks.remove_access_path(None, "F:\\")


async def test_sixteen_volumes_are_held_at_once(host, array):
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
