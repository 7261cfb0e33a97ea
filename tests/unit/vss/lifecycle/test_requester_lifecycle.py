"""The requester's table, pair by pair."""

import dataclasses
from typing import Any

import pytest

from vssemu.vss.errors import BadState
from vssemu.vss.lifecycle.requester import (
    ASYNCHRONOUS,
    GIVES,
    NEEDS_WRITERS,
    NEXT,
    ONCE,
    WHILE_RUNNING,
    Call,
    Fact,
    Phase,
    RequesterState,
    after,
    check,
    ended,
    needs,
)

PAIRS = [(phase, call) for phase in Phase for call in Call]


def ready(phase: Any, call: Any) -> Any:
    """A state of the phase in which nothing but the phase can stand against the call."""
    facts = set(Fact)
    if call in ONCE:
        facts.discard(GIVES[call])
    return RequesterState(phase=phase, facts=frozenset(facts))


@pytest.mark.parametrize(("phase", "call"), PAIRS, ids=lambda value: value.name)
def test_each_call_is_legal_exactly_where_the_table_says(phase: Any, call: Any) -> None:
    state = ready(phase, call)
    if call not in NEXT[phase]:
        with pytest.raises(BadState) as caught:
            after(state, call)
        assert call.value in caught.value.fact
        assert phase.value in caught.value.fact
        assert caught.value.hint
        return
    moved = after(state, call)
    if call in ASYNCHRONOUS:
        assert moved.running is call
        assert moved.phase is phase
        moved = ended(moved, succeeded=True)
    assert moved.phase is NEXT[phase][call]
    assert moved.running is None


def test_a_refused_call_changes_nothing() -> None:
    state = RequesterState(phase=Phase.INITIALIZED)
    before = dataclasses.replace(state)
    with pytest.raises(BadState):
        after(state, Call.DO_SNAPSHOT_SET)
    assert state == before


@pytest.mark.parametrize("call", list(Call), ids=lambda call: call.name)
def test_a_new_object_takes_only_initialisation_and_release(call: Any) -> None:
    legal = {Call.INITIALIZE, Call.INITIALIZE_WITH_DOCUMENT, Call.RELEASE}
    if call in legal:
        after(RequesterState(), call)
    else:
        with pytest.raises(BadState, match="not initialised"):
            after(RequesterState(), call)


@pytest.mark.parametrize("running", sorted(ASYNCHRONOUS, key=str))
@pytest.mark.parametrize("call", list(Call), ids=lambda call: call.name)
def test_beside_a_running_operation_only_looking_and_ending_are_legal(
    running: Any, call: Any
) -> None:
    phase = next(phase for phase, row in NEXT.items() if running in row)
    state = dataclasses.replace(ready(phase, call), running=running)
    if call in WHILE_RUNNING and call in NEXT[phase]:
        check(state, call)
    else:
        with pytest.raises(BadState):
            check(state, call)


def test_the_context_is_set_once_only() -> None:
    state = after(RequesterState(), Call.INITIALIZE)
    state = after(state, Call.SET_CONTEXT)
    with pytest.raises(BadState, match="called before"):
        after(state, Call.SET_CONTEXT)


def test_writer_metadata_is_gathered_once_only() -> None:
    state = after(RequesterState(), Call.INITIALIZE)
    state = ended(after(state, Call.GATHER_WRITER_METADATA), succeeded=True)
    with pytest.raises(BadState, match="called before"):
        after(state, Call.GATHER_WRITER_METADATA)


def test_a_gather_that_failed_can_be_repeated() -> None:
    state = after(RequesterState(), Call.INITIALIZE)
    state = ended(after(state, Call.GATHER_WRITER_METADATA), succeeded=False)
    assert after(state, Call.GATHER_WRITER_METADATA).running is Call.GATHER_WRITER_METADATA


def test_prepare_for_backup_names_the_calls_that_are_missing() -> None:
    state = RequesterState(phase=Phase.SET_OPEN)
    with pytest.raises(BadState, match="GatherWriterMetadata and SetBackupState") as caught:
        after(state, Call.PREPARE_FOR_BACKUP)
    assert str(caught.value.hint).startswith("call GatherWriterMetadata")


def test_creation_needs_the_metadata_only_where_there_are_writers() -> None:
    state = RequesterState(phase=Phase.SET_OPEN)
    assert needs(state, Call.DO_SNAPSHOT_SET) == {Fact.METADATA}
    state = dataclasses.replace(state, without_writers=True)
    assert after(state, Call.DO_SNAPSHOT_SET).running is Call.DO_SNAPSHOT_SET


@pytest.mark.parametrize("call", sorted(NEEDS_WRITERS, key=str))
def test_contexts_without_writers_refuse_what_is_about_writers(call: Any) -> None:
    phase = next(phase for phase, row in NEXT.items() if call in row)
    state = dataclasses.replace(ready(phase, call), without_writers=True)
    with pytest.raises(BadState, match="no writers"):
        after(state, call)


def test_a_failed_creation_leaves_an_object_that_only_reports_and_aborts() -> None:
    state = ready(Phase.SET_OPEN, Call.DO_SNAPSHOT_SET)
    state = ended(after(state, Call.DO_SNAPSHOT_SET), succeeded=False)
    assert state.phase is Phase.FAILED
    for call in (Call.BACKUP_COMPLETE, Call.SET_BACKUP_SUCCEEDED, Call.START_SNAPSHOT_SET):
        with pytest.raises(BadState):
            after(state, call)
    assert after(state, Call.ABORT_BACKUP).phase is Phase.ABORTED


def test_an_operation_that_ends_after_the_release_does_not_revive_the_object() -> None:
    state = ready(Phase.SET_OPEN, Call.DO_SNAPSHOT_SET)
    running = after(state, Call.DO_SNAPSHOT_SET)
    released = dataclasses.replace(running, phase=Phase.RELEASED)
    assert ended(released, succeeded=True).phase is Phase.RELEASED
