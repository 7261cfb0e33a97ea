"""A snapshot of an array goes to a kernel in a guest, which goes on with it, and comes back."""

import hashlib
import os
import random
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.rig.array.arrayrig import MIB, ONE, TWO, Site, connected
from tests.rig.array.exchangerig import SIZE, brought_in, digest_of, family, written_out
from tests.soak.stores.guest import Kernel, boot
from tests.soak.stores.guests import ACTIVATE, WRITES, digest_of_file
from vssemu.api import array as api
from vssemu.stores.format import SECTOR


@pytest.fixture
def engine() -> str:
    return "cow"


async def test_snapshot_goes_to_a_kernel_and_comes_back(
    site: Site, debian: Kernel, directory: Path
) -> None:
    """The eldest of three, part of whose chunks is in younger stores; under writes."""
    lun, copies = await family(site)
    ours = await digest_of(site, copies[0])
    origin, store = directory / "origin", directory / "store"

    async def write_on(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while True:
            await site.one.write(lun, os.urandom(16384), random.randrange(SIZE // 16384) * 16384)

    async with trio.open_nursery() as nursery:
        await nursery.start(write_on)
        exported = await written_out(site, copies[0], store, origin)
        nursery.cancel_scope.cancel()
    assert exported.chunk_size is not None
    with store.open("r+b") as file:
        file.truncate(64 * MIB)

    chunk = exported.chunk_size // SECTOR
    script = ACTIVATE.format(sectors=SIZE // SECTOR, chunk=chunk) + (
        'say before "$(digest /dev/mapper/snap)"\n'
        'say origin "$(digest /dev/mapper/org)"\n'
        f"{WRITES}"
        'say view "$(digest /dev/mapper/snap)"\nsay after "$(digest /dev/mapper/org)"'
    )
    exact = digest_of_file(origin)
    said = await trio.to_thread.run_sync(partial(boot, debian, directory, script, origin, store))
    assert said["before"] == ours
    assert said["origin"] == exact
    assert said["view"] != ours
    assert said["after"] != exact

    back = await brought_in(site, origin, store)
    assert back.view_sha256 == said["view"]
    assert back.origin is not None
    assert back.snapshot is not None
    await site.call(api.unmask_lun, back.snapshot, TWO)
    await site.call(api.unmask_lun, back.origin, ONE)
    assert await digest_of(site, back.snapshot) == said["view"]
    assert hashlib.sha256(await site.one.read(back.origin, SIZE)).hexdigest() == said["after"]

    # And once more, after the array has written in the kernel's store.
    for _ in range(100):
        await site.one.write(back.origin, os.urandom(8192), random.randrange(SIZE // 8192) * 8192)
    await trio.to_thread.run_sync(site.process.restart)
    again, once_more = directory / "origin2", directory / "store2"
    async with connected(site.process) as restarted:
        await written_out(restarted, back.snapshot, once_more, again)
    with once_more.open("r+b") as file:
        file.truncate(64 * MIB)
    script = ACTIVATE.format(sectors=SIZE // SECTOR, chunk=chunk)
    script += 'say view "$(digest /dev/mapper/snap)"'
    last = await trio.to_thread.run_sync(
        partial(boot, debian, directory, script, again, once_more)
    )
    assert last["view"] == said["view"]
