"""The administrator's LUNs and what hosts see of them, through the real arrayd."""

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.rig.array.arrayrig import MIB, ONE, THREE, TWO, Site, foreign_mount, loops_over, until
from vssemu.api import array as api
from vssemu.linux import filesystems, freeze, loop, mount
from vssemu.vss.array import LunKind, View
from vssemu.vss.errors import (
    BadState,
    InsufficientStorage,
    InvalidArgument,
    ObjectNotFound,
    VolumeInUse,
)
from vssemu.vss.identity import Initiator, LunId

NOBODYS = LunId("naa.6" + "0" * 31)


async def test_a_new_lun_is_thin_ready_and_seen_by_nobody(site: Site) -> None:
    lun = await site.lun(size=64 * MIB)
    assert (lun.size, lun.allocated, lun.state.value, lun.masked_to) == (
        64 * MIB,
        0,
        "ready",
        (),
    )
    assert lun.information.naa == lun.id
    assert await site.call(api.inventory) == [lun]
    assert await site.one.luns() == []
    assert site.process.lun_directories() == {lun.id}


async def test_an_id_is_not_given_again_after_a_delete(site: Site) -> None:
    seen = set()
    for _ in range(3):
        lun = await site.lun()
        seen |= {lun.id, lun.serial}
        await site.call(api.delete_lun, lun.id)
    assert len(seen) == 6
    assert site.process.lun_directories() == set()
    with pytest.raises(ObjectNotFound):
        await site.call(api.delete_lun, lun.id)


@pytest.mark.parametrize("size", [0, -MIB, MIB - 1, MIB + 512, 65 << 40])
async def test_a_size_that_a_lun_cannot_have_is_refused(site: Site, size: int) -> None:
    with pytest.raises(InvalidArgument):
        await site.call(api.create_lun, size)
    assert await site.call(api.inventory) == []


async def test_only_hosts_that_a_lun_is_unmasked_to_reach_it(site: Site) -> None:
    lun = await site.lun(ONE)
    assert await site.one.luns() == [lun.id]
    await site.one.write(lun.id, b"of systemOne")
    assert await site.one.read(lun.id, 12) == b"of systemOne"
    assert await site.two.luns() == []
    for host in (site.two, site.three):
        with pytest.raises(ObjectNotFound, match="unmasked"):
            await host.open(lun.id)


async def test_a_host_knows_itself_by_its_socket(site: Site) -> None:
    assert await site.two.call(api.initiator_names) == [TWO]


async def test_a_descriptor_that_was_not_asked_to_write_cannot(site: Site) -> None:
    lun = await site.lun(ONE)
    descriptor = await site.one.open(lun.id, writable=False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)
    async with site.one.bound(lun.id, writable=False) as number:
        facts = loop.sysfs_facts(number)
        assert facts is not None
        assert facts.read_only


async def test_a_lun_binds_with_direct_io_and_4096_byte_blocks(site: Site) -> None:
    lun = await site.lun(ONE)
    async with site.one.bound(lun.id) as number:
        facts = loop.sysfs_facts(number)
        assert facts is not None
        assert (facts.direct_io, facts.logical_block_size, facts.size) == (
            True,
            4096,
            lun.size,
        )
    await until(lambda: loop.sysfs_facts(number) is None)


async def test_the_scratch_view_of_a_base_lun_is_refused(site: Site) -> None:
    lun = await site.lun(ONE)
    with pytest.raises(BadState, match="scratch"):
        await site.one.open(lun.id, View.SCRATCH)


async def test_a_second_host_gets_a_lun_only_if_they_share_it(site: Site) -> None:
    lun = await site.lun(ONE)
    with pytest.raises(BadState, match="mapped to systemOne") as refusal:
        await site.call(api.unmask_lun, lun.id, TWO)
    assert refusal.value.item == lun.id
    assert refusal.value.hint
    await site.call(api.unmask_lun, lun.id, TWO, True)
    await site.call(api.mask_lun, lun.id, ONE)
    assert (await site.one.luns(), await site.two.luns()) == ([], [lun.id])


async def test_a_mapped_lun_is_not_deleted(site: Site) -> None:
    lun = await site.lun(ONE)
    with pytest.raises(BadState, match="mapped to systemOne"):
        await site.call(api.delete_lun, lun.id)
    await site.call(api.mask_lun, lun.id, ONE)
    await site.call(api.delete_lun, lun.id)
    assert await site.call(api.inventory) == []


async def test_unknown_luns_and_hosts_are_not_found(site: Site) -> None:
    lun = await site.lun()
    methods: tuple[Any, ...] = (api.mask_lun, api.unmask_lun)
    for method in methods:
        with pytest.raises(ObjectNotFound):
            await site.call(method, NOBODYS, ONE)
        with pytest.raises(ObjectNotFound):
            await site.call(method, lun.id, Initiator("nobody"))


@pytest.mark.parametrize("name", ["", "../x", "a/b", "."])
async def test_a_host_needs_a_plain_name(site: Site, name: str) -> None:
    with pytest.raises(InvalidArgument):
        await site.call(api.add_initiator, Initiator(name))


