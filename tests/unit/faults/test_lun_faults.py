"""Faults of LUNs: which requests they meet, and that a seed says all of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.faults.luns import (
    SECTOR,
    FaultState,
    LunFault,
    LunFaultKind,
    Sectors,
    has_bad_sector,
    parse_sectors,
)
from vssemu.vss.errors import InvalidArgument

READ, WRITE, FLUSH = (
    LunFaultKind.READ_ERROR,
    LunFaultKind.WRITE_ERROR,
    LunFaultKind.FLUSH_ERROR,
)


def requests_met(state: FaultState, count: int) -> list[bool]:
    return [state.meets("read", 4096 * number, 4096) for number in range(count)]


def test_an_error_of_reads_leaves_writes_alone() -> None:
    state = FaultState(LunFault(kind=READ))
    assert state.meets("read", 0, 4096)
    assert not state.meets("write", 0, 4096)
    assert not state.meets("zero", 0, 4096)
    assert not state.meets("flush")


def test_write_errors_meet_discards_too() -> None:
    state = FaultState(LunFault(kind=WRITE))
    assert state.meets("write", 0, 4096)
    assert state.meets("zero", 0, 4096)
    assert not state.meets("read", 0, 4096)


def test_sectors_have_512_bytes_and_both_ends_count() -> None:
    state = FaultState(LunFault(kind=READ, sectors=parse_sectors("8-15")))
    assert not state.meets("read", 0, 8 * SECTOR)
    assert state.meets("read", 0, 8 * SECTOR + 1)
    assert state.meets("read", 15 * SECTOR, SECTOR)
    assert not state.meets("read", 16 * SECTOR, 4096)


def test_delays_of_sectors_leave_flushes_alone_and_of_all_do_not() -> None:
    limited = LunFault(kind=LunFaultKind.LATENCY, seconds=1, sectors=parse_sectors("0"))
    assert not FaultState(limited).meets("flush")
    assert FaultState(LunFault(kind=LunFaultKind.LATENCY, seconds=1)).meets("flush")


def test_after_and_times_count_what_it_would_meet() -> None:
    state = FaultState(LunFault(kind=READ, after=2, times=3))
    assert requests_met(state, 8) == [False, False, True, True, True, False, False, False]
    assert (state.met, state.is_over) == (3, True)


def test_counts_taken_over_go_on_where_they_were() -> None:
    fault = LunFault(kind=FLUSH, probability=0.5, seed=7, after=3, times=20)
    whole = FaultState(fault)
    expected = [whole.meets("flush") for _ in range(60)]
    first = FaultState(fault)
    got = [first.meets("flush") for _ in range(25)]
    second = FaultState(fault, first.seen, first.drawn)
    got += [second.meets("flush") for _ in range(35)]
    assert got == expected
    assert 0 < sum(expected) <= 20


@given(seed=st.integers(0, 1 << 62), order=st.permutations(range(40)))
def test_the_same_sectors_are_bad_in_any_order(seed: int, order: list[int]) -> None:
    fault = LunFault(kind=READ, probability=0.05, seed=seed)
    in_order, shuffled = FaultState(fault), FaultState(fault)
    bad = {n for n in range(40) if in_order.meets("read", n * 4096, 4096)}
    assert {n for n in order if shuffled.meets("read", n * 4096, 4096)} == bad


@given(first=st.integers(0, 10_000), count=st.integers(1, 3000), seed=st.integers(0, 99))
def test_a_large_request_meets_what_its_parts_meet(first: int, count: int, seed: int) -> None:
    parts = [has_bad_sector(seed, 0.001, s, s) for s in range(first, first + count)]
    assert has_bad_sector(seed, 0.001, first, first + count - 1) == any(parts)


def test_the_share_of_bad_sectors_is_the_probability_and_the_seed_moves_them() -> None:
    def bad(seed: int) -> set[int]:
        return {s for s in range(40_000) if has_bad_sector(seed, 0.01, s, s)}

    assert 300 < len(bad(1)) < 500
    assert bad(1) != bad(2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": LunFaultKind.LATENCY},
        {"kind": LunFaultKind.LATENCY, "seconds": 0.0},
        {"kind": LunFaultKind.LATENCY, "seconds": float("nan")},
        {"kind": READ, "seconds": 1.0},
        {"kind": FLUSH, "sectors": (Sectors(first=0, last=1),)},
        {"kind": READ, "sectors": (Sectors(first=3, last=1),)},
        {"kind": READ, "probability": 0.0},
        {"kind": READ, "probability": 1.5},
        {"kind": READ, "times": -1},
        {"kind": READ, "after": -1},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=wrong["kind"].value):
        LunFault(**wrong)


def test_ranges_are_read_as_people_write_them() -> None:
    assert [str(one) for one in parse_sectors("7, 8-15")] == ["7", "8-15"]
    for wrong in ("", "a", "5-3", "1-2-3", "-4"):
        with pytest.raises(ValueError, match=r"sectors|before"):
            parse_sectors(wrong)


def test_a_fault_says_what_it_is() -> None:
    fault = LunFault(
        kind=READ, sectors=parse_sectors("8-15,20"), probability=0.5, seed=3, times=2, after=1
    )
    assert fault.describe() == (
        "read-error, sectors 8-15,20, probability 0.5, seed 3, after 1, 2 times"
    )
    assert LunFault(kind=LunFaultKind.LATENCY, seconds=0.5).describe() == "latency, 0.5 s"
