"""Volumes on whole LUNs, several on one LUN; what cannot be made, held or shown."""

import os
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from tests.rig.host.hostrig import CALLER, MIB, FileArray, FileLun, Guard, Host, Place, eventually
from vssemu.linux import gpt, loop, mount
from vssemu.vss.errors import (
    BadState,
    Fail,
    InvalidArgument,
    ObjectAlreadyExists,
    VolumeNotSupported,
)
from vssemu.vss.host import SHADOW_FLAGS, CopyToSurface, GptFlags, Volume
from vssemu.vss.identity import SnapshotId


async def make(
    host: Host,
    lun: FileLun,
    path: str | None = None,
    *,
    filesystem: str = "ext4",
    size: int | None = None,
    whole: bool = False,
) -> Volume:
    await host.agent.rescan()
    name = await host.disks.create_volume(CALLER, lun.id, filesystem, None, path, size, whole)
    return await host.agent.volume(name)


def to_surface(volume: Volume, copy: FileLun) -> CopyToSurface:
    return CopyToSurface(
        snapshot_id=SnapshotId(uuid.uuid4()),
        luns=(copy.information,),
        extents=(volume.luns[0].extents,),
        properties_json="{}",
    )


def head_of(lun: FileLun) -> bytes:
    with lun.path.open("rb") as image:
        return image.read(MIB)


def is_empty(lun: FileLun) -> bool:
    with lun.path.open("rb") as image:
        head = image.read(MIB)
        image.seek(-MIB, os.SEEK_END)
        return not any(head) and not any(image.read())


async def test_a_file_system_on_a_whole_lun_is_a_volume_with_the_luns_own_guid(
    place: Place, array: FileArray, guard: Guard
) -> None:
    lun = array.create()
    async with place.host() as first:
        volume = await make(first, lun, "F:\\", whole=True)
        (on_lun,) = volume.luns
        assert [(each.offset, each.length) for each in on_lun.extents] == [(0, 64 * MIB)]
        (binding,) = first.loops_of(lun)
        assert os.readlink(place.paths.by_id / lun.id) == f"/dev/loop{binding.number}"
        (disk,) = await first.disks.list_disks(CALLER)
        assert (disk.disk_guid, disk.volumes) == (None, (volume.name,))
        (place.paths.mnt / "F" / "file").write_text("kept")
        await first.agent.give_new_identity([on_lun.lun])
    async with place.host() as second:
        assert await second.agent.volume("F:\\") == volume
        await second.agent.remove([lun.information])
        await second.agent.wait_arrival([lun.information], 5.0)
        assert (await second.agent.volume("F:\\")).name == volume.name
        assert (place.paths.mnt / "F" / "file").read_text() == "kept"
        await second.disks.remove_access_path(CALLER, "F:\\")


async def test_the_bits_of_a_whole_lun_are_the_arrays_and_its_copy_has_those_of_its_instant(
    host: Host, array: FileArray
) -> None:
    lun = array.create()
    volume = await make(host, lun, "F:\\", whole=True)
    (Path(volume.mount_points[0]) / "file").write_text("of the instant")
    await host.agent.set_flags([volume], SHADOW_FLAGS)
    assert lun.flags == SHADOW_FLAGS
    async with host.agent.hold([volume], 10.0):
        copy = array.snapshot(lun)
    await host.agent.set_flags([volume], GptFlags.NONE)
    await host.agent.wait_arrival([copy.information], 5.0)
    assert [each.name for each in await host.agent.volumes()] == [volume.name]
    (arrived,) = [v for v in await host.disks.list_volumes(CALLER) if v.guid != volume.guid]
    assert (arrived.flags, arrived.mount_points) == (SHADOW_FLAGS, ())
    wanted = to_surface(volume, copy)
    await host.agent.surface(wanted)
    assert await host.agent.expose(wanted.snapshot_id, "X:") == "X:\\"
    assert (host.paths.mnt / "X" / "file").read_text() == "of the instant"
    await host.agent.release(wanted.snapshot_id)
    assert copy.flags == GptFlags.READ_ONLY
    await host.agent.make_read_write(wanted.snapshot_id)
    assert copy.flags == GptFlags.NONE
    assert not (host.paths.mnt / "X").exists()


async def test_a_lun_that_grew_while_nobody_looked_is_adopted_and_grows(
    place: Place, array: FileArray, guard: Guard
) -> None:
    whole, parted = array.create(), array.create()
    async with place.host() as first:
        await make(first, whole, "F:\\", whole=True)
        await make(first, parted, "G:\\")
        before = [each.number for each in first.loops_of(whole)]
    for lun in (whole, parted):
        os.truncate(lun.path, 96 * MIB)
    async with place.host() as second:
        assert (await second.agent.volume("F:\\")).size == 96 * MIB
        assert (await second.agent.volume("G:\\")).size == 62 * MIB
        assert [each.number for each in second.loops_of(whole)] == before
        facts = loop.sysfs_facts(before[0])
        assert facts is not None
        assert facts.size == 96 * MIB
        assert (await make(second, parted, "H:\\")).size == 32 * MIB
        for letter in "FGH":
            await second.disks.remove_access_path(CALLER, f"{letter}:\\")


