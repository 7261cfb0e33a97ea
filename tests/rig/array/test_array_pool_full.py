"""A full pool ends snapshots, never what they were taken of: real file systems, real writes."""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from tests.rig.array.arrayrig import (
    MIB,
    ONE,
    TWO,
    ArrayProcess,
    Host,
    Site,
    connected,
    running,
    until,
)
from tests.rig.array.fullrig import disk, events, file_system, mounted, take, write
from vssemu.api import array as api
from vssemu.linux import directio, loop
from vssemu.vss.array import LunKind, PoolCondition, View
from vssemu.vss.errors import BadState, InsufficientStorage, ObjectNotFound
from vssemu.vss.identity import LunId, SnapshotSetId
from vssemu.vss.lun import LunInformation


@pytest.fixture
def pool_size() -> int:
    return 512 * MIB


@pytest.fixture(params=["image", "image larger than its disk", "directory on xfs"])
def small(request: pytest.FixtureRequest, directory: Path) -> Iterator[ArrayProcess]:
    """arrayd with room for about 460 MiB, of each kind."""
    if request.param == "image":
        yield ArrayProcess(directory, pool_size=576 * MIB)
    elif request.param == "directory on xfs":
        with disk(directory / "disk", 576 * MIB, "mkfs.xfs", "-q") as place:
            yield ArrayProcess(place, pool_size=512 * MIB)
            shutil.rmtree(place / "pool")
    else:
        make = ("mkfs.ext4", "-q", "-m", "0")
        with disk(directory / "disk", 660 * MIB, *make) as place:
            yield ArrayProcess(place, pool_size=2048 * MIB)


def naa(record: LunInformation) -> LunId:
    assert record.naa is not None
    return record.naa


@asynccontextmanager
async def imported(host: Host, lun: LunId, place: Path) -> AsyncIterator[Path]:
    """Mount the scratch clone of a copy for the block, its log replayed, read-only."""
    async with host.bound(lun, View.SCRATCH) as number:
        with mounted(loop.node(number), place, "-o", "ro"):
            yield place


