"""Operations (IVssAsync) that end in unusual ways."""

from typing import Any

import trio
import trio.testing

from vssemu.service.operations import Operation
from vssemu.vss.errors import ProviderVeto
from vssemu.vss.hresult import Hresult


async def test_an_operation_that_fails_while_it_is_cancelled_tells_the_failure(
    nursery: Any,
) -> None:
    async def work() -> Hresult:
        # The failure and the sibling's cancellation leave the nursery as one group.
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ProviderVeto("no room on the array")

    ends: list[bool] = []
    operation = Operation(name="DoSnapshotSet", uid=0)
    nursery.start_soon(operation.run, work, ends.append)
    await trio.testing.wait_all_tasks_blocked()
    status = await operation.cancel()
    assert status.hresult == Hresult.VSS_E_PROVIDER_VETO
    assert "no room" in status.fact
    assert ends == [False]


async def test_a_cancelled_operation_says_so_once_and_for_all(nursery: Any) -> None:
    async def work() -> Hresult:
        await trio.sleep_forever()

    operation = Operation(name="DoSnapshotSet", uid=0)
    nursery.start_soon(operation.run, work, lambda _: None)
    await trio.testing.wait_all_tasks_blocked()
    assert (await operation.cancel()).hresult == Hresult.S_OK
    assert (await operation.cancel()).hresult == Hresult.VSS_S_ASYNC_CANCELLED