async def test_partitions_are_put_where_there_is_room(host: Host, array: FileArray) -> None:
    lun = array.create()
    first = await make(host, lun, "F:\\", size=20 * MIB)
    second = await make(host, lun, "G:\\", size=20 * MIB)
    rest = await make(host, lun, "H:\\")
    extents = [v.luns[0].extents[0] for v in (first, second, rest)]
    assert [(e.offset // MIB, e.length // MIB) for e in extents] == [(1, 20), (21, 20), (41, 22)]
    for letter in "FGH":
        (host.paths.mnt / letter / "file").write_text(letter)
    with pytest.raises(BadState, match="room for 0 MiB, 1 are asked for"):
        await make(host, lun, size=MIB)
    with pytest.raises(BadState, match="not empty"):
        await make(host, lun, whole=True)
    whole = array.create()
    await make(host, whole, whole=True)
    for wanted in (True, False):
        with pytest.raises(BadState, match="not empty"):
            await make(host, whole, whole=wanted)
    assert len(await host.agent.volumes()) == 4
    with lun.path.open("rb") as image:
        assert [p.number for p in gpt.read_table(image.fileno()).partitions] == [1, 2, 3]


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "partition"])
async def test_a_lun_whose_formatting_failed_is_as_it_was(
    host: Host, array: FileArray, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lun, half = array.create(), array.create()
    await make(host, half, "T:\\", size=20 * MIB)
    (kept,) = await host.agent.volumes()
    table = head_of(half)
    for refused in (
        make(host, lun, filesystem="xfs", whole=whole),
        make(host, lun, filesystem="btrfs", whole=whole),
        make(host, lun, "nowhere", whole=whole),
        make(host, lun, size=MIB + 1),
        make(host, lun, size=MIB, whole=True),
    ):
        with pytest.raises(InvalidArgument) as caught:
            await refused
        assert str(caught.value).isprintable()
    with pytest.raises(ObjectAlreadyExists):
        await make(host, lun, "T:\\", whole=whole)
    assert is_empty(lun)
    monkeypatch.setattr("vssemu.host.formatting._LEAST", {"xfs": MIB, "ext4": MIB})
    for target in (lun, half):
        if target is lun or not whole:
            with pytest.raises(Fail, match=r"mkfs\.xfs"):
                await make(host, target, filesystem="xfs", whole=whole)
    assert is_empty(lun)
    assert head_of(half) == table
    assert await host.agent.volumes() == [kept]
    assert await make(host, lun, whole=not whole)


async def test_copies_of_two_volumes_of_a_lun_end_one_by_one(host: Host, array: FileArray) -> None:
    lun = array.create()
    volumes = [await make(host, lun, f"{x}:\\", size=s) for x, s in (("F", 20 * MIB), ("G", None))]
    for volume in volumes:
        (Path(volume.mount_points[0]) / "file").write_text(volume.letters[0])
    await host.agent.set_flags(volumes, SHADOW_FLAGS)
    async with host.agent.hold(volumes, 10.0):
        copy = array.snapshot(lun)
    await host.agent.set_flags(volumes, GptFlags.NONE)
    await host.agent.give_new_identity(await host.agent.wait_arrival([copy.information], 5.0))
    wanted = [to_surface(volume, copy) for volume in volumes]
    for each, letter in zip(wanted, "XY", strict=True):
        await host.agent.surface(each)
        await host.agent.expose(each.snapshot_id, f"{letter}:")
    assert [(host.paths.mnt / x / "file").read_text() for x in "XY"] == ["F:\\", "G:\\"]
    await host.agent.retire(wanted[0].snapshot_id)
    assert array.scratch_path(copy).exists()
    assert (host.paths.mnt / "Y" / "file").read_text() == "G:\\"
    gone = host.agent.topology.volumes_on(copy.id)[0]
    with pytest.raises(BadState, match="belongs to a shadow copy"):
        await host.disks.make_read_write(CALLER, gone.name)
    await host.agent.retire(wanted[1].snapshot_id)
    assert not array.scratch_path(copy).exists()


async def test_a_copy_in_several_parts_is_refused(host: Host, array: FileArray) -> None:
    lun = array.create()
    volume = await make(host, lun)
    one = to_surface(volume, lun)
    two = replace(one, luns=one.luns * 2, extents=one.extents * 2)
    split = replace(one, extents=(one.extents[0] * 2,))
    for wanted, fact in ((two, "2 parts on 2 LUNs"), (split, "2 parts on 1 LUNs")):
        with pytest.raises(VolumeNotSupported, match=fact):
            await host.agent.surface(wanted)
    assert host.agent.catalog.objects() == []


async def test_a_volume_without_a_known_file_system_cannot_be_held(
    host: Host, array: FileArray
) -> None:
    lun = array.create()
    volume = await make(host, lun)
    with lun.path.open("r+b") as image:
        image.seek(MIB)
        image.write(b"no file system" * 10000)
    array.mask_now(lun)
    await host.agent.rescan()
    array.unmask_now(lun)
    await host.agent.rescan()
    found = await host.agent.volume(volume.name)
    assert found.filesystem is None
    with pytest.raises(VolumeNotSupported, match="no file system that this host knows"):
        await host.agent.check_can_hold(found)
    with pytest.raises(VolumeNotSupported, match="no file system"):
        await host.disks.add_access_path(CALLER, volume.name, "F:\\")
    await eventually(lambda: not host.loops_of(lun), what="the freed device")


async def test_a_file_system_that_cannot_freeze_is_named(
    place: Place, host: Host, array: FileArray
) -> None:
    """A tmpfs stands in for one: no program here makes a vfat."""
    lun = array.create()
    volume = await make(host, lun, "F:\\")
    held = host.topology_volume(lun)
    directory = place.root / "memory"
    directory.mkdir()
    mount.mount("none", directory, "tmpfs")
    try:
        target = held.target()
        assert target is not None
        device = directory.stat().st_dev
        number = replace(target.device, major=os.major(device), minor=os.minor(device))
        unfit = replace(target, directory=directory, device=number)
        held.target = lambda: unfit  # type: ignore[method-assign]
        with pytest.raises(VolumeNotSupported, match="its file system, ext4, cannot be frozen"):
            await host.agent.check_can_hold(volume)
    finally:
        mount.unmount(directory)
