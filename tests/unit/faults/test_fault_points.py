"""Points over real files: what is armed happens, once counted in the directory."""

import os
import signal
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from vssemu.faults import Fault, FaultPoints, FaultStore, InjectedFault
from vssemu.faults.plan import Action
from vssemu.vss.errors import Fail, InvalidArgument, ObjectNotFound, ProviderVeto

POINT = "commit_snapshots"


@pytest.fixture
def store(tmp_path: Path) -> FaultStore:
    return FaultStore(tmp_path / "state" / "faults")


@pytest.fixture
def points(store: FaultStore) -> FaultPoints:
    return FaultPoints(store.directory, "provider")


async def test_nothing_armed_is_no_file_and_no_checkpoint(
    store: FaultStore, points: FaultPoints
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await points.reach(POINT)
        await FaultPoints(None, "provider").reach(POINT)
    assert not scope.cancelled_caught
    assert not store.directory.exists()
    assert store.armed() == []
    assert not store.clear()
    assert not store.reached("provider", POINT)
    assert not store.release("provider", POINT)


async def test_a_code_is_the_error_that_windows_names(
    store: FaultStore, points: FaultPoints
) -> None:
    store.arm(Fault("provider", POINT, "code", "VSS_E_PROVIDER_VETO"))
    with pytest.raises(ProviderVeto, match=POINT):
        await points.reach(POINT)
    await points.reach(POINT)


async def test_only_the_named_point_of_the_named_process_is_touched(
    store: FaultStore, points: FaultPoints
) -> None:
    store.arm(Fault("provider", POINT, "raise", "ouch"))
    await points.reach("pre_commit_snapshots")
    await points.reach(f"{POINT}.after")
    await FaultPoints(store.directory, "provider:other").reach(POINT)
    with pytest.raises(InjectedFault, match="ouch"):
        await points.reach(POINT)


async def test_times_and_skip_outlive_the_process(store: FaultStore) -> None:
    store.arm(Fault("provider", POINT, "raise", times=2, skip=1))
    happened = []
    for _ in range(4):
        try:
            await FaultPoints(store.directory, "provider").reach(POINT)
        except InjectedFault:
            happened.append(True)
        else:
            happened.append(False)
    assert happened == [False, True, True, False]
    assert store.armed() == []


async def test_passages_at_one_moment_are_counted_one_by_one(
    store: FaultStore, points: FaultPoints
) -> None:
    store.arm(Fault("provider", POINT, "raise", times=3, skip=4))
    failed = []

    async def pass_by() -> None:
        try:
            await points.reach(POINT)
        except InjectedFault:
            failed.append(True)

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(pass_by)
    assert len(failed) == 3


async def test_a_delay_can_be_cancelled(
    store: FaultStore, points: FaultPoints, autojump_clock: MockClock
) -> None:
    store.arm(Fault("provider", POINT, "delay", 40, times=2))
    begin = trio.current_time()
    await points.reach(POINT)
    assert trio.current_time() - begin == pytest.approx(40)
    with trio.move_on_after(1) as scope:
        await points.reach(POINT)
    assert scope.cancelled_caught


async def _until_reached(store: FaultStore) -> None:
    with trio.fail_after(30):
        while not store.reached("provider", POINT):  # noqa: ASYNC110 - files tell nothing
            await trio.sleep(0.01)


async def test_who_stops_waits_until_released(store: FaultStore, points: FaultPoints) -> None:
    store.arm(Fault("provider", POINT, "stop"))
    went_on = []

    async def pass_by() -> None:
        await points.reach(POINT)
        went_on.append(store.standing())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pass_by)
        await _until_reached(store)
        assert store.standing() == [("provider", POINT)]
        assert store.armed() == []
        await trio.sleep(0.1)
        assert not went_on
        assert store.release("provider", POINT)
    assert went_on == [[]]
    assert not store.release("provider", POINT)


