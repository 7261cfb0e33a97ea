import itertools
from typing import Any

import pytest

from vssemu.vss.array import LunState
from vssemu.vss.errors import BadState
from vssemu.vss.lifecycle.lun import NEXT, LunCall, after

LEGAL = {
    "ready": {"UNMASK": "ready", "MASK": "ready", "EXTEND": "ready", "COPY": "ready"}
    | {"RETRACT": "ready", "DELETE": "deleting"},
    "prepared": {"COMMIT": "committed", "ABORT": "deleting"},
    "committed": {"SURFACE": "claimed", "EXPORT": "committed"}
    | dict.fromkeys(("ABORT", "RECLAIM", "DELETE"), "deleting")
    | {"END": "ended"},
    "claimed": {"UNMASK": "claimed", "MASK": "claimed", "BREAK": "independent"}
    | {"EXPORT": "claimed"}
    | {"FAIL_IMPORT": "import-failed", "RECLAIM": "deleting", "DELETE": "deleting"}
    | {"RETRACT": "committed", "END": "ended"},
    "import-failed": dict.fromkeys(("MASK", "FAIL_IMPORT", "RETRACT", "EXPORT"), "import-failed")
    | {"RECLAIM": "deleting", "DELETE": "deleting", "END": "ended"},
    "independent": dict.fromkeys(
        ("UNMASK", "MASK", "EXTEND", "COPY", "BREAK", "SHARE", "RETRACT", "EXPORT"), "independent"
    )
    | {"DELETE": "deleting"},
    "ended": dict.fromkeys(("MASK", "FAIL_IMPORT", "RETRACT"), "ended")
    | dict.fromkeys(("ABORT", "RECLAIM", "DELETE"), "deleting"),
    "deleting": dict.fromkeys(("ABORT", "RECLAIM", "DELETE"), "deleting"),
}


@pytest.mark.parametrize(("state", "call"), list(itertools.product(LunState, LunCall)))
def test_each_pair_of_state_and_call_moves_or_is_refused(state: Any, call: Any) -> None:
    expected = LEGAL[state.value].get(call.name)
    if expected is not None:
        assert after(state, call).value == expected
        return
    with pytest.raises(BadState) as refusal:
        after(state, call, item="naa.6")
    assert refusal.value.item == "naa.6"
    assert state.value in refusal.value.fact
    assert call.value in refusal.value.fact
    assert refusal.value.hint


def test_a_lun_is_claimed_from_one_state_only() -> None:
    assert [state for state in NEXT if LunCall.SURFACE in NEXT[state]] == [LunState.COMMITTED]


def test_nothing_leaves_deleting() -> None:
    assert set(NEXT[LunState.DELETING].values()) == {LunState.DELETING}
