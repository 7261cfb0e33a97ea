"""Device objects: surfacing, the tree at the first look-up, exposing, breaking, the end."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.rig.host.hostrig import CALLER, MIB, FileArray, FileLun, Guard, Host, Place, eventually
from vssemu.linux import freeze, loop, mount
from vssemu.vss.errors import (
    BadState,
    InvalidArgument,
    MissingDisk,
    MissingVolume,
    ObjectAlreadyExists,
    ObjectNotFound,
    VssError,
)
from vssemu.vss.host import SHADOW_FLAGS, CopyToSurface, GptFlags, Volume
from vssemu.vss.identity import SnapshotId
from vssemu.vss.lun import Extent

FILES = 300


@contextmanager
def devicefs(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """The real devicefs, on the host's own socket."""
    mountpoint = place.paths.global_root
    socket = place.paths.run / "vss.sock"
    program = [sys.executable, "-m", "vssemu_fuse.devicefs"]
    options = ["--mountpoint", str(mountpoint), "--socket", str(socket)]
    process = subprocess.Popen([*program, *options])
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(20) == 0


def fill(directory: Path) -> None:
    for number in range(FILES):
        (directory / f"file{number}").write_text(f"content {number}\n")


async def another_process(*argv: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a program: the agent's own process is shown the bare directories."""
    return await trio.run_process(
        [str(word) for word in argv], capture_stdout=True, capture_stderr=True, check=False
    )


async def is_there(path: Path) -> bool:
    return (await another_process("stat", path)).returncode == 0


async def names_in(path: Path) -> set[str]:
    done = await another_process("ls", path)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.decode().split()) - {"lost+found"}


def file_says(path: Path, text: str) -> bool:
    return subprocess.run(["cat", path], capture_output=True, check=True).stdout == text.encode()


def needs_recovery(image: Path, offset: int) -> bool:
    """Whether an ext4 has a log to replay: EXT4_FEATURE_INCOMPAT_RECOVER."""
    with image.open("rb") as file:
        file.seek(offset + 1024 + 96)
        return bool(int.from_bytes(file.read(4), "little") & 0x4)


def to_surface(volume: Volume, copy: FileLun) -> CopyToSurface:
    return CopyToSurface(
        snapshot_id=SnapshotId(uuid.uuid4()),
        luns=(copy.information,),
        extents=(volume.luns[0].extents,),
        properties_json='{"device_object": "x"}',
    )


async def make_copy(
    host: Host, array: FileArray, *, held: bool, filesystem: str = "ext4"
) -> tuple[Volume, FileLun]:
    """Return an origin's volume with files, and the array's copy of its LUN."""
    lun = array.create(64 * MIB if filesystem == "ext4" else 320 * MIB)
    volume = await host.volume_on(lun, "F:\\", filesystem)
    fill(host.paths.mnt / "F")
    await host.agent.set_flags([volume], SHADOW_FLAGS)
    if held:
        async with host.agent.hold([volume], 10.0):
            copy = array.snapshot(lun)
    else:
        # Everything is on the LUN, but half of it in the log: a loss of power.
        (host.paths.mnt / "F" / "last").touch()
        fd = freeze.open_directory(host.paths.mnt / "F")
        freeze.syncfs(fd)
        os.close(fd)
        copy = array.snapshot(lun)
        if filesystem == "ext4":
            assert needs_recovery(copy.path, volume.luns[0].extents[0].offset)
    await host.agent.set_flags([volume], GptFlags.NONE)
    await host.agent.wait_arrival([copy.information], 5.0)
    return volume, copy


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
@pytest.mark.parametrize("held", [True, False], ids=["held", "crash-consistent"])
async def test_a_copy_surfaces_with_all_its_files(
    place: Place, host: Host, array: FileArray, held: bool, filesystem: str
) -> None:
    volume, copy = await make_copy(host, array, held=held, filesystem=filesystem)
    pristine = copy.path.read_bytes()
    wanted = to_surface(volume, copy)
    started = trio.current_time()
    shown = await host.agent.surface(wanted)
    print(f"{filesystem}: surfaced in {(trio.current_time() - started) * 1000:.0f} ms")
    assert shown.path == str(place.paths.global_root / "Device" / "HarddiskVolumeShadowCopy1")
    with devicefs(place):
        tree = Path(shown.path)
        await eventually(place.paths.global_root.is_mount, what="devicefs")
        names = await names_in(tree)
        assert names == {f"file{n}" for n in range(FILES)} | ({"last"} if not held else set())
        assert (await another_process("cat", tree / "file7")).stdout == b"content 7\n"
        assert b"Read-only" in (await another_process("touch", tree / "new")).stderr
        raw = tree.parent.parent / "RawDevice" / tree.name
        number = os.minor((await trio.to_thread.run_sync(raw.stat)).st_rdev)
        facts = loop.sysfs_facts(number)
        assert facts is not None
        assert facts.read_only
        scratch = array.scratch_path(copy).stat()
        assert copy.path.read_bytes() == pristine
        await host.agent.retire(wanted.snapshot_id)
        assert not await is_there(tree)
        assert not await is_there(raw)
    assert not array.scratch_path(copy).exists()
    # The inode's number may be another file's by now, bound by somebody else.
    left = loop.bindings_of({(scratch.st_dev, scratch.st_ino)})
    assert not [each for each in left if each.offset]


