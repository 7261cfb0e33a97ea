"""Long work that is told about while it goes on."""

import pytest
import trio
from trio.testing import MockClock

from vssemu.array.progress import Progress, told


async def test_work_is_told_about_from_its_start_to_its_end(autojump_clock: MockClock) -> None:
    progress, seen = Progress(), list[int]()

    async def work() -> str:
        for _ in range(10):
            await trio.sleep(0.1)
            progress.done += 1
        return "done"

    async def tell() -> None:
        seen.append(progress.done)

    assert await told(work, tell) == "done"
    assert seen[0] == 0
    assert len(seen) >= 5
    assert seen == sorted(seen)


async def test_what_the_work_raises_comes_out_bare(autojump_clock: MockClock) -> None:
    async def work() -> None:
        await trio.sleep(1)
        raise OSError(28, "no room")

    async def tell() -> None:
        await trio.lowlevel.checkpoint()

    with pytest.raises(OSError, match="no room"):
        await told(work, tell)


async def test_work_ends_when_nobody_can_be_told(autojump_clock: MockClock) -> None:
    ended = trio.Event()

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def tell() -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await told(work, tell)
    assert ended.is_set()


async def test_thread_at_work_ends_when_its_caller_leaves() -> None:
    progress, ended = Progress(), trio.Event()

    def work() -> None:
        while True:
            progress.advance(1)

    async def in_thread() -> None:
        try:
            await trio.to_thread.run_sync(work)
        finally:
            ended.set()

    async def tell() -> None:
        if progress.done:
            scope.cancel()
        await trio.lowlevel.checkpoint()

    with trio.fail_after(10), trio.CancelScope() as scope:
        await told(in_thread, tell)
    assert ended.is_set()
    assert progress.done
