"""A set as its provider sees it, pair by pair."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.vss.errors import BadState, ObjectNotFound
from vssemu.vss.lifecycle.provider import NEXT, SetCall, SetState, after

PAIRS = [(state, call) for state in SetState for call in SetCall]
UNKNOWN = {SetState.NONE, SetState.ABORTED}


@pytest.mark.parametrize(("state", "call"), PAIRS, ids=lambda value: value.name)
def test_each_call_moves_as_the_table_says_or_is_refused(state: Any, call: Any) -> None:
    if call in NEXT[state]:
        assert after(state, call) is NEXT[state][call]
        return
    error = ObjectNotFound if state in UNKNOWN else BadState
    with pytest.raises(error, match=call.value) as caught:
        after(state, call)
    assert state.value in caught.value.fact
    assert caught.value.hint


def test_a_creation_goes_through_every_state_in_order() -> None:
    state = SetState.NONE
    for call in (
        SetCall.BEGIN_PREPARE,
        SetCall.BEGIN_PREPARE,
        SetCall.END_PREPARE,
        SetCall.PRE_COMMIT,
        SetCall.COMMIT,
        SetCall.POST_COMMIT,
        SetCall.GET_TARGET_LUNS,
        SetCall.PRE_FINAL_COMMIT,
        SetCall.POST_FINAL_COMMIT,
    ):
        state = after(state, call)
    assert state is SetState.FINAL


@given(st.lists(st.sampled_from(list(SetCall))))
def test_no_order_of_calls_commits_twice_or_commits_what_was_not_prepared(calls: Any) -> None:
    state, done = SetState.NONE, []
    for call in calls:
        try:
            state = after(state, call)
        except (BadState, ObjectNotFound):
            continue
        done.append(call)
    assert done.count(SetCall.COMMIT) <= 1
    if SetCall.COMMIT in done:
        before = done[: done.index(SetCall.COMMIT)]
        assert before[-2:] == [SetCall.END_PREPARE, SetCall.PRE_COMMIT]


def test_abort_is_never_refused_and_ends_everything_unfinished() -> None:
    for state in SetState:
        ends = after(state, SetCall.ABORT)
        assert ends in {SetState.ABORTED, SetState.NONE, SetState.FINAL}
        assert after(ends, SetCall.ABORT) is ends
