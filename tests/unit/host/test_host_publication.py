"""The list of device objects: its revisions, and who is waited for."""

from dataclasses import replace

import pytest
import trio
import trio.testing

from vssemu.api.device_objects import CopyList, DeviceObject
from vssemu.host.publication import SETTLE_LIMIT, Publication, PublicationService
from vssemu.linux.credentials import PeerCredentials
from vssemu.rpc.caller import Caller
from vssemu.vss.errors import AccessDenied, Fail

SHOWN = DeviceObject(number=1, size=4096, raw_major=7, raw_minor=1, properties="{}")


class Watcher:
    """A devicefs that takes lists and confirms them when told."""

    def __init__(self, publication: Publication) -> None:
        self.lists: list[CopyList] = []
        self._publication = publication

    async def take(self, latest: CopyList) -> None:
        self.lists.append(latest)

    async def run(self) -> None:
        await self._publication.stream(self.take)

    def confirm(self) -> None:
        self._publication.note_settled(self.lists[-1].revision)


async def test_nothing_is_sent_before_the_first_look(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    publication = Publication()
    watcher = Watcher(publication)
    nursery.start_soon(watcher.run)
    await trio.testing.wait_all_tasks_blocked()
    assert watcher.lists == []
    publication.put(SHOWN)
    publication.begin()
    await trio.testing.wait_all_tasks_blocked()
    assert [each.copies for each in watcher.lists] == [[SHOWN]]


async def test_every_change_is_a_new_revision_and_no_change_is_none(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    publication = Publication()
    publication.begin()
    watcher = Watcher(publication)
    nursery.start_soon(watcher.run)
    await trio.testing.wait_all_tasks_blocked()
    for shown in (SHOWN, SHOWN, replace(SHOWN, properties='{"a": 1}')):
        publication.put(shown)
        await trio.testing.wait_all_tasks_blocked()
    publication.drop(1)
    publication.drop(1)
    await trio.testing.wait_all_tasks_blocked()
    revisions = [each.revision for each in watcher.lists]
    assert len(revisions) == 4
    assert revisions == sorted(set(revisions))


async def test_a_removal_waits_for_devicefs_but_not_for_ever(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    publication = Publication()
    publication.begin()
    assert await publication.wait_settled()
    watcher = Watcher(publication)
    nursery.start_soon(watcher.run)
    await trio.testing.wait_all_tasks_blocked()
    publication.put(SHOWN)
    await trio.testing.wait_all_tasks_blocked()
    started = trio.current_time()
    assert not await publication.wait_settled()
    assert trio.current_time() - started == pytest.approx(SETTLE_LIMIT)
    watcher.confirm()
    assert await publication.wait_settled()


async def test_only_root_may_ask(autojump_clock: trio.testing.MockClock) -> None:
    async def surface(number: int) -> None:
        raise AssertionError(number)

    service = PublicationService(Publication(), surface)
    caller = Caller(PeerCredentials(pid=1, uid=1000, gid=1000, groups=()))
    with pytest.raises(AccessDenied):
        await service.surface(caller, 1)
    with pytest.raises(AccessDenied):
        await service.settled(caller, 1)


async def test_nothing_walks_into_a_devicefs_that_knows_only_the_former_service(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    publication = Publication()
    publication.begin()
    watcher = Watcher(publication)
    nursery.start_soon(watcher.run)
    await trio.testing.wait_all_tasks_blocked()
    publication.note_settled(watcher.lists[-1].revision - 1)
    assert not publication.is_shown
    with pytest.raises(Fail, match="devicefs"):
        await publication.wait_known()
    async with trio.open_nursery() as waiting:
        waiting.start_soon(publication.wait_known)
        await trio.testing.wait_all_tasks_blocked()
        watcher.confirm()
    assert publication.is_shown


async def test_another_devicefs_has_confirmed_nothing_yet(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    publication = Publication()
    publication.begin()
    seen: list[int] = []

    async def follow() -> None:
        async for watch in publication.settlements():
            seen.append(watch)  # noqa: PERF401 - it never ends

    nursery.start_soon(follow)
    async with trio.open_nursery() as first_life:
        first = Watcher(publication)
        first_life.start_soon(first.run)
        await trio.testing.wait_all_tasks_blocked()
        first.confirm()
        await trio.testing.wait_all_tasks_blocked()
        first_life.cancel_scope.cancel()
    assert not publication.is_shown
    second = Watcher(publication)
    nursery.start_soon(second.run)
    await trio.testing.wait_all_tasks_blocked()
    assert (seen, publication.is_shown) == ([1], False)
    second.confirm()
    await trio.testing.wait_all_tasks_blocked()
    assert (seen, publication.is_shown) == ([1, 2], True)
