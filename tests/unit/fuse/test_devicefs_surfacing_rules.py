"""Asking for trees: once at a time, under a limit, and loudly when it fails."""

from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from vssemu.vss.errors import ObjectNotFound
from vssemu_fuse.devicefs.catalog import Catalog, Copy, Surface
from vssemu_fuse.devicefs.copies import CopyList, DeviceObject
from vssemu_fuse.devicefs.surfacing import Surfacer


class Trees:
    """A service whose answer each test writes."""

    def __init__(self, answer: Callable[[], Awaitable[None]]) -> None:
        self.asked: list[int] = []
        self.answer = answer

    async def lists(self) -> AsyncGenerator[CopyList, None]:
        return
        yield

    async def settled(self, revision: int) -> None:
        return

    async def surface(self, number: int) -> None:
        self.asked.append(number)
        await self.answer()


@pytest.fixture
def copy() -> Copy:
    catalog = Catalog()
    facts = DeviceObject(number=4, size=1, raw_major=7, raw_minor=1, properties="{}")
    catalog.apply(CopyList(revision=1, server_pid=1, copies=[facts]), now_ns=0)
    found = catalog.numbered(4)
    assert found is not None
    return found


async def test_walkers_that_come_together_ask_once(copy: Copy, nursery: trio.Nursery) -> None:
    let = trio.Event()
    trees = Trees(let.wait)
    surfacer = Surfacer(trees, nursery)
    async with trio.open_nursery() as walkers:
        for _ in range(20):
            walkers.start_soon(surfacer.wait_surfaced, copy)
        await wait_all_tasks_blocked()
        assert trees.asked == [4]
        let.set()
    await surfacer.wait_surfaced(copy)
    assert trees.asked == [4]
    assert copy.surface is Surface.MOUNTED


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ObjectNotFound("no such copy"), "VSS_E_OBJECT_NOT_FOUND"),
        (OSError(5, "Input/output error", "/dev/loop9"), "/dev/loop9"),
    ],
)
async def test_a_reason_is_logged_once_and_every_walker_tries(
    copy: Copy, nursery: trio.Nursery, error: Exception, words: str
) -> None:
    async def fail() -> None:
        raise error

    trees = Trees(fail)
    surfacer = Surfacer(trees, nursery)
    with structlog.testing.capture_logs() as log:
        for _ in range(3):
            await surfacer.wait_surfaced(copy)
            assert copy.surface is Surface.FAILED
    assert trees.asked == [4, 4, 4]
    assert [words in each["reason"] for each in log] == [True]


async def test_a_success_makes_the_next_failure_news(copy: Copy, nursery: trio.Nursery) -> None:
    async def fail() -> None:
        raise OSError(5, "away")

    async def mount() -> None:
        return

    trees = Trees(fail)
    surfacer = Surfacer(trees, nursery)
    with structlog.testing.capture_logs() as log:
        await surfacer.wait_surfaced(copy)
        trees.answer = mount
        await surfacer.wait_surfaced(copy)
        copy.surface = Surface.BARE
        trees.answer = fail
        await surfacer.wait_surfaced(copy)
    assert [each["event"] for each in log] == [
        "tree not mounted",
        "tree mounted",
        "tree not mounted",
    ]


async def test_a_silent_service_costs_the_limit(
    copy: Copy, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    surfacer = Surfacer(Trees(trio.sleep_forever), nursery, limit=7)
    start = trio.current_time()
    await surfacer.wait_surfaced(copy)
    assert trio.current_time() - start == pytest.approx(7)
    assert copy.surface is Surface.FAILED
    assert copy.last_failure == "no answer within 7 s"


async def test_walkers_of_a_removed_copy_are_let_go(copy: Copy, nursery: trio.Nursery) -> None:
    surfacer = Surfacer(Trees(trio.sleep_forever), nursery)
    with trio.fail_after(5):
        async with trio.open_nursery() as walkers:
            walkers.start_soon(surfacer.wait_surfaced, copy)
            await wait_all_tasks_blocked()
            surfacer.give_up(copy)
    assert copy.surface is Surface.BARE
    surfacer.give_up(copy)