async def test_a_lun_grows_and_never_shrinks(site: Site) -> None:
    lun = await site.lun(ONE)
    await site.one.write(lun.id, b"kept")
    grown = await site.call(api.extend_lun, lun.id, 32 * MIB)
    assert (grown.id, grown.serial, grown.size) == (lun.id, lun.serial, 32 * MIB)
    assert await site.one.read(lun.id, 4) == b"kept"
    async with site.one.bound(lun.id) as number:
        facts = loop.sysfs_facts(number)
        assert facts is not None
        assert facts.size == 32 * MIB
    with pytest.raises(InvalidArgument, match="shrink"):
        await site.call(api.extend_lun, lun.id, 16 * MIB)


async def test_masking_waits_until_the_host_has_let_go(site: Site) -> None:
    lun = await site.lun(ONE)
    async with site.one.bound(lun.id) as number:
        with pytest.raises(VolumeInUse, match=f"/dev/loop{number} is open in process"):
            await site.call(api.mask_lun, lun.id, ONE)
        assert await site.one.luns() == [lun.id]
    await site.call(api.mask_lun, lun.id, ONE)
    assert await site.one.luns() == []


async def test_a_surprise_fails_the_io_of_the_host_and_frees_nothing_else(
    site: Site, directory: Path
) -> None:
    lun = await site.lun(ONE, size=64 * MIB)
    other = await site.lun(ONE)
    async with site.one.bound(lun.id) as number, site.one.bound(other.id) as untouched:
        await trio.to_thread.run_sync(_make_ext4, number)
        place = directory / "mnt"
        place.mkdir()
        mount.mount(loop.node(number), place, "ext4")
        file = os.open(place / "file", os.O_RDWR | os.O_CREAT)
        os.pwrite(file, b"before", 0)
        os.fsync(file)
        try:
            await site.call(api.mask_lun, lun.id, ONE, True)
            assert await site.one.luns() == [other.id]
            facts, rest = loop.sysfs_facts(number), loop.sysfs_facts(untouched)
            assert facts is not None
            assert rest is not None
            assert (facts.size, rest.size) == (512, other.size)
            os.pwrite(file, b"after", 0)
            with pytest.raises(OSError, match="Input/output error"):
                os.fsync(file)
            # Its device is still there, so nobody else gets the LUN yet.
            await site.call(api.unmask_lun, lun.id, TWO)
            with pytest.raises(VolumeInUse, match=f"/dev/loop{number} is mounted"):
                await site.two.open(lun.id)
        finally:
            os.close(file)
            mount.unmount(place)
    os.close(await site.two.open(lun.id))


def _make_ext4(number: int) -> None:
    filesystems.make_ext4(loop.node(number), timeout=30)


async def test_a_living_binding_of_another_host_keeps_a_lun_from_the_next(
    site: Site, directory: Path
) -> None:
    lun = await site.lun(ONE, size=64 * MIB)
    async with site.one.bound(lun.id) as number:
        await trio.to_thread.run_sync(_make_ext4, number)
        child = foreign_mount(number, directory / "mnt")
        holder = await trio.to_thread.run_sync(child.__enter__)
    try:
        await site.call(api.mask_lun, lun.id, ONE, True)
        await site.call(api.unmask_lun, lun.id, TWO)
        with pytest.raises(VolumeInUse, match=f"for process {holder.pid}"):
            await site.two.open(lun.id)
    finally:
        await trio.to_thread.run_sync(child.__exit__, None, None, None)
    await until(lambda: loop.sysfs_facts(number) is None)
    os.close(await site.two.open(lun.id))


async def test_a_file_system_that_a_crash_left_frozen_is_drained(
    site: Site, directory: Path
) -> None:
    lun = await site.lun(ONE, size=64 * MIB)
    async with site.one.bound(lun.id) as number:
        await trio.to_thread.run_sync(_make_ext4, number)
        place = directory / "mnt"
        child = foreign_mount(number, place)
        holder = await trio.to_thread.run_sync(child.__enter__)
    assert holder.stdin is not None
    holder.stdin.write(f"fsfreeze -f {place}\n")
    holder.stdin.flush()
    await until(lambda: _is_frozen(holder.pid, place))
    await trio.to_thread.run_sync(child.__exit__, None, None, None)
    # Nobody has it mounted or open any more, and still it is bound.
    with trio.move_on_after(1):
        await until(lambda: loop.sysfs_facts(number) is None)
    assert loop.sysfs_facts(number) is not None
    descriptor = await site.one.open(lun.id, writable=True)
    assert loop.sysfs_facts(number) is None
    assert filesystems.probe(descriptor) is not None
    os.close(descriptor)


def _is_frozen(pid: int, place: Path) -> bool:
    # A second freeze of a frozen file system is answered EBUSY.
    result = os.spawnvp(
        os.P_WAIT,
        "nsenter",
        ["nsenter", "-t", str(pid), "-m", "sh", "-c", f"! fsfreeze -f {place} 2>/dev/null"],
    )
    return result == 0


