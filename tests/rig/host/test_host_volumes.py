"""Volumes on arrival, departure, restart; the attribute bits."""

import os
import uuid
from pathlib import Path

import pytest

from tests.rig.host.hostrig import CALLER, MIB, FileArray, Guard, Host, Place, eventually
from vssemu.linux import gpt, mount
from vssemu.vss.errors import BadState, ObjectAlreadyExists, ObjectNotFound, VolumeInUse
from vssemu.vss.host import SHADOW_FLAGS, DiskStatus, GptFlags
from vssemu.vss.identity import Initiator, SnapshotSetId


def mounted_at(path: Path) -> list[mount.MountFacts]:
    return [each for each in mount.mounts() if each.mount_point == path]


def overwrite(device: Path) -> None:
    fd = os.open(device, os.O_WRONLY)
    try:
        os.pwrite(fd, bytes(4096), 0)
    finally:
        os.close(fd)


async def test_a_created_volume_is_mounted_at_its_letter_over_direct_io(
    host: Host, array: FileArray
) -> None:
    lun = array.create()
    volume = await host.volume_on(lun, "F:\\")
    assert volume.letters == ("F:\\",)
    assert volume.filesystem == "ext4"
    assert volume.luns[0].extents[0].offset == MIB
    (facts,) = mounted_at(host.paths.mnt / "F")
    assert "discard" in facts.super_options
    (binding,) = host.loops_of(lun)
    link = host.paths.by_id / f"{lun.id}-part1"
    assert os.readlink(link) == f"/dev/loop{binding.number}"
    assert await host.agent.volume("f:\\") == volume
    assert await host.agent.volume(volume.name) == volume
    with pytest.raises(ObjectNotFound):
        await host.agent.volume("F:")


async def test_a_lun_that_holds_something_is_not_formatted(host: Host, array: FileArray) -> None:
    lun = array.create()
    await host.volume_on(lun)
    with pytest.raises(BadState, match="not empty"):
        await host.disks.create_volume(CALLER, lun.id, "ext4", None, None)


async def test_a_restarted_agent_adopts_what_is_mounted(
    place: Place, array: FileArray, guard: Guard
) -> None:
    lun = array.create()
    async with place.host() as first:
        volume = await first.volume_on(lun, "F:\\")
        keep = (place.paths.mnt / "F" / "file").open("w")
        (before,) = first.loops_of(lun)
    with keep:
        async with place.host() as second:
            assert [each.number for each in second.loops_of(lun)] == [before.number]
            assert len(mounted_at(place.paths.mnt / "F")) == 1
            assert (await second.agent.volume("F:\\")).name == volume.name
            keep.write("on")
            keep.flush()
            async with second.agent.hold([volume], 5.0) as held:
                pass
            assert held.seconds > 0
    async with place.host() as third:
        await third.disks.remove_access_path(CALLER, "F:\\")
        assert not mounted_at(place.paths.mnt / "F")
        await eventually(lambda: not third.loops_of(lun), what="the freed device")


async def test_a_volume_marked_while_mounted_is_adopted_all_the_same(
    place: Place, array: FileArray, guard: Guard
) -> None:
    lun = array.create()
    async with place.host() as first:
        volume = await first.volume_on(lun, "F:\\")
        await first.agent.set_flags([volume], SHADOW_FLAGS)
        assert [each.name for each in await first.agent.volumes()] == [volume.name]
    async with place.host() as second:
        (again,) = await second.agent.volumes()
        assert again.letters == ("F:\\",)
        assert again.flags == SHADOW_FLAGS
        await second.agent.set_flags([again], GptFlags.NONE)
        await second.disks.remove_access_path(CALLER, "F:\\")


@pytest.mark.parametrize(
    "bits", [GptFlags.SHADOW_COPY, GptFlags.HIDDEN, GptFlags.NO_DRIVE_LETTER, SHADOW_FLAGS]
)
async def test_a_volume_with_a_quiet_bit_is_not_mounted_on_arrival(
    host: Host, array: FileArray, bits: GptFlags
) -> None:
    lun = array.create()
    volume = await host.volume_on(lun, "F:\\")
    await host.agent.set_flags([volume], bits)
    array.mask_now(lun)
    await eventually(lambda: not mounted_at(host.paths.mnt / "F"), what="the departure")
    array.unmask_now(lun)
    await host.agent.rescan()
    assert not mounted_at(host.paths.mnt / "F")
    assert not host.loops_of(lun)
    (disk,) = await host.disks.list_disks(CALLER)
    assert disk.status is DiskStatus.HIDDEN
    await host.agent.set_flags([volume], GptFlags.NONE)
    assert mounted_at(host.paths.mnt / "F")
    await host.agent.remove([lun.information])