@pytest.mark.parametrize("action", ["stop", "hang"])
async def test_clear_lets_go_who_stands_there(
    store: FaultStore, points: FaultPoints, action: Action
) -> None:
    store.arm(Fault("provider", POINT, action, times=2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(points.reach, POINT)
        await _until_reached(store)
        assert store.clear("provider", "on_load") == 0
        assert store.reached("provider", POINT)
        assert store.clear() == 1
    assert store.armed() == []


async def test_who_hangs_is_deaf_and_who_stops_is_not(
    store: FaultStore, points: FaultPoints
) -> None:
    async def cancelled_while(action: Action) -> bool:
        """Tell whether a cancellation ends it, or only the release."""
        store.arm(Fault("provider", POINT, action))
        over = trio.Event()

        async def pass_by(scope: trio.CancelScope) -> None:
            with scope:
                await points.reach(POINT)
            over.set()

        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(pass_by, scope)
            await _until_reached(store)
            scope.cancel()
            with trio.move_on_after(0.3):
                await over.wait()
            ended = over.is_set()
            assert store.reached("provider", POINT) is not ended
            store.release("provider", POINT)
        return ended

    assert await cancelled_while("stop")
    assert not await cancelled_while("hang")


def _process(store: FaultStore, *points: str) -> int:
    """Start a process that passes points and then ends with 7."""
    passing = "".join(f"    await points.reach({point!r})\n" for point in points)
    code = (
        "import sys, trio\nfrom pathlib import Path\nfrom vssemu.faults import FaultPoints\n"
        f"points = FaultPoints(Path({str(store.directory)!r}), 'provider')\n"
        f"async def main():\n{passing}"
        "trio.run(main)\nsys.exit(7)\n"
    )
    return os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code])


def _status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_crash_is_used_up_before_it_kills(store: FaultStore) -> None:
    store.arm(Fault("provider", POINT, "crash", skip=1))
    assert _status(_process(store, POINT, POINT, POINT)) == -signal.SIGKILL
    assert store.armed() == []
    assert _status(_process(store, POINT, POINT, POINT)) == 7


def test_who_died_at_a_point_stands_there_no_longer(store: FaultStore) -> None:
    store.arm(Fault("provider", POINT, "stop", times=2))
    first = _process(store, POINT)
    store.wait_reached("provider", POINT)
    os.kill(first, signal.SIGKILL)
    _status(first)
    assert not store.reached("provider", POINT)
    second = _process(store, POINT)
    store.wait_reached("provider", POINT)
    assert store.release("provider", POINT)
    assert _status(second) == 7
    with pytest.raises(Fail, match=POINT):
        store.wait_reached("provider", POINT, seconds=0.05)


def test_what_is_armed_is_listed_and_replaced(store: FaultStore) -> None:
    store.arm(Fault("provider", POINT, "crash"))
    store.arm(Fault("provider", POINT, "delay", 2.5, skip=3))
    store.arm(Fault("writer:db", "freeze", "hang", times=0))
    assert store.armed() == [
        Fault("provider", POINT, "delay", 2.5, skip=3),
        Fault("writer:db", "freeze", "hang", times=0),
    ]
    assert store.clear("provider") == 1
    assert [fault.where for fault in store.armed()] == ["writer:db"]


def test_a_point_that_there_is_not_cannot_be_armed(store: FaultStore) -> None:
    with pytest.raises(ObjectNotFound, match="comit"):
        store.arm(Fault("provider", "comit", "crash"))
    assert not store.directory.exists()


def test_a_spoilt_file_is_named(store: FaultStore) -> None:
    store.arm(Fault("provider", POINT, "crash"))
    path = Path(store.path_of("provider", POINT))
    path.write_text('{"where": "provider", "name": "commit_snapshots", "action": "explode"}')
    with pytest.raises(InvalidArgument, match=str(path)):
        store.armed()
    assert store.clear() == 1
