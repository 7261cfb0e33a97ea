"""VSS_WRITER_STATE, pair by pair."""

from typing import Any

import pytest

from vssemu.vss.enums import WriterState
from vssemu.vss.errors import BadState
from vssemu.vss.lifecycle.writer import (
    FAILED_AT,
    NEXT,
    accepts,
    after,
    after_failure,
    is_failed,
)
from vssemu.vss.writer import EventKind

PAIRS = [(state, event) for state in WriterState for event in EventKind]


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda value: value.name)
def test_each_event_moves_as_the_table_says_or_is_refused(state: Any, event: Any) -> None:
    if accepts(state, event):
        assert after(state, event) is NEXT[state][event]
    else:
        with pytest.raises(BadState, match=event.value) as caught:
            after(state, event)
        assert state.name in caught.value.fact
        with pytest.raises(BadState):
            after_failure(state, event)


def test_a_whole_backup_goes_round_to_stable() -> None:
    state = WriterState.UNKNOWN
    walked = []
    for event in (
        EventKind.IDENTIFY,
        EventKind.PREPARE_BACKUP,
        EventKind.PREPARE_SNAPSHOT,
        EventKind.FREEZE,
        EventKind.THAW,
        EventKind.POST_SNAPSHOT,
        EventKind.BACKUP_COMPLETE,
        EventKind.BACKUP_SHUTDOWN,
    ):
        state = after(state, event)
        walked.append(state.name)
    assert walked == [
        "STABLE",
        "STABLE",
        "WAITING_FOR_FREEZE",
        "WAITING_FOR_THAW",
        "WAITING_FOR_POST_SNAPSHOT",
        "WAITING_FOR_BACKUP_COMPLETE",
        "STABLE",
        "STABLE",
    ]


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda value: value.name)
def test_a_failure_shows_the_event_and_the_first_one_stays(state: Any, event: Any) -> None:
    if not accepts(state, event):
        return
    failed = after_failure(state, event)
    if is_failed(state) or event is EventKind.ABORT:
        assert failed is state
    else:
        assert failed is FAILED_AT[event]
        assert failed.name.replace("_", "").endswith(event.name.replace("_", ""))


def test_a_failed_writer_hears_only_abort_and_shutdown() -> None:
    for state in WriterState:
        if is_failed(state):
            assert set(NEXT[state]) == {
                EventKind.IDENTIFY,
                EventKind.ABORT,
                EventKind.BACKUP_SHUTDOWN,
            }
