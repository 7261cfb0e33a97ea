"""What a provider may be told of one snapshot set, and in which order.

The service moves along this table before each call, so that a provider never sees an illegal
one; the runner and the conformance kit check by the same table. Calls on single LUNs
(AreLunsSupported, FillInLunInfo, LocateLuns, OnLunEmpty, OnLunStateChange, ResyncLuns) carry
their own data and are legal always; they are not here.
Source: state-transitions-in-shadow-copy-providers; the answers to illegal calls are our choice.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from vssemu.vss.errors import BadState, ObjectNotFound


class SetState(Enum):
    """A set as its provider knows it."""

    NONE = "none"
    PREPARING = "preparing"
    PREPARED = "prepared"
    PRECOMMITTED = "pre-committed"
    COMMITTED = "committed"
    CREATED = "created"
    FINAL = "final"
    ABORTED = "aborted"


class SetCall(Enum):
    """A call on a set; the value is its Windows name."""

    BEGIN_PREPARE = "BeginPrepareSnapshot"
    END_PREPARE = "EndPrepareSnapshots"
    PRE_COMMIT = "PreCommitSnapshots"
    COMMIT = "CommitSnapshots"
    POST_COMMIT = "PostCommitSnapshots"
    PRE_FINAL_COMMIT = "PreFinalCommitSnapshots"
    POST_FINAL_COMMIT = "PostFinalCommitSnapshots"
    GET_TARGET_LUNS = "GetTargetLuns"
    ABORT = "AbortSnapshots"


NEXT: Mapping[SetState, Mapping[SetCall, SetState]] = MappingProxyType(
    {
        SetState.NONE: {
            SetCall.BEGIN_PREPARE: SetState.PREPARING,
            SetCall.ABORT: SetState.NONE,
        },
        SetState.PREPARING: {
            SetCall.BEGIN_PREPARE: SetState.PREPARING,
            SetCall.END_PREPARE: SetState.PREPARED,
            SetCall.ABORT: SetState.ABORTED,
        },
        SetState.PREPARED: {
            SetCall.PRE_COMMIT: SetState.PRECOMMITTED,
            SetCall.ABORT: SetState.ABORTED,
        },
        SetState.PRECOMMITTED: {
            SetCall.COMMIT: SetState.COMMITTED,
            SetCall.ABORT: SetState.ABORTED,
        },
        SetState.COMMITTED: {
            SetCall.POST_COMMIT: SetState.CREATED,
            SetCall.ABORT: SetState.ABORTED,
        },
        SetState.CREATED: {
            SetCall.PRE_FINAL_COMMIT: SetState.CREATED,
            SetCall.POST_FINAL_COMMIT: SetState.FINAL,
            SetCall.GET_TARGET_LUNS: SetState.CREATED,
            # The documents are silent; records that nobody has yet can still be dropped.
            SetCall.ABORT: SetState.ABORTED,
        },
        SetState.FINAL: {
            SetCall.GET_TARGET_LUNS: SetState.FINAL,
            # A finished set dies LUN by LUN, through OnLunEmpty.
            SetCall.ABORT: SetState.FINAL,
        },
        SetState.ABORTED: {SetCall.ABORT: SetState.ABORTED},
    }
)
"""Where each legal call leads."""


def after(state: SetState, call: SetCall) -> SetState:
    """Return the state after a call.

    Raises ObjectNotFound for a set that the provider does not know (any more), BadState for a
    call out of order; both change nothing.
    """
    row = NEXT[state]
    if call in row:
        return row[call]
    fact = f"{call.value}: the set is {state.value}"
    hint = f"legal now: {', '.join(legal.value for legal in row)}"
    if state in {SetState.NONE, SetState.ABORTED}:
        raise ObjectNotFound(fact, hint=hint, item=call.value)
    raise BadState(fact, hint=hint, item=call.value)