async def test_the_copy_of_a_volume_is_no_volume_of_its_host(host: Host, array: FileArray) -> None:
    volume, copy = await make_copy(host, array, held=True)
    assert [each.name for each in await host.agent.volumes()] == [volume.name]
    assert len(await host.disks.list_volumes(CALLER)) == 2
    assert (await host.agent.volume("F:\\")).luns[0].lun_id != copy.id


async def test_nothing_open_of_a_retired_copy_can_be_read(
    place: Place, host: Host, array: FileArray
) -> None:
    volume, copy = await make_copy(host, array, held=True)
    wanted = to_surface(volume, copy)
    await host.agent.surface(wanted)
    assert await host.agent.expose(wanted.snapshot_id, "X:") == "X:\\"
    tree = place.paths.mnt / "X"
    opened = [os.open(tree / "file1", os.O_RDONLY), os.open(tree / "file2", os.O_RDONLY)]
    directory = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    (facts,) = [each for each in mount.mounts() if each.mount_point == tree]
    raw = os.open(f"/dev/loop{facts.device.minor}", os.O_RDONLY)
    try:
        assert os.pread(opened[0], 100, 0) == b"content 1\n"
        await host.agent.retire(wanted.snapshot_id)
        assert not tree.exists()
        for fd in opened:
            with pytest.raises(OSError, match="Input/output error"):
                os.pread(fd, 100, 0)
        # ext4 says ENOMEM when the block of an inode lies beyond the end of the device.
        with pytest.raises(OSError, match=r"error|memory"):
            os.open("file3", os.O_RDONLY, dir_fd=directory)
        assert os.pread(raw, 4096, 1 << 20) == b""
    finally:
        for fd in (*opened, directory, raw):
            os.close(fd)
    await host.agent.retire(wanted.snapshot_id)


async def test_a_surfaced_copy_is_there_again_after_a_restart(
    place: Place, array: FileArray, guard: Guard
) -> None:
    async with place.host() as first:
        volume, copy = await make_copy(first, array, held=True)
        wanted = to_surface(volume, copy)
        shown = await first.agent.surface(wanted)
        await first.agent.expose(wanted.snapshot_id, "X:")
        scratch = array.scratch_path(copy).stat()
        bindings = loop.bindings_of({(scratch.st_dev, scratch.st_ino)})
    async with place.host() as second:
        assert loop.bindings_of({(scratch.st_dev, scratch.st_ino)}) == bindings
        assert len([m for m in mount.mounts() if m.mount_point == place.paths.mnt / "X"]) == 1
        assert await second.agent.surface(wanted) == shown
        with devicefs(place):
            await eventually(place.paths.global_root.is_mount, what="devicefs")
            assert "file1" in await names_in(Path(shown.path))
            await second.agent.unexpose(wanted.snapshot_id)
            with pytest.raises(ObjectNotFound):
                await second.agent.unexpose(wanted.snapshot_id)
            await second.agent.retire(wanted.snapshot_id)
        other = await second.agent.surface(to_surface(volume, copy))
        assert other.number == shown.number + 1
        await second.agent.remove([copy.information])
        await second.disks.remove_access_path(CALLER, "F:\\")


async def test_a_restarted_devicefs_shows_the_trees_again(
    place: Place, host: Host, array: FileArray
) -> None:
    volume, copy = await make_copy(host, array, held=True)
    wanted = to_surface(volume, copy)
    shown = await host.agent.surface(wanted)
    for _ in range(2):
        with devicefs(place):
            await eventually(place.paths.global_root.is_mount, what="devicefs")
            assert "file1" in await names_in(Path(shown.path))
    await host.agent.retire(wanted.snapshot_id)


