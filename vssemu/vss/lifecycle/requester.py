"""The life of a requester object (IVssBackupComponents): which call is legal when.

Owns the order of calls; refuses to know arguments, rights and what a call does. An object
serves one backup or one import. `NEXT` says where a call leads when it succeeds; three
further tables say what it needs, what it may be called for once only, and where an
asynchronous call leads when it fails. While an asynchronous call runs, only `WHILE_RUNNING`
is legal.

    new -> initialized -> set open -> prepared -> created -> completed
                             |            |          |
                             +------------+----------+--> failed, aborted
    new -> loaded -> imported | import failed

Source: IVssBackupComponents and its method pages; shadow-copy-creation-details.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from vssemu.vss.errors import BadState


class Phase(Enum):
    """How far the object is; the value completes "the object is ..."."""

    NEW = "not initialised"
    INITIALIZED = "initialised"
    LOADED = "initialised with a document"
    SET_OPEN = "collecting a snapshot set"
    PREPARED = "prepared for backup"
    CREATED = "holding a created set"
    FAILED = "left with a failed creation"
    COMPLETED = "done with its backup"
    ABORTED = "aborted"
    IMPORTED = "holding an imported set"
    IMPORT_FAILED = "left with a failed import"
    RELEASED = "released"


class Fact(Enum):
    """What calls leave behind beside the phase; the value names the call that gives it."""

    CONTEXT = "SetContext"
    BACKUP_STATE = "SetBackupState"
    METADATA = "GatherWriterMetadata"
    STATUS = "GatherWriterStatus"


class Call(Enum):
    """A method of the object; the value is its Windows name."""

    INITIALIZE = "InitializeForBackup"
    INITIALIZE_WITH_DOCUMENT = "InitializeForBackup(document)"
    SET_CONTEXT = "SetContext"
    SET_BACKUP_STATE = "SetBackupState"
    GATHER_WRITER_METADATA = "GatherWriterMetadata"
    GET_WRITER_METADATA = "GetWriterMetadata"
    ADD_COMPONENT = "AddComponent"
    START_SNAPSHOT_SET = "StartSnapshotSet"
    ADD_TO_SNAPSHOT_SET = "AddToSnapshotSet"
    IS_VOLUME_SUPPORTED = "IsVolumeSupported"
    PREPARE_FOR_BACKUP = "PrepareForBackup"
    DO_SNAPSHOT_SET = "DoSnapshotSet"
    GATHER_WRITER_STATUS = "GatherWriterStatus"
    GET_WRITER_STATUS = "GetWriterStatus"
    SAVE_AS_XML = "SaveAsXML"
    IMPORT_SNAPSHOTS = "ImportSnapshots"
    GET_SNAPSHOT_PROPERTIES = "GetSnapshotProperties"
    QUERY = "Query"
    QUERY_PROVIDERS = "Query(PROVIDER)"
    DELETE_SNAPSHOTS = "DeleteSnapshots"
    BREAK_SNAPSHOT_SET = "BreakSnapshotSet"
    BREAK_SNAPSHOT_SET_EX = "BreakSnapshotSetEx"
    EXPOSE_SNAPSHOT = "ExposeSnapshot"
    UNEXPOSE_SNAPSHOT = "UnexposeSnapshot"
    SET_BACKUP_SUCCEEDED = "SetBackupSucceeded"
    BACKUP_COMPLETE = "BackupComplete"
    ABORT_BACKUP = "AbortBackup"
    RELEASE = "Release"


@dataclass(frozen=True, kw_only=True, slots=True)
class RequesterState:
    """Where an object stands.

    running: the asynchronous call under way, or None. without_writers: its context has none.
    """

    phase: Phase = Phase.NEW
    facts: frozenset[Fact] = frozenset()
    running: Call | None = None
    without_writers: bool = False


ASYNCHRONOUS = frozenset(
    {
        Call.GATHER_WRITER_METADATA,
        Call.PREPARE_FOR_BACKUP,
        Call.DO_SNAPSHOT_SET,
        Call.GATHER_WRITER_STATUS,
        Call.IMPORT_SNAPSHOTS,
        Call.BREAK_SNAPSHOT_SET_EX,
        Call.BACKUP_COMPLETE,
    }
)
"""The calls that return an IVssAsync."""

WHILE_RUNNING = frozenset(
    {
        Call.GET_SNAPSHOT_PROPERTIES,
        Call.QUERY,
        Call.QUERY_PROVIDERS,
        Call.ABORT_BACKUP,
        Call.RELEASE,
    }
)
"""What may be called beside an asynchronous call under way."""

NEEDS_WRITERS = frozenset({Call.ADD_COMPONENT, Call.PREPARE_FOR_BACKUP, Call.BACKUP_COMPLETE})
"""Refused in contexts without writers. Source: shadow-copy-creation-details."""

NEEDS: Mapping[Call, frozenset[Fact]] = MappingProxyType(
    {
        Call.GET_WRITER_METADATA: frozenset({Fact.METADATA}),
        Call.ADD_COMPONENT: frozenset({Fact.METADATA}),
        Call.PREPARE_FOR_BACKUP: frozenset({Fact.METADATA, Fact.BACKUP_STATE}),
        Call.DO_SNAPSHOT_SET: frozenset({Fact.METADATA}),
        Call.GATHER_WRITER_STATUS: frozenset({Fact.METADATA}),
        Call.GET_WRITER_STATUS: frozenset({Fact.STATUS}),
        Call.QUERY: frozenset({Fact.CONTEXT}),
    }
)
"""What a call needs beside the phase. DoSnapshotSet needs the metadata only with writers."""

GIVES: Mapping[Call, Fact] = MappingProxyType(
    {
        Call.SET_CONTEXT: Fact.CONTEXT,
        Call.SET_BACKUP_STATE: Fact.BACKUP_STATE,
        Call.GATHER_WRITER_METADATA: Fact.METADATA,
        Call.GATHER_WRITER_STATUS: Fact.STATUS,
    }
)

ONCE = frozenset({Call.SET_CONTEXT, Call.GATHER_WRITER_METADATA})
"""Refused when what they give is there. Source: SetContext, GatherWriterMetadata."""

_ADMINISTRATION = (
    Call.IS_VOLUME_SUPPORTED,
    Call.GET_SNAPSHOT_PROPERTIES,
    Call.QUERY,
    Call.QUERY_PROVIDERS,
    Call.DELETE_SNAPSHOTS,
    Call.BREAK_SNAPSHOT_SET,
    Call.BREAK_SNAPSHOT_SET_EX,
    Call.EXPOSE_SNAPSHOT,
    Call.UNEXPOSE_SNAPSHOT,
)
_STATUS = (Call.GET_WRITER_METADATA, Call.GATHER_WRITER_STATUS, Call.GET_WRITER_STATUS)
_COLLECTING = (
    Call.SET_BACKUP_STATE,
    Call.GATHER_WRITER_METADATA,
    Call.ADD_COMPONENT,
    *_STATUS,
)


def _row(phase: Phase, staying: tuple[Call, ...], moves: dict[Call, Phase]) -> dict[Call, Phase]:
    stays = dict.fromkeys((*staying, *_ADMINISTRATION), phase)
    return stays | {Call.RELEASE: Phase.RELEASED} | moves


NEXT: Mapping[Phase, Mapping[Call, Phase]] = MappingProxyType(
    {
        Phase.NEW: {
            Call.INITIALIZE: Phase.INITIALIZED,
            Call.INITIALIZE_WITH_DOCUMENT: Phase.LOADED,
            Call.RELEASE: Phase.RELEASED,
        },
        Phase.INITIALIZED: _row(
            Phase.INITIALIZED,
            (Call.SET_CONTEXT, *_COLLECTING, Call.ABORT_BACKUP),
            {Call.START_SNAPSHOT_SET: Phase.SET_OPEN},
        ),
        Phase.LOADED: _row(
            Phase.LOADED,
            (Call.SET_CONTEXT, Call.ABORT_BACKUP),
            {Call.IMPORT_SNAPSHOTS: Phase.IMPORTED},
        ),
        Phase.SET_OPEN: _row(
            Phase.SET_OPEN,
            (*_COLLECTING, Call.ADD_TO_SNAPSHOT_SET),
            {
                Call.PREPARE_FOR_BACKUP: Phase.PREPARED,
                Call.DO_SNAPSHOT_SET: Phase.CREATED,
                Call.ABORT_BACKUP: Phase.ABORTED,
            },
        ),
        Phase.PREPARED: _row(
            Phase.PREPARED,
            (*_STATUS, Call.ADD_TO_SNAPSHOT_SET, Call.SAVE_AS_XML),
            {Call.DO_SNAPSHOT_SET: Phase.CREATED, Call.ABORT_BACKUP: Phase.ABORTED},
        ),
        Phase.CREATED: _row(
            Phase.CREATED,
            (*_STATUS, Call.SAVE_AS_XML, Call.SET_BACKUP_SUCCEEDED),
            {Call.BACKUP_COMPLETE: Phase.COMPLETED, Call.ABORT_BACKUP: Phase.ABORTED},
        ),
        Phase.FAILED: _row(
            Phase.FAILED, (*_STATUS, Call.SAVE_AS_XML), {Call.ABORT_BACKUP: Phase.ABORTED}
        ),
        Phase.COMPLETED: _row(
            Phase.COMPLETED, (*_STATUS, Call.SAVE_AS_XML, Call.ABORT_BACKUP), {}
        ),
        Phase.ABORTED: _row(Phase.ABORTED, (*_STATUS, Call.ABORT_BACKUP), {}),
        Phase.IMPORTED: _row(
            Phase.IMPORTED, (Call.SET_CONTEXT, Call.SAVE_AS_XML, Call.ABORT_BACKUP), {}
        ),
        Phase.IMPORT_FAILED: _row(Phase.IMPORT_FAILED, (Call.SET_CONTEXT, Call.ABORT_BACKUP), {}),
        Phase.RELEASED: {Call.RELEASE: Phase.RELEASED},
    }
)
"""Where each legal call leads when it succeeds."""

AFTER_FAILURE: Mapping[Call, Phase] = MappingProxyType(
    {
        Call.DO_SNAPSHOT_SET: Phase.FAILED,
        Call.IMPORT_SNAPSHOTS: Phase.IMPORT_FAILED,
    }
)
"""Where an asynchronous call leads that failed; the others leave the phase as it was."""


def after(state: RequesterState, call: Call, *, without_writers: bool = False) -> RequesterState:
    """Return the state after a call; an asynchronous call is then under way.

    without_writers: for SetContext, whether the context it sets has none.
    Raises BadState, which names the call and what stands against it.
    """
    check(state, call)
    if call in ASYNCHRONOUS:
        return replace(state, running=call)
    moved = replace(state, phase=NEXT[state.phase][call], facts=_facts(state, call))
    if call is Call.SET_CONTEXT:
        return replace(moved, without_writers=without_writers)
    return replace(moved, running=None) if call is Call.RELEASE else moved


def ended(state: RequesterState, *, succeeded: bool) -> RequesterState:
    """Return the state after the asynchronous call under way has ended."""
    call = state.running
    assert call is not None, "no asynchronous call is under way"
    idle = replace(state, running=None)
    if state.phase in {Phase.RELEASED, Phase.ABORTED}:
        return idle
    if not succeeded:
        return replace(idle, phase=AFTER_FAILURE.get(call, state.phase))
    return replace(idle, phase=NEXT[state.phase][call], facts=_facts(state, call))


def check(state: RequesterState, call: Call) -> None:
    """Raise BadState unless the call is legal now."""
    if state.running is not None and call not in WHILE_RUNNING:
        raise BadState(
            f"{call.value}: {state.running.value} is under way",
            hint="wait for it or cancel it",
            item=call.value,
        )
    if call not in NEXT[state.phase]:
        raise BadState(
            f"{call.value}: the object is {state.phase.value}", hint=_hint(call), item=call.value
        )
    if state.without_writers and call in NEEDS_WRITERS:
        raise BadState(
            f"{call.value}: the context has no writers",
            hint="leave the call out, or set a context with writers",
            item=call.value,
        )
    missing = needs(state, call) - state.facts
    if missing:
        names = " and ".join(sorted(fact.value for fact in missing))
        raise BadState(
            f"{call.value}: {names} has not been called",
            hint=f"call {names} first",
            item=call.value,
        )
    if call in ONCE and GIVES[call] in state.facts:
        raise BadState(
            f"{call.value}: it was called before",
            hint="an object takes it once; open another one",
            item=call.value,
        )


def needs(state: RequesterState, call: Call) -> frozenset[Fact]:
    """Return the facts that a call needs in this state."""
    if state.without_writers and call is Call.DO_SNAPSHOT_SET:
        return frozenset()
    return NEEDS.get(call, frozenset())


def _facts(state: RequesterState, call: Call) -> frozenset[Fact]:
    given = GIVES.get(call)
    return state.facts if given is None else state.facts | {given}


def _hint(call: Call) -> str:
    legal = [phase.value for phase, row in NEXT.items() if call in row]
    return f"it is legal when the object is {' or '.join(legal)}"
