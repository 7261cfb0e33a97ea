"""VSS_WRITER_STATE: how one writer stands in one backup, and which event moves it.

A writer that failed keeps its FAILED_AT_ state until the backup is over, so that
GatherWriterStatus shows it; of the events that follow it sees only Abort and BackupShutdown.
Source: VSS_WRITER_STATE; the CVssWriter callbacks.
"""

from collections.abc import Mapping
from types import MappingProxyType

from vssemu.vss.enums import WriterState
from vssemu.vss.errors import BadState
from vssemu.vss.writer import EventKind

_ALWAYS = (EventKind.IDENTIFY, EventKind.ABORT, EventKind.BACKUP_SHUTDOWN)

FAILED_AT: Mapping[EventKind, WriterState] = MappingProxyType(
    {
        EventKind.IDENTIFY: WriterState.FAILED_AT_IDENTIFY,
        EventKind.PREPARE_BACKUP: WriterState.FAILED_AT_PREPARE_BACKUP,
        EventKind.PREPARE_SNAPSHOT: WriterState.FAILED_AT_PREPARE_SNAPSHOT,
        EventKind.FREEZE: WriterState.FAILED_AT_FREEZE,
        EventKind.THAW: WriterState.FAILED_AT_THAW,
        EventKind.POST_SNAPSHOT: WriterState.FAILED_AT_POST_SNAPSHOT,
        EventKind.BACKUP_COMPLETE: WriterState.FAILED_AT_BACKUP_COMPLETE,
        EventKind.BACKUP_SHUTDOWN: WriterState.FAILED_AT_BACKUPSHUTDOWN,
    }
)
"""The state of a writer that failed in an event. Abort has none: it leaves the state."""

_FAILED = frozenset(state for state in WriterState if state.name.startswith("FAILED_AT"))

_MOVES: Mapping[WriterState, Mapping[EventKind, WriterState]] = {
    WriterState.STABLE: {
        EventKind.PREPARE_BACKUP: WriterState.STABLE,
        EventKind.PREPARE_SNAPSHOT: WriterState.WAITING_FOR_FREEZE,
    },
    WriterState.WAITING_FOR_FREEZE: {EventKind.FREEZE: WriterState.WAITING_FOR_THAW},
    WriterState.WAITING_FOR_THAW: {EventKind.THAW: WriterState.WAITING_FOR_POST_SNAPSHOT},
    WriterState.WAITING_FOR_POST_SNAPSHOT: {
        EventKind.POST_SNAPSHOT: WriterState.WAITING_FOR_BACKUP_COMPLETE
    },
    WriterState.WAITING_FOR_BACKUP_COMPLETE: {EventKind.BACKUP_COMPLETE: WriterState.STABLE},
}


def _row(state: WriterState) -> Mapping[EventKind, WriterState]:
    if state is WriterState.UNKNOWN:
        return MappingProxyType({EventKind.IDENTIFY: WriterState.STABLE})
    if state in _FAILED:
        return MappingProxyType(dict.fromkeys(_ALWAYS, state))
    ends = {
        EventKind.IDENTIFY: state,
        EventKind.ABORT: WriterState.STABLE,
        EventKind.BACKUP_SHUTDOWN: WriterState.STABLE,
    }
    return MappingProxyType(ends | dict(_MOVES[state]))


NEXT: Mapping[WriterState, Mapping[EventKind, WriterState]] = MappingProxyType(
    {state: _row(state) for state in WriterState}
)
"""Where an event leads that the writer answered well."""


def is_failed(state: WriterState) -> bool:
    """True for the FAILED_AT_ states."""
    return state in _FAILED


def accepts(state: WriterState, event: EventKind) -> bool:
    """True when the event may be sent to a writer in this state."""
    return event in NEXT[state]


def after(state: WriterState, event: EventKind) -> WriterState:
    """Return the state after an event that went well. Raises BadState, changing nothing."""
    _check(state, event)
    return NEXT[state][event]


def after_failure(state: WriterState, event: EventKind) -> WriterState:
    """Return the state after an event that failed: FAILED_AT_ it, the first one counts.

    Raises BadState for an event that may not be sent in this state.
    """
    _check(state, event)
    return state if is_failed(state) else FAILED_AT.get(event, state)


def _check(state: WriterState, event: EventKind) -> None:
    if not accepts(state, event):
        raise BadState(
            f"{event.value}: the writer is {state.name}",
            hint=f"legal now: {', '.join(kind.value for kind in NEXT[state])}",
            item=event.value,
        )
