"""Two arrays that choose loop devices of one machine in the same window, at the same time."""

from collections.abc import Iterator, Mapping

import pytest
import trio

from vssemu.fabric.loop.grants import LAST_DEVICE, Grants
from vssemu.linux import loop
from vssemu.vss.identity import Initiator

HOST = Initiator("systemOne")
WINDOW = 37
"""Of both arrays: their identities may agree in it by chance."""


class Store:
    """An array's table of what it gave, in memory."""

    def __init__(self, *given: int) -> None:
        self.given = dict.fromkeys(given, HOST)

    async def load(self) -> Mapping[int, Initiator]:
        return dict(self.given)

    async def add(self, device: int, initiator: Initiator) -> None:
        await trio.lowlevel.checkpoint()
        self.given[device] = initiator

    async def remove(self, device: int) -> None:
        self.given.pop(device)


def grants(store: Store) -> Grants:
    return Grants(store, lambda _host: frozenset(), None, WINDOW)


@pytest.fixture
def arrays() -> Iterator[tuple[Grants, Grants]]:
    both = grants(Store()), grants(Store())
    yield both
    for one in both:
        trio.run(one.remove_made)
        one.close()


async def test_what_one_array_has_given_and_nobody_has_bound_is_not_given_by_the_other(
    arrays: tuple[Grants, Grants],
) -> None:
    """Until the host binds it, the device looks free to everybody."""
    given: list[int] = []

    async def reserve(array: Grants) -> None:
        given.extend([await array.reserve(HOST) for _ in range(4)])

    async with trio.open_nursery() as nursery:
        for array in arrays:
            nursery.start_soon(reserve, array)
    assert len(set(given)) == 8, given
    assert all(loop.sysfs_facts(device) is None for device in given)


async def test_a_device_that_is_taken_back_is_had_by_the_other_array(
    arrays: tuple[Grants, Grants],
) -> None:
    first, second = arrays
    device = await first.reserve(HOST)
    await first.forget(HOST)
    assert await second.reserve(HOST) == device


async def test_an_array_that_ended_in_order_leaves_what_the_other_has_taken_over(
    arrays: tuple[Grants, Grants],
) -> None:
    """It made the device, and it is free, yet it is not its own to remove any more."""
    first, second = arrays
    device = await first.reserve(HOST)
    await first.forget(HOST)
    assert await second.reserve(HOST) == device
    await first.remove_made()
    assert await trio.Path(f"/sys/block/loop{device}").exists()


async def test_an_array_that_was_down_has_lost_what_the_other_took_meanwhile(
    arrays: tuple[Grants, Grants],
) -> None:
    first, _ = arrays
    device = await first.reserve(HOST)
    store = Store(device, LAST_DEVICE)
    came_back = grants(store)
    try:
        await came_back.load()
        assert came_back.owner(device) is None
        assert came_back.owner(LAST_DEVICE) == HOST
        assert store.given == {LAST_DEVICE: HOST}
    finally:
        came_back.close()
