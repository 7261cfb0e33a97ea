"""How much room a pool needs, how fast it fills, what it has set aside, what goes first."""

import errno
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.array.ending import victims
from vssemu.array.journal import Journal, open_journal
from vssemu.array.naming import mint_serial
from vssemu.array.pool import Pool, Room
from vssemu.array.rows import LunRow, SetRow, SetState
from vssemu.array.space import (
    FASTEST,
    LONGEST_PAUSE,
    MIB,
    SHORTEST_PAUSE,
    Ballast,
    Pace,
    Space,
    ballast_of,
    floor_of,
    needed_of,
    pause_of,
)
from vssemu.array.tables import Tables
from vssemu.linux import fallocate
from vssemu.vss.array import LunKind, LunState, PoolCondition
from vssemu.vss.errors import InsufficientStorage
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId

GIB = 1 << 30
SIZES = st.integers(256 * MIB, 64 << 40)


@given(size=SIZES, rate=st.floats(0, 8 * GIB), seconds=st.floats(0, 60))
def test_the_room_needed_leaves_room_for_snapshots(size: int, rate: float, seconds: float) -> None:
    needed = needed_of(size, rate, seconds)
    assert floor_of(size) <= needed <= max(floor_of(size), size // 2)
    assert needed + ballast_of(size) < size
    assert needed_of(size, rate * 2, seconds) >= needed


@given(free=st.integers(0, 1 << 46), needed=st.integers(0, 1 << 40))
def test_the_room_cannot_end_in_a_pause(free: int, needed: int) -> None:
    pause = pause_of(free, needed)
    assert SHORTEST_PAUSE <= pause <= LONGEST_PAUSE
    if pause > SHORTEST_PAUSE:
        assert free - pause * FASTEST >= needed - FASTEST * 1e-6


def test_a_pace_is_learned_at_once_and_forgotten_slowly() -> None:
    pace = Pace()
    pace.note(1000 * MIB, 0.0)
    assert pace.rate == 0
    pace.note(900 * MIB, 0.1)
    assert pace.rate == pytest.approx(1000 * MIB)
    pace.note(900 * MIB, 0.6)
    assert pace.rate == pytest.approx(500 * MIB)
    pace.note(1500 * MIB, 5.6)
    assert pace.rate < MIB


def test_room_that_was_made_says_nothing_of_the_pace() -> None:
    pace = Pace()
    pace.note(100 * MIB, 0.0)
    pace.jump(400 * MIB, 0.1)
    pace.note(390 * MIB, 0.2)
    assert pace.rate == pytest.approx(100 * MIB)


def test_a_ballast_has_space_until_it_is_given_up(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast")
    assert ballast.held() == 0
    ballast.release()
    ballast.make(8 * MIB)
    assert Ballast(tmp_path / "ballast").held() >= 8 * MIB
    ballast.release()
    assert ballast.held() == 0


class SmallPool(Pool):
    """A pool whose figures the test gives."""

    given: Room

    def room(self) -> Room:
        return self.given


@pytest.fixture
def pool(tmp_path: Path) -> SmallPool:
    made = SmallPool(directory=tmp_path, root=tmp_path, image=None, filesystem="xfs")
    object.__setattr__(made, "given", Room(size=GIB, free=GIB))
    return made


def set_free(pool: SmallPool, free: int) -> Room:
    room = Room(size=GIB, free=free)
    object.__setattr__(pool, "given", room)
    return room


def test_a_ballast_is_made_when_the_end_comes_in_sight_and_room_allows(pool: Any) -> None:
    space = Space(pool)
    space.replenish(Room(size=64 * GIB, free=60 * GIB))
    assert space.held() == 0
    space.replenish(set_free(pool, floor_of(GIB)))
    assert space.held() == 0
    space.replenish(set_free(pool, 600 * MIB))
    assert space.held() >= ballast_of(GIB)
    assert space.release() >= ballast_of(GIB)
    assert space.held() == 0


def test_a_ballast_for_which_there_is_no_room_is_done_without(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fallocate, "allocate", refuse)
    space = Space(pool)
    space.replenish(set_free(pool, 600 * MIB))
    assert space.held() == 0


def test_a_copy_is_refused_for_which_there_is_no_room(pool: Any) -> None:
    space = Space(pool)
    set_free(pool, 500 * MIB)
    space.refuse_unless_room()
    with pytest.raises(InsufficientStorage) as refusal:
        space.refuse_unless_room(more=400 * MIB)
    assert refusal.value.item == str(pool.directory)
    set_free(pool, floor_of(GIB))
    with pytest.raises(InsufficientStorage):
        space.refuse_unless_room()
    set_free(pool, 900 * MIB)
    space.condition = PoolCondition.STARVED
    with pytest.raises(InsufficientStorage):
        space.refuse_unless_room()


ONE = Initiator("systemOne")


def add(
    tables: Tables,
    state: SetState,
    lun_state: LunState = LunState.COMMITTED,
    *,
    kind: LunKind = LunKind.DIFFERENTIAL,
    auto_release: bool = False,
) -> LunId:
    """Write a base LUN and a copy of it."""
    source = tables.add_lun(
        LunRow(
            id=tables.new_lun_id(),
            serial=mint_serial(),
            size=MIB,
            kind=LunKind.BASE,
            engine="reflink",
            state=LunState.READY,
        )
    )
    group = tables.add_set(
        SetRow(
            id=SnapshotSetId(uuid4()),
            owner=ONE,
            kind=kind,
            state=state,
            auto_release=auto_release,
        )
    )
    copy = tables.add_copy(source, group, "reflink", 0)
    tables.set_lun_state(copy.id, lun_state)
    return copy.id


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    opened = open_journal(tmp_path / "state")
    yield opened
    opened.close()


async def test_auto_release_goes_first_then_the_oldest_and_what_is_created_last(
    journal: Journal,
) -> None:
    def fill(tables: Tables) -> list[LunId]:
        handed = SetState.HANDED_OUT
        kept = [add(tables, handed), add(tables, handed, LunState.CLAIMED)]
        committed = add(tables, SetState.COMMITTED, auto_release=True)
        prepared = add(tables, SetState.PREPARED, LunState.PREPARED)
        passing = [
            add(tables, handed, auto_release=True),
            add(tables, handed, LunState.IMPORT_FAILED, auto_release=True),
        ]
        copying = add(tables, SetState.PREPARING, LunState.PREPARED, kind=LunKind.PLEX)
        return [copying, *passing, *kept, committed, prepared]

    order = await journal.change(fill)
    found = await journal.read(victims)
    assert [victim.row.id for victim in found] == order
    assert [victim.is_untaken for victim in found] == [True, *[False] * 5, True]


async def test_what_is_a_lun_in_its_own_right_is_never_ended(journal: Journal) -> None:
    def fill(tables: Tables) -> None:
        handed = SetState.HANDED_OUT
        for state in (LunState.COMMITTED, LunState.CLAIMED):
            add(tables, handed, state, kind=LunKind.PLEX)
        tables.leave_set(add(tables, handed, LunState.INDEPENDENT))
        add(tables, handed, LunState.ENDED)
        add(tables, handed, LunState.DELETING)

    await journal.change(fill)
    assert await journal.read(victims) == []


async def test_a_set_keeps_whether_it_ends_with_its_requester(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    group = SetRow(
        id=SnapshotSetId(uuid4()),
        owner=ONE,
        kind=LunKind.DIFFERENTIAL,
        state=SetState.PREPARING,
        auto_release=True,
    )
    await journal.change(Tables.add_set, group)
    assert await journal.read(Tables.snapshot_set, group.id) == group
    journal.close()