async def test_read_only_alone_is_mounted_read_only_over_a_read_only_device(
    host: Host, array: FileArray
) -> None:
    lun = array.create()
    volume = await host.volume_on(lun, "F:\\")
    await host.agent.set_flags([volume], GptFlags.READ_ONLY)
    await host.agent.remove([lun.information])
    await host.agent.wait_arrival([lun.information], 5.0)
    (facts,) = mounted_at(host.paths.mnt / "F")
    assert "ro" in facts.super_options
    (binding,) = host.loops_of(lun)
    with pytest.raises(PermissionError):
        overwrite(Path(f"/dev/loop{binding.number}"))
    await host.agent.remove([lun.information])


async def test_a_lun_masked_by_surprise_takes_its_mounts_along(
    host: Host, array: FileArray
) -> None:
    lun = array.create()
    await host.volume_on(lun, "F:\\")
    array.mask_now(lun)
    await eventually(lambda: not mounted_at(host.paths.mnt / "F"), what="the departure")
    assert not await host.disks.list_disks(CALLER)
    await eventually(lambda: not host.loops_of(lun), what="the freed device")


async def test_a_removed_lun_stays_away_until_it_is_awaited(host: Host, array: FileArray) -> None:
    lun = array.create()
    await host.volume_on(lun, "F:\\")
    await host.agent.remove([lun.information])
    await host.agent.rescan()
    assert not await host.disks.list_volumes(CALLER)
    (arrived,) = await host.agent.wait_arrival([lun.information], 5.0)
    assert arrived.information == lun.information
    await host.agent.remove([lun.information])
    await host.agent.remove([lun.information])


async def test_arrival_is_noticed_without_a_rescan_and_waited_for_no_longer(
    host: Host, array: FileArray
) -> None:
    lun = array.create()
    array.mask_now(lun)
    assert list(await host.agent.wait_arrival([lun.information], 0.1)) == []
    array.unmask_now(lun)
    (arrived,) = await host.agent.wait_arrival([lun.information], 5.0)
    assert arrived.device_name.endswith(lun.id)


async def test_mask_refuses_what_is_in_use_and_gives_the_rest_to_another_host(
    host: Host, array: FileArray
) -> None:
    lun = array.create()
    await host.volume_on(lun, "F:\\")
    with (host.paths.mnt / "F" / "file").open("w"), pytest.raises(VolumeInUse):
        await host.disks.mask(CALLER, lun.id)
    await host.disks.mask(CALLER, lun.id)
    assert lun.id in array.masked
    await host.disks.unmask(CALLER, lun.id, Initiator("there"))
    assert array.shared == [(lun.id, "there")]


async def test_a_letter_belongs_to_one_volume(host: Host, array: FileArray) -> None:
    await host.volume_on(array.create(), "F:\\")
    other = await host.volume_on(array.create())
    with pytest.raises(ObjectAlreadyExists):
        await host.disks.add_access_path(CALLER, other.name, "F:\\")
    folder = host.paths.mnt / "folder"
    folder.mkdir()
    assert await host.disks.add_access_path(CALLER, other.name, str(folder)) == str(folder)
    assert (await host.agent.volume(f"{folder}/")).guid == other.guid
    await host.disks.remove_access_path(CALLER, str(folder))
    await host.disks.remove_access_path(CALLER, "F:")
    assert not (host.paths.mnt / "F").exists()


async def test_the_letter_of_a_volume_that_is_gone_is_to_be_had(
    host: Host, array: FileArray
) -> None:
    gone, lun = array.create(), array.create()
    await host.volume_on(gone, "F:\\")
    await host.agent.remove([gone.information])
    volume = await host.volume_on(lun, "F:\\")
    await host.agent.wait_arrival([gone.information], 5.0)
    assert (await host.agent.volume("F:\\")).guid == volume.guid
    assert [v.letters for v in await host.agent.volumes() if v.guid != volume.guid] == [()]


async def test_new_identities_replace_every_guid(host: Host, array: FileArray) -> None:
    lun = array.create()
    volume = await host.volume_on(lun)
    copy = array.snapshot(lun)
    luns = await host.agent.wait_arrival([copy.information], 5.0)
    await host.agent.give_new_identity(luns)
    guids = {each.guid for each in await host.disks.list_volumes(CALLER)}
    assert volume.guid in guids
    assert len(guids) == 2
    with lun.path.open("rb") as one, copy.path.open("rb") as other:
        tables = [gpt.read_table(each.fileno()) for each in (one, other)]
    assert tables[0].disk_guid != tables[1].disk_guid


async def test_clean_up_gives_the_luns_of_a_failed_import_back(
    host: Host, array: FileArray
) -> None:
    lun = array.create()
    await host.agent.rescan()
    set_id = SnapshotSetId(uuid.uuid4())
    await host.agent.mark_import_failed([lun.information], set_id)
    (disk,) = await host.disks.list_disks(CALLER)
    assert disk.status is DiskStatus.IMPORT_FAILED
    with pytest.raises(BadState):
        await host.disks.mask(CALLER, lun.id)
    assert await host.disks.clean_up(CALLER, set_id) == [lun.id]
    assert array.reclaimed == [lun.id]
    assert not await host.disks.list_disks(CALLER)
    with pytest.raises(ObjectNotFound):
        await host.disks.clean_up(CALLER, set_id)