async def test_a_broken_copy_is_a_plain_volume_and_its_object_still_reads(
    place: Place, host: Host, array: FileArray
) -> None:
    volume, copy = await make_copy(host, array, held=True)
    wanted = to_surface(volume, copy)
    shown = await host.agent.surface(wanted)
    (lun,) = await host.agent.wait_arrival([copy.information], 5.0)
    await host.agent.give_new_identity([lun])
    with pytest.raises(BadState, match="belongs to a shadow copy"):
        await host.disks.make_read_write(CALLER, host.topology_volume(copy).name)
    await host.agent.release(wanted.snapshot_id)
    assert array.independent == [copy.id]
    (broken,) = [e for e in await host.agent.volumes() if e.luns[0].lun_id == copy.id]
    assert broken.flags == GptFlags.READ_ONLY
    assert broken.mount_points == ()
    with devicefs(place):
        await eventually(place.paths.global_root.is_mount, what="devicefs")
        assert "file1" in await names_in(Path(shown.path))
        await host.disks.make_read_write(CALLER, broken.name)
        assert not await is_there(Path(shown.path))
    await host.disks.add_access_path(CALLER, broken.name, "G:\\")
    assert (place.paths.mnt / "G" / "file1").read_text() == "content 1\n"
    (place.paths.mnt / "G" / "new").write_text("written")
    await host.disks.mask(CALLER, copy.id)
    assert copy.id in array.masked


async def test_a_lun_that_vanishes_takes_its_device_object_down_and_brings_it_back(
    place: Place, host: Host, array: FileArray
) -> None:
    volume, copy = await make_copy(host, array, held=True)
    wanted = to_surface(volume, copy)
    shown = await host.agent.surface(wanted)
    with devicefs(place):
        tree = Path(shown.path)
        await eventually(place.paths.global_root.is_mount, what="devicefs")
        assert "file1" in await names_in(tree)
        array.mask_now(copy)
        await host.agent.rescan()
        assert not await is_there(tree)
        array.unmask_now(copy)
        await host.agent.rescan()
        assert "file1" in await names_in(tree)
        await host.agent.retire(wanted.snapshot_id)


async def test_properties_are_replaced_and_shown(
    place: Place, host: Host, array: FileArray
) -> None:
    volume, copy = await make_copy(host, array, held=True)
    wanted = to_surface(volume, copy)
    shown = await host.agent.surface(wanted)
    with devicefs(place):
        await eventually(place.paths.global_root.is_mount, what="devicefs")
        file = place.paths.global_root / "Properties" / Path(shown.path).name
        await host.agent.update_properties(wanted.snapshot_id, '{"a": "b"}')
        shows = partial(file_says, file, '{"a": "b"}')
        await eventually(shows, seconds=5, what="the new properties")
        await host.agent.retire(wanted.snapshot_id)
    with pytest.raises(ObjectNotFound):
        await host.agent.update_properties(wanted.snapshot_id, "{}")


async def test_what_is_missing_is_named(host: Host, array: FileArray) -> None:
    volume, copy = await make_copy(host, array, held=True)
    elsewhere = CopyToSurface(
        snapshot_id=SnapshotId(uuid.uuid4()),
        luns=(copy.information,),
        extents=((Extent(offset=4096, length=4096),),),
        properties_json="{}",
    )
    with pytest.raises(MissingVolume, match=copy.id):
        await host.agent.surface(elsewhere)
    await host.agent.remove([copy.information])
    with pytest.raises(MissingDisk, match=copy.id):
        await host.agent.surface(to_surface(volume, copy))


async def test_a_copy_is_exposed_at_one_free_place(
    place: Place, host: Host, array: FileArray
) -> None:
    volume, copy = await make_copy(host, array, held=True)
    wanted = to_surface(volume, copy)
    await host.agent.surface(wanted)
    full = place.root / "full"
    full.mkdir()
    (full / "file").touch()
    for target, error in (
        ("F:", ObjectAlreadyExists),
        (str(full), InvalidArgument),
        (str(place.root / "absent"), InvalidArgument),
        ("nonsense", InvalidArgument),
    ):
        with pytest.raises(error):
            await host.agent.expose(wanted.snapshot_id, target)
    empty = place.root / "empty"
    empty.mkdir()
    assert await host.agent.expose(wanted.snapshot_id, str(empty)) == f"{empty}/"
    assert (empty / "file1").exists()
    with pytest.raises(OSError, match="Read-only"):
        (empty / "new").touch()
    with pytest.raises(ObjectAlreadyExists):
        await host.agent.expose(wanted.snapshot_id, "Y:")
    await host.agent.unexpose(wanted.snapshot_id)
    assert not any(empty.iterdir())
    await host.agent.retire(wanted.snapshot_id)


async def test_a_copy_without_a_file_system_gets_no_device_object(
    host: Host, array: FileArray
) -> None:
    volume, copy = await make_copy(host, array, held=True)
    with copy.path.open("r+b") as image:
        image.seek(volume.luns[0].extents[0].offset)
        image.write(bytes(1 << 20))
    with pytest.raises(VssError, match="no file system"):
        await host.agent.surface(to_surface(volume, copy))
    assert not host.agent.catalog.objects()
