"""Any order of calls, on any of three sets: the provider and the table agree, nothing leaks."""

import tempfile
from pathlib import Path
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.providers.provider_support import (
    HOST,
    MemoryArray,
    code_of,
    new_set,
    new_snapshot,
    serve_array,
)
from vssemu.providers.array import ArrayProvider
from vssemu.vss.errors import VssError
from vssemu.vss.hresult import PROVIDER_RETURNS, Hresult
from vssemu.vss.lifecycle.provider import SetCall, SetState, after

CALLS = st.lists(
    st.tuples(st.sampled_from(SetCall), st.integers(0, 2), st.integers(0, 2)), max_size=24
)
IN_ORDER = (
    SetCall.BEGIN_PREPARE,
    SetCall.END_PREPARE,
    SetCall.PRE_COMMIT,
    SetCall.COMMIT,
    SetCall.POST_COMMIT,
    SetCall.GET_TARGET_LUNS,
    SetCall.PRE_FINAL_COMMIT,
    SetCall.POST_FINAL_COMMIT,
)
PREFIXES = st.builds(
    lambda length, lun: [(call, 0, lun) for call in IN_ORDER[:length]],
    st.integers(0, len(IN_ORDER)),
    st.integers(0, 2),
)


class Model:
    """What the table says of the one current set."""

    def __init__(self) -> None:
        self.current = None
        self.state = SetState.NONE

    def expect(self, call: Any, number: Any) -> Any:
        """Return the code that the call must answer, and move on."""
        if call is SetCall.ABORT:
            if self.current == number:
                self.state = after(self.state, call)
            return None
        if call is SetCall.GET_TARGET_LUNS:
            number = self.current
            if number is None:
                return Hresult.VSS_E_OBJECT_NOT_FOUND
        elif call is SetCall.BEGIN_PREPARE and self.current != number:
            self.current, self.state = number, SetState.NONE
        if self.current != number:
            return Hresult.VSS_E_OBJECT_NOT_FOUND
        try:
            self.state = after(self.state, call)
        except VssError as error:
            if self.state not in {SetState.NONE, SetState.FINAL}:
                self.state = SetState.ABORTED
            return error.hresult
        return None


def call_of(provider: ArrayProvider, array: MemoryArray, call: Any, set_id: Any, lun: Any) -> Any:
    source = array.source(lun)
    calls: dict[SetCall, Any] = {
        SetCall.BEGIN_PREPARE: lambda: provider.begin_prepare_snapshot(
            set_id, new_snapshot(), 0, [source]
        ),
        SetCall.END_PREPARE: lambda: provider.end_prepare_snapshots(set_id),
        SetCall.PRE_COMMIT: lambda: provider.pre_commit_snapshots(set_id),
        SetCall.COMMIT: lambda: provider.commit_snapshots(set_id),
        SetCall.POST_COMMIT: lambda: provider.post_commit_snapshots(set_id, 1),
        SetCall.PRE_FINAL_COMMIT: lambda: provider.pre_final_commit_snapshots(set_id),
        SetCall.POST_FINAL_COMMIT: lambda: provider.post_final_commit_snapshots(set_id),
        SetCall.GET_TARGET_LUNS: lambda: provider.get_target_luns([source]),
        SetCall.ABORT: lambda: provider.abort_snapshots(set_id),
    }
    return calls[call]()


async def play(path: Path, calls: Any) -> None:
    array, provider, model = MemoryArray(), ArrayProvider(), Model()
    ids = [new_set(), new_set(), new_set()]
    luns_of_current: set[int] = set()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_array, array, path / "array.sock")
            await provider.on_load(HOST, {"array_socket": str(path / "array.sock")})
            for call, number, lun in calls:
                if call is SetCall.BEGIN_PREPARE and model.current != number:
                    luns_of_current = set()
                    ids[number] = new_set()  # VSS never gives an id twice
                if call is SetCall.GET_TARGET_LUNS and lun not in luns_of_current:
                    lun = min(luns_of_current, default=0)
                expected = model.expect(call, number)
                code = await code_of(call_of(provider, array, call, ids[number], lun))
                assert code == expected, (call, number, model.state)
                assert code is None or code in PROVIDER_RETURNS
                if call is SetCall.BEGIN_PREPARE and code is None:
                    luns_of_current.add(lun)
                assert array.unfinished() <= 1, "two unfinished sets in the array"
                if model.state is SetState.ABORTED:
                    assert array.unfinished() == 0, "an aborted set is still in the array"
            await provider.on_unload(force=True)
            if model.state is not SetState.FINAL:
                assert array.unfinished() == 0
            nursery.cancel_scope.cancel()


@settings(max_examples=150, deadline=None)
@given(prefix=PREFIXES, calls=CALLS)
def test_any_order_of_calls_is_answered_by_the_table_and_leaves_nothing(
    prefix: Any, calls: Any
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trio.run(play, Path(directory), prefix + calls)
