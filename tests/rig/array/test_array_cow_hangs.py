"""A shard that hangs, writes to it under way: who has nothing to do with it goes on.

The kernel asks lunfs for the inode behind a loop device after each notice that the attributes
of its file changed, so after a restart: that is how the shard stands when it is stopped.
"""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
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
from tests.rig.lunfs.lunfsrig import running as shards_running
from tests.rig.lunfs.lunfsrig import xfs_pool
from vssemu.api import array as api
from vssemu.api import shard as shard_api
from vssemu.array.naming import mint_lun_id
from vssemu.fabric.loop import asking
from vssemu.fabric.loop.lunfiles import lun_of, opened_path
from vssemu.fabric.loop.target import LoopTarget
from vssemu.linux import loop
from vssemu.vss.engine import Backing
from vssemu.vss.errors import Fail
from vssemu.vss.identity import Initiator, LunId

PATIENCE = 60.0
"""Seconds for what would hang for good otherwise."""


@pytest.fixture
def engine() -> str:
    return "cow"


@pytest.fixture
async def other(directory: Path) -> AsyncIterator[ArrayProcess]:
    """Another array, with a shard of its own."""
    below = directory / uuid4().hex[:4]
    below.mkdir()
    async with running(ArrayProcess(below, pool_size=512 * MIB, engine="cow", shards=1)) as made:
        yield made


@contextmanager
def stopped(process: ArrayProcess, shard: int) -> Iterator[None]:
    """Have a shard hang during the block, its files' attributes unknown to the kernel."""
    assert process.shards is not None
    process.shards.restart(shard)
    pid = process.shards.pid(shard)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def works(site: Site, host: Host, lun: LunId) -> None:
    """Fail unless a LUN is bound, copied, listed and given back while a new one comes and goes."""
    with trio.fail_after(PATIENCE):
        async with host.bound(lun):
            assert lun in await host.luns()
        _, (copy,) = await host.copy(lun)
        assert copy.naa is not None
        new = await site.lun(host.name)
        assert {lun, copy.naa, new.id} <= set(await site.states())
        await site.call(api.mask_lun, new.id, host.name)
        await site.call(api.delete_lun, new.id)
        await site.call(api.delete_lun, copy.naa)


def shard_of(process: ArrayProcess, lun: LunId) -> int:
    """Return the shard that has a LUN."""
    assert process.shards is not None
    (found,) = [n for n in (0, 1) if os.path.lexists(process.shards.path(lun, n))]
    return found


def write(device: int) -> None:
    os.pwrite(device, b"late" * MIB, 0)
    os.fsync(device)


async def attach(host: Host, lun: LunId) -> None:
    os.close(await host.open(lun))


async def test_a_shard_that_hangs_is_missed_by_its_own_luns_alone(
    process: ArrayProcess, other: ArrayProcess
) -> None:
    async with connected(process) as site, connected(other) as there:
        hung, sound = await site.lun(ONE), await site.lun(TWO)
        theirs = await there.lun(TWO)
        assert [shard_of(process, lun.id) for lun in (hung, sound)] == [0, 1]
        allocated = {lun.id: lun.allocated for lun in await site.call(api.inventory)}
        async with site.one.bound(hung.id) as number, trio.open_nursery() as nursery:
            device = loop.open_device(number, os.O_RDWR)
            with stopped(process, 0):
                nursery.start_soon(trio.to_thread.run_sync, write, device)
                nursery.start_soon(attach, site.one, hung.id)
                await works(there, there.two, theirs.id)
                await works(site, site.two, sound.id)
                with trio.fail_after(PATIENCE):
                    listed = await site.call(api.inventory)
                    assert {lun.id: lun.allocated for lun in listed} == allocated
                    async with await process.initiator(ONE) as again:
                        assert [lun.id for lun in await again.call(api.luns)] == [hung.id]
                await trio.to_thread.run_sync(other.stop)
                # The pool of its own, too, is looked for among all devices.
                await trio.to_thread.run_sync(other.start)
        os.close(device)
        assert await site.one.read(hung.id, 4, 4 * MIB - 4) == b"late"


async def test_a_descriptor_that_comes_too_late_is_closed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.5)
    with xfs_pool(directory) as luns, shards_running(directory) as rig:
        rig.serve(luns)
        lun = mint_lun_id(1)
        rig.call(0, shard_api.create, lun, 16 * MIB)
        descriptor = rig.open(lun)
        backing = Backing(path=rig.path(lun), is_block=False, size=0, descriptor=descriptor)
        target = LoopTarget(NoGrants())
        await target.publish(ONE, lun, backing)
        pid = rig.pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                with pytest.raises(Fail, match="does not answer"):
                    await target.attach(ONE, lun, backing, writable=True)
        finally:
            os.kill(pid, signal.SIGCONT)
        os.close(await target.attach(ONE, lun, backing, writable=True))
        await until(lambda: descriptors_of(lun) == [descriptor])
        os.close(descriptor)


def descriptors_of(lun: LunId) -> list[int]:
    """Return the descriptors of this process that are files of a LUN."""
    found = []
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if lun_of(opened_path(number)) == lun:
                found.append(number)
    return found


class NoGrants:
    """A table of devices that stays empty."""

    async def load(self) -> dict[int, Initiator]:
        return {}

    async def add(self, device: int, initiator: Initiator) -> None:
        raise AssertionError

    async def remove(self, device: int) -> None:
        raise AssertionError
