import trio
from trio.testing import Sequencer

from vssemu.array.locking import NamedLocks
from vssemu.array.views import Views
from vssemu.vss.identity import Initiator

ONE, TWO = Initiator("systemOne"), Initiator("systemTwo")


async def test_one_name_is_held_by_one_at_a_time() -> None:
    locks = NamedLocks()
    order = []
    sequence = Sequencer()

    async def first() -> None:
        async with locks.holding("a", "b"):
            async with sequence(0):
                order.append("first in")
            await trio.testing.wait_all_tasks_blocked()
            order.append("first out")

    async def second() -> None:
        async with sequence(1):
            pass
        async with locks.holding("b"):
            order.append("second in")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        nursery.start_soon(second)
    assert order == ["first in", "first out", "second in"]


async def test_names_in_any_order_never_wait_in_a_ring() -> None:
    locks = NamedLocks()

    async def hold(*names: str) -> None:
        async with locks.holding(*names):
            await trio.testing.wait_all_tasks_blocked()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for names in (("a", "b"), ("b", "a"), ("b", "c"), ("c", "a"), ("a", "a")):
                nursery.start_soon(hold, *names)
    assert len(locks) == 0


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    locks = NamedLocks()
    async with locks.holding("a"):
        with trio.move_on_after(0):
            async with locks.holding("a"):
                raise AssertionError("held twice")
    assert len(locks) == 0


async def test_a_watcher_is_prompted_at_once_and_after_each_change() -> None:
    views = Views()
    with views.watching(ONE) as prompts:
        await anext(prompts)
        views.changed(TWO)
        with trio.move_on_after(0) as nothing:
            await anext(prompts)
        assert nothing.cancelled_caught
        views.changed(ONE)
        views.changed(ONE, TWO)
        await anext(prompts)
        with trio.move_on_after(0) as merged:
            await anext(prompts)
        assert merged.cancelled_caught


async def test_a_change_without_a_watcher_is_nothing() -> None:
    views = Views()
    with views.watching(ONE):
        pass
    views.changed(ONE)
