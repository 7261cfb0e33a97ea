"""The array's look at loop devices goes on whatever becomes of the hosts meanwhile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.rig.array.arrayrig import until
from tests.rig.fabric.test_loop_two_arrays import HOST, WINDOW, Store
from vssemu.fabric.loop.target import LoopTarget
from vssemu.linux import loop


@contextmanager
def bound(number: int, file: Path) -> Iterator[None]:
    """Bind a device during the block."""
    with file.open("r+b") as backing:
        descriptor = loop.open_device(number)
        try:
            flags = loop.LoopFlag.AUTOCLEAR
            loop.configure(descriptor, backing.fileno(), block_size=4096, flags=flags)
            yield
        finally:
            os.close(descriptor)


async def test_a_group_that_goes_under_the_look_ends_no_array(tmp_path: Path) -> None:
    """As when a host is killed: its devices come free while its control group is removed."""
    file, group = tmp_path / "file", tmp_path / HOST
    file.write_bytes(bytes(1 << 20))
    store = Store()
    target = LoopTarget(store, fence_root=tmp_path, window=WINDOW)
    async with trio.open_nursery() as nursery:
        await nursery.start(target.run)
        for is_fenced in (True, False):
            number = await target.reserve_device(HOST)
            if is_fenced:
                group.mkdir()  # No control group: none can be fenced by it any more.
            with bound(number, file):
                await until(lambda: not store.given)
            if is_fenced:
                # After the look, for one looks at a time.
                await target.grants.review()
                group.rmdir()
        nursery.cancel_scope.cancel()
    await target.grants.remove_made()
    target.grants.close()
