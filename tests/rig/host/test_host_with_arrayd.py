"""The host agent with the real array: one process outside, descriptors over its socket."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.rig.host.hostrig import CALLER, MIB, Guard, Host, Place, eventually
from vssemu.api import array as api
from vssemu.api.errors import decode_error
from vssemu.linux import loop, mount
from vssemu.rpc.client_trio import Client, connect
from vssemu.vss.array import ArrayLun, LunKind
from vssemu.vss.errors import VolumeInUse
from vssemu.vss.host import SHADOW_FLAGS, CopyToSurface, GptFlags, Volume
from vssemu.vss.identity import Initiator, SnapshotId, SnapshotSetId

HERE = Initiator("here")


@contextmanager
def arrayd(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """Run arrayd during the block."""
    reader, writer = os.pipe()
    root = place.root
    program = [sys.executable, "-m", "vssemu.daemons.arrayd"]
    options: list[str | Path] = ["--state", root / "array", "--run", root / "arrayrun"]
    options += ["--pool", root / "pool", "--pool-size", str(1 << 30), "--ready-fd", str(writer)]
    for name in ("array", "arrayrun"):
        (root / name).mkdir(exist_ok=True)
    process = subprocess.Popen([*program, *map(str, options)], pass_fds=[writer])
    os.close(writer)
    with os.fdopen(reader) as ready:
        assert ready.read() == "READY\n"
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(30) in {0, -signal.SIGKILL}


@asynccontextmanager
async def administrator(place: Place) -> AsyncIterator[Client]:
    path = place.root / "arrayrun" / "array.sock"
    async with await connect(path, decode_error=decode_error) as client:
        yield client


@pytest.fixture
async def admin(place: Place) -> AsyncIterator[Client]:
    with arrayd(place):
        async with administrator(place) as client:
            await client.call(api.add_initiator, HERE)
            place.paths.outside.rmdir()
            place.paths.outside.symlink_to(place.root / "arrayrun" / "hosts" / HERE)
            yield client


@pytest.fixture
def guard(place: Place, admin: Client) -> Guard:
    return place.start_guard()


async def new_volume(host: Host, admin: Client, path: str) -> tuple[ArrayLun, Volume]:
    lun = await admin.call(api.create_lun, 256 * MIB)
    await admin.call(api.unmask_lun, lun.id, HERE)
    await host.agent.wait_arrival([lun.information], 5.0)
    name = await host.disks.create_volume(CALLER, lun.id, "ext4", None, path)
    return lun, await host.agent.volume(name)


async def test_the_main_flow_with_the_real_array(
    place: Place, admin: Client, guard: Guard
) -> None:
    async with (
        place.host() as host,
        await connect(place.paths.array_socket, decode_error=decode_error) as initiator,
    ):
        lun, volume = await new_volume(host, admin, "F:\\")
        (place.paths.mnt / "F" / "file").write_text("content")
        set_id = SnapshotSetId(uuid.uuid4())
        await initiator.call(api.prepare, set_id, [lun.id], LunKind.DIFFERENTIAL)
        await initiator.call(api.finish_prepare, set_id)
        await host.agent.set_flags([volume], SHADOW_FLAGS)
        async with host.agent.hold([volume], 10.0) as held:
            (record,) = await initiator.call(api.commit, set_id)
        await initiator.call(api.settle, set_id)
        await host.agent.set_flags([volume], GptFlags.NONE)
        print(f"hold with the array's commit: {held.seconds * 1000:.1f} ms")
        await initiator.call(api.surface, [record])
        luns = await host.agent.wait_arrival([record], 5.0)
        await host.agent.give_new_identity(luns)
        copy = CopyToSurface(
            snapshot_id=SnapshotId(uuid.uuid4()),
            luns=(record,),
            extents=(volume.luns[0].extents,),
            properties_json="{}",
        )
        await host.agent.surface(copy)
        await host.agent.expose(copy.snapshot_id, "X:")
        assert (place.paths.mnt / "X" / "file").read_text() == "content"
        await host.agent.retire(copy.snapshot_id)
        await host.agent.remove([record])
        await initiator.call(api.retract, [record])
        await initiator.call(api.reclaim, record)
        with pytest.raises(VolumeInUse):
            await admin.call(api.mask_lun, lun.id, HERE)
        await host.disks.mask(CALLER, lun.id)
        assert not await host.disks.list_disks(CALLER)


async def test_a_restarted_agent_finds_its_devices_with_the_real_array(
    place: Place, admin: Client, guard: Guard
) -> None:
    async with place.host() as host:
        lun, volume = await new_volume(host, admin, "F:\\")
        device = (place.paths.mnt / "F").stat().st_dev
    async with place.host() as host:
        assert (await host.agent.volume("F:\\")).name == volume.name
        bindings = [each for each in mount.mounts() if each.device.minor == os.minor(device)]
        assert len(bindings) == 1
        facts = loop.sysfs_facts(os.minor(device))
        assert facts is not None
        assert facts.direct_io
        await host.disks.mask(CALLER, lun.id)
        await eventually(lambda: loop.sysfs_facts(os.minor(device)) is None, what="freed")


async def test_a_surprise_withdrawal_is_noticed(place: Place, admin: Client, guard: Guard) -> None:
    async with place.host() as host:
        lun, _ = await new_volume(host, admin, "F:\\")
        mounted = place.paths.mnt / "F"
        await admin.call(api.mask_lun, lun.id, HERE, True)
        await eventually(lambda: not mounted.is_mount(), what="the departure")


async def test_an_array_that_is_killed_and_comes_back_is_found_again(place: Place) -> None:
    with arrayd(place) as first:
        async with administrator(place) as client:
            await client.call(api.add_initiator, HERE)
        place.paths.outside.rmdir()
        place.paths.outside.symlink_to(place.root / "arrayrun" / "hosts" / HERE)
        place.start_guard()
        async with place.host() as host:
            async with administrator(place) as client:
                lun, volume = await new_volume(host, client, "F:\\")
            first.kill()
            first.wait()
            (place.paths.mnt / "F" / "file").write_text("written without the array")
            with arrayd(place):
                await host.agent.rescan()
                async with host.agent.hold([volume], 10.0):
                    pass
                assert (await host.agent.volume("F:\\")).name == volume.name
                await host.disks.mask(CALLER, lun.id)
                async with administrator(place) as client:
                    await client.call(api.unmask_lun, lun.id, HERE)
                await eventually((place.paths.mnt / "F" / "file").exists, what="the arrival")
                await host.disks.mask(CALLER, lun.id)