async def test_a_file_system_frozen_by_a_host_that_lives_is_left_alone(
    site: Site, directory: Path
) -> None:
    lun = await site.lun(ONE, size=64 * MIB)
    async with site.one.bound(lun.id) as number:
        await trio.to_thread.run_sync(_make_ext4, number)
        place = directory / "mnt"
        place.mkdir()
        mount.mount(loop.node(number), place, "ext4")
        held = freeze.open_directory(place)
        try:
            freeze.freeze(held)
            os.close(await site.one.open(lun.id))
            freeze.thaw(held)  # raises if somebody else did
        finally:
            os.close(held)
            mount.unmount(place)


async def test_a_reserved_device_is_given_to_one_host(site: Site) -> None:
    numbers = [await host.call(api.reserve_device) for host in (site.one, site.two, site.one)]
    assert len(set(numbers)) == 3
    assert all(loop.sysfs_facts(number) is None for number in numbers)


async def test_a_device_that_is_free_again_is_given_again(site: Site) -> None:
    lun = await site.lun(ONE)
    async with site.one.bound(lun.id) as number:
        assert await site.two.call(api.reserve_device) != number
    await until(lambda: loop.sysfs_facts(number) is None)
    again = await site.two.call(api.reserve_device)
    assert again == number


async def test_a_watcher_learns_of_every_change_of_its_view(site: Site) -> None:
    async with (
        await site.process.initiator(ONE) as client,
        client.stream(api.watch) as prompts,
    ):
        with trio.fail_after(10):
            await anext(prompts)
            lun = await site.lun(ONE)
            await anext(prompts)
            await site.call(api.extend_lun, lun.id, 32 * MIB)
            await anext(prompts)
            await site.lun(TWO)
            with trio.move_on_after(0.3) as silence:
                await anext(prompts)
            assert silence.cancelled_caught
            await site.call(api.mask_lun, lun.id, ONE)
            await anext(prompts)


async def test_an_expelled_host_loses_its_luns_and_its_socket(site: Site) -> None:
    lun = await site.lun(THREE)
    socket = site.process.run / "hosts" / THREE / "array.sock"
    assert socket.is_socket()
    async with site.three.bound(lun.id) as number:
        await site.call(api.remove_initiator, THREE)
        facts = loop.sysfs_facts(number)
        assert facts is not None
        assert facts.size == 512
    assert not socket.parent.exists()
    (left,) = await site.call(api.inventory)
    assert left.masked_to == ()
    await site.call(api.remove_initiator, THREE)


async def test_the_pool_is_private_and_tells_its_figures(site: Site) -> None:
    lun = await site.lun(ONE)
    await site.one.write(lun.id, b"x" * MIB)
    status = await site.call(api.pool_status)
    assert (status.filesystem, status.luns, status.image) == ("xfs", 1, str(site.process.image))
    assert status.allocated >= MIB
    assert 0 < status.free < status.size
    (device,) = loops_over(site.process.image)
    assert all(facts.source != f"/dev/loop{device}" for facts in mount.mounts())
    assert list((site.process.pool / "root").iterdir()) == []


async def test_sockets_are_for_root_alone(site: Site) -> None:
    run = site.process.run
    for socket in (run / "array.sock", run / "hosts" / ONE / "array.sock"):
        assert socket.stat().st_mode & 0o777 == 0o600


class TestWithAFullPool:
    """Nothing half done when there is no room."""

    @pytest.fixture
    def pool_size(self) -> int:
        return 512 * MIB

    async def test_a_lun_that_finds_no_room_leaves_nothing(self, site: Site) -> None:
        lun = await site.lun(ONE, size=1024 * MIB)
        await _fill(site, lun.id)
        with pytest.raises(InsufficientStorage) as refusal:
            await _create_many(site, 1000)
        assert refusal.value.hint
        known = {each.id for each in await site.call(api.inventory)}
        assert site.process.lun_directories() == known

    async def test_a_copy_that_finds_no_room_is_refused_at_once(self, site: Site) -> None:
        lun = await site.lun(ONE, size=1024 * MIB)
        await _fill(site, lun.id)
        with pytest.raises(InsufficientStorage):
            await site.one.copy(lun.id)
        # That is passing, and told by the creation: a refusal here would hide the reason.
        assert await site.one.call(api.can_copy, [lun.id], LunKind.DIFFERENTIAL)
        assert site.process.lun_directories() == {lun.id}


async def _create_many(site: Site, count: int) -> None:
    for _ in range(count):
        await site.call(api.create_lun, MIB)


async def _fill(site: Site, lun: LunId) -> None:
    """Write into a LUN until the pool has no block left."""
    descriptor = await site.one.open(lun, writable=True)
    offset = 0
    size = 4 * MIB
    while size >= 4096:
        try:
            offset += os.pwrite(descriptor, os.urandom(size), offset)
            os.fsync(descriptor)
        except OSError:
            size //= 4
    os.close(descriptor)