def read_past_caches(path: Path, offset: int) -> bytes:
    """Read some bytes of a file from its device."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return directio.pread(descriptor, 4096, offset)
    finally:
        os.close(descriptor)


async def fill(site: Site, lun: LunId, end: int, start: int = 0) -> None:
    """Write a LUN, past its devices; raises OSError when there is no room."""
    data = os.urandom(4 * MIB)
    for offset in range(start, end, len(data)):
        await site.one.write(lun, data[: end - offset], offset)


async def pool_of(site: Site, *conditions: PoolCondition) -> None:
    """Wait until the pool is in one of these conditions."""
    with trio.fail_after(30):
        while (await site.call(api.pool_status)).condition not in conditions:  # noqa: ASYNC110
            await trio.sleep(0.02)


async def test_writes_go_on_and_snapshots_end_in_their_order(
    small: ArrayProcess, directory: Path
) -> None:
    async with running(small), connected(small) as site:
        ext4, xfs = await site.lun(ONE, size=192 * MIB), await site.lun(ONE, size=320 * MIB)
        async with (
            file_system(site, ext4, directory / "ext4", "mkfs.ext4", "-q") as one,
            file_system(site, xfs, directory / "xfs", "mkfs.xfs", "-q") as two,
        ):
            await write(one, 64 * MIB)
            await write(two, 64 * MIB)
            _, oldest = await take(site, ext4.id, xfs.id)
            await write(one, 64 * MIB, 24 * MIB)
            _, passing = await take(site, ext4.id, auto_release=True)
            await write(two, 64 * MIB, 24 * MIB)
            _, newest = await take(site, ext4.id, xfs.id)
            assert not events(small, "snapshot_ended")
            filler = (await site.lun(ONE, size=512 * MIB)).id
            room = (await site.call(api.pool_status)).free - 160 * MIB
            await fill(site, filler, room)
            await site.two.call(api.surface, oldest)
            async with imported(site.two, naa(oldest[0]), directory / "copy") as copy:
                assert read_past_caches(copy / "file", 32 * MIB)
                async with trio.open_nursery() as nursery:
                    for place in (one, two):
                        nursery.start_soon(write, place, 64 * MIB)
                # The state is told first, the log when the bytes are gone.
                while not any(e["lun"] == naa(oldest[0]) for e in events(small, "snapshot_ended")):
                    room += 4 * MIB
                    await fill(site, filler, room, room - 4 * MIB)
                with pytest.raises(OSError, match="Input/output"):
                    read_past_caches(copy / "file", 32 * MIB)
        states = await site.states()
        gone = [event["lun"] for event in events(small, "snapshot_ended")]
        order = [naa(record) for record in (*passing, *oldest, *newest)]
        if small.engine == "cow":
            # What elder ones read through a younger one is free only when they go first.
            order = [naa(record) for record in (*oldest, *passing, *newest)]
        assert set(gone) == set(order[: len(gone)])
        assert len(gone) >= 2
        assert {lun for lun in states if states[lun] == "ended"} == set(gone)
        listed = {lun.id: lun for lun in await site.call(api.inventory)}
        assert all(listed[lun].allocated == small.remainder for lun in gone)
        status = await site.call(api.pool_status)
        assert (status.ended, status.condition) == (len(gone), PoolCondition.AMPLE)
        assert not events(small, "pool_starved")
        for record in oldest:
            await site.two.call(api.reclaim, record)
        for record in (*passing, *newest):
            await site.one.call(api.reclaim, record)
        assert set((await site.states()).values()) == {"ready"}


async def test_a_creation_that_cannot_be_kept_is_told_so(site: Site) -> None:
    lun = await site.lun(ONE, size=480 * MIB)
    await fill(site, lun.id, 400 * MIB)
    set_id = SnapshotSetId(uuid4())
    assert await site.one.call(api.can_copy, [lun.id], LunKind.DIFFERENTIAL)
    await site.one.call(api.prepare, set_id, [lun.id], LunKind.DIFFERENTIAL, True)
    with pytest.raises(InsufficientStorage, match="bytes free"):
        await site.one.call(api.finish_prepare, set_id)
    await site.one.call(api.abort, set_id)
    assert await site.states() == {lun.id: "ready"}


async def test_promising_more_than_there_is_is_said(site: Site) -> None:
    first = await site.lun(ONE, size=300 * MIB)
    assert not events(site.process, "pool_overcommitted")
    lun = await site.lun(ONE, size=400 * MIB)
    assert events(site.process, "pool_overcommitted")
    status = await site.call(api.pool_status)
    assert status.provisioned == 700 * MIB > status.size
    await fill(site, first.id, 200 * MIB)
    with pytest.raises(OSError, match="No space"):
        await fill(site, lun.id, 400 * MIB)
    await pool_of(site, PoolCondition.STARVED)
    assert len(events(site.process, "pool_starved")) == 1
    await site.call(api.mask_lun, lun.id, ONE)
    await site.call(api.delete_lun, lun.id)
    await pool_of(site, PoolCondition.AMPLE)
    with trio.fail_after(10):
        while (await site.call(api.pool_status)).ballast == 0:  # noqa: ASYNC110
            await trio.sleep(0.02)


async def test_an_ended_copy_is_refused_by_reason_until_it_is_deleted(site: Site) -> None:
    lun, other = await site.lun(ONE, size=256 * MIB), await site.lun(ONE, size=16 * MIB)
    await fill(site, lun.id, 110 * MIB)
    _, (first, spared) = await take(site, lun.id, other.id)
    await fill(site, lun.id, 110 * MIB)
    _, (second,) = await take(site, lun.id)
    await fill(site, lun.id, 110 * MIB)
    await until(lambda: events(site.process, "snapshot_ended"))
    await pool_of(site, PoolCondition.AMPLE)
    states = await site.states()
    assert states[naa(first)] == "ended"
    assert (states[naa(spared)], states[naa(second)]) == ("committed", "committed")
    with pytest.raises(InsufficientStorage, match="no room left") as refusal:
        await site.two.call(api.surface, [first])
    assert refusal.value.item == naa(first)
    await site.two.call(api.surface, [first, spared])
    assert await site.two.luns() == [naa(spared)]
    with pytest.raises(BadState, match="ended"):
        await site.call(api.unmask_lun, naa(first), TWO)
    await site.call(api.delete_lun, naa(first))
    assert naa(first) not in await site.states()
    with pytest.raises(ObjectNotFound):
        await site.two.call(api.surface, [first])


async def test_a_copy_that_ended_before_its_record_was_asked_for_fails_its_creation(
    site: Site,
) -> None:
    lun = await site.lun(ONE, size=256 * MIB)
    await fill(site, lun.id, 220 * MIB)
    set_id = SnapshotSetId(uuid4())
    await site.one.call(api.prepare, set_id, [lun.id], LunKind.DIFFERENTIAL, False)
    await site.one.call(api.finish_prepare, set_id)
    await site.one.call(api.commit, set_id)
    await fill(site, lun.id, 220 * MIB)
    await until(lambda: events(site.process, "snapshot_ended"))
    with pytest.raises(InsufficientStorage):
        await site.one.call(api.copies_of, set_id, [lun.id])
    await site.one.call(api.abort, set_id)
    assert await site.states() == {lun.id: "ready"}


async def test_a_restart_finishes_an_end_that_had_begun(
    process: ArrayProcess, directory: Path
) -> None:
    async with connected(process) as site:
        lun = await site.lun(ONE)
        await site.one.write(lun.id, os.urandom(4 * MIB))
        _, (record,) = await take(site, lun.id)
        await site.two.call(api.surface, [record])
        async with site.two.bound(naa(record), writable=False) as number:
            process.kill()
            with closing(sqlite3.connect(directory / "state" / "journal.sqlite")) as journal:
                journal.execute("UPDATE luns SET state = 'ended' WHERE id = ?", [naa(record)])
                journal.commit()
            process.start()
            device = loop.open_device(number)
            try:
                assert os.pread(device, 4096, MIB) == b""
            finally:
                os.close(device)
    async with connected(process) as site:
        listed = {lun.id: lun for lun in await site.call(api.inventory)}
        assert listed[naa(record)].allocated == process.remainder
        assert listed[naa(record)].masked_to == (TWO,)
        with pytest.raises(InsufficientStorage):
            await site.two.open(naa(record))
        await site.two.call(api.reclaim, record)
        assert await site.states() == {lun.id: "ready"}


async def test_a_disk_below_that_others_fill_costs_copies_and_never_the_pool(
    directory: Path,
) -> None:
    with disk(directory / "disk", 900 * MIB, "mkfs.ext4", "-q", "-m", "0") as place:
        process = ArrayProcess(place, pool_size=4096 * MIB)
        async with running(process), connected(process) as site:
            lun = await site.lun(ONE, size=256 * MIB)
            status = await site.call(api.pool_status)
            assert status.size < 900 * MIB
            await fill(site, lun.id, 200 * MIB)
            _, (record,) = await take(site, lun.id)
            await fill(site, lun.id, 100 * MIB)
            whole = await site.one.read(lun.id, 200 * MIB)
            others = place / "others"
            await trio.to_thread.run_sync(fill_disk, others)
            other = await site.lun(ONE, size=512 * MIB)
            with pytest.raises(OSError, match="No space"):
                await fill(site, other.id, 512 * MIB)
            assert await site.one.read(lun.id, 200 * MIB) == whole
            others.unlink()
            await pool_of(site, PoolCondition.AMPLE)
            await until(lambda: os.statvfs(place).f_bavail)
            await fill(site, lun.id, 256 * MIB, 200 * MIB)
            await site.one.call(api.reclaim, record)
            assert (await site.states())[lun.id] == "ready"


def fill_disk(file: Path) -> None:
    """Take all there is, as anybody on the disk may, some 100 MB a second."""
    with file.open("wb") as stream, contextlib.suppress(OSError):
        for _ in range(2000):
            stream.write(bytes(4 * MIB))
            stream.flush()
            os.fsync(stream.fileno())
            time.sleep(0.03)
