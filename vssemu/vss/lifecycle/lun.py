"""The life of a LUN in the array.

    ready ----------DELETE--------------------------------------> deleting
    prepared --ABORT--> deleting        independent --DELETE----> deleting
       | COMMIT                              ^
    committed --ABORT, RECLAIM, DELETE       | BREAK
     | SURFACE ^              `-> deleting   |
     v         | RETRACT                     |
    claimed -------------------------------->+--RECLAIM, DELETE-> deleting
       | FAIL_IMPORT
    import-failed --RECLAIM, DELETE--> deleting

    committed, claimed, import-failed --END--> ended --ABORT, RECLAIM, DELETE--> deleting

END takes the data of a copy away for want of room. RETRACT gives up a claim: the copy may be
surfaced once more, by whoever holds its record. Calls that leave the state as it is (UNMASK,
MASK, EXTEND, COPY, EXPORT) stand in the table as well: what the table lacks is refused. Who
may call, and conditions beyond the state (mapped, in use, the parent of a copy), are the
array's.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from vssemu.vss.array import LunState
from vssemu.vss.errors import BadState


class LunCall(Enum):
    """What can be asked of a LUN; the values are the words of messages."""

    UNMASK = "unmask"
    MASK = "mask"
    EXTEND = "extend"
    COPY = "copy"
    COMMIT = "commit"
    ABORT = "abort"
    SURFACE = "surface"
    RETRACT = "retract"
    FAIL_IMPORT = "fail the import of"
    BREAK = "break"
    SHARE = "share"
    END = "end"
    EXPORT = "export"
    RECLAIM = "reclaim"
    DELETE = "delete"


_DELETING: Final = LunState.DELETING

NEXT: Final[Mapping[LunState, Mapping[LunCall, LunState]]] = {
    LunState.READY: {
        LunCall.UNMASK: LunState.READY,
        LunCall.MASK: LunState.READY,
        LunCall.EXTEND: LunState.READY,
        LunCall.COPY: LunState.READY,
        LunCall.RETRACT: LunState.READY,
        LunCall.DELETE: _DELETING,
    },
    LunState.PREPARED: {
        LunCall.COMMIT: LunState.COMMITTED,
        LunCall.ABORT: _DELETING,
    },
    LunState.COMMITTED: {
        LunCall.SURFACE: LunState.CLAIMED,
        LunCall.END: LunState.ENDED,
        LunCall.ABORT: _DELETING,
        LunCall.RECLAIM: _DELETING,
        LunCall.DELETE: _DELETING,
        LunCall.EXPORT: LunState.COMMITTED,
    },
    LunState.CLAIMED: {
        LunCall.UNMASK: LunState.CLAIMED,
        LunCall.MASK: LunState.CLAIMED,
        LunCall.RETRACT: LunState.COMMITTED,
        LunCall.BREAK: LunState.INDEPENDENT,
        LunCall.FAIL_IMPORT: LunState.IMPORT_FAILED,
        LunCall.END: LunState.ENDED,
        LunCall.RECLAIM: _DELETING,
        LunCall.DELETE: _DELETING,
        LunCall.EXPORT: LunState.CLAIMED,
    },
    LunState.IMPORT_FAILED: {
        LunCall.MASK: LunState.IMPORT_FAILED,
        LunCall.RETRACT: LunState.IMPORT_FAILED,
        LunCall.FAIL_IMPORT: LunState.IMPORT_FAILED,
        LunCall.END: LunState.ENDED,
        LunCall.RECLAIM: _DELETING,
        LunCall.DELETE: _DELETING,
        LunCall.EXPORT: LunState.IMPORT_FAILED,
    },
    LunState.INDEPENDENT: {
        LunCall.UNMASK: LunState.INDEPENDENT,
        LunCall.MASK: LunState.INDEPENDENT,
        LunCall.EXTEND: LunState.INDEPENDENT,
        LunCall.COPY: LunState.INDEPENDENT,
        LunCall.RETRACT: LunState.INDEPENDENT,
        LunCall.BREAK: LunState.INDEPENDENT,
        LunCall.SHARE: LunState.INDEPENDENT,
        LunCall.DELETE: _DELETING,
        LunCall.EXPORT: LunState.INDEPENDENT,
    },
    LunState.ENDED: {
        LunCall.MASK: LunState.ENDED,
        LunCall.RETRACT: LunState.ENDED,
        LunCall.FAIL_IMPORT: LunState.ENDED,
        LunCall.ABORT: _DELETING,
        LunCall.RECLAIM: _DELETING,
        LunCall.DELETE: _DELETING,
    },
    LunState.DELETING: {
        LunCall.ABORT: _DELETING,
        LunCall.RECLAIM: _DELETING,
        LunCall.DELETE: _DELETING,
    },
}

_HINTS: Final[Mapping[LunState, str]] = {
    LunState.READY: "only a shadow copy's LUN takes part in that",
    LunState.PREPARED: "its snapshot set is being created; wait for its end or abort it",
    LunState.COMMITTED: "import the shadow copy first, or delete it",
    LunState.CLAIMED: "it was imported; mask it on the host that did, or break or delete it",
    LunState.IMPORT_FAILED: "its import failed; clean it up on the host that tried",
    LunState.INDEPENDENT: "it was broken out of its set and belongs to the administrator",
    LunState.ENDED: "its data are gone, for the pool had no room left for them; delete it",
    LunState.DELETING: "it is being deleted",
}


def after(state: LunState, call: LunCall, *, item: str | None = None) -> LunState:
    """Return the state of a LUN after a call.

    item: the LUN, for the message. Raises BadState, naming both, when the call is not legal.
    """
    try:
        return NEXT[state][call]
    except KeyError:
        raise BadState(
            f"cannot {call.value} LUN {item or '?'}: its state is {state.value}",
            item=item,
            hint=_HINTS[state],
        ) from None
