"""What requester methods do on the wire when things go wrong."""

import pytest

from vssemu.api import plans
from vssemu.api import requester as table
from vssemu.rpc.errors import RpcBroken
from vssemu.vss.errors import BadState, ObjectNotFound


def test_leaving_a_block_by_an_exception_aborts_and_releases() -> None:
    plan = plans.left_by_exception()
    assert next(plan).method is table.abort_backup
    assert plan.throw(BadState("nothing to abort")).method is table.release
    with pytest.raises(StopIteration):
        plan.send(None)


@pytest.mark.parametrize("calls", [0, 1])
def test_a_service_that_is_gone_does_not_hide_the_exception_that_left_the_block(
    calls: int,
) -> None:
    plan = plans.left_by_exception()
    next(plan)
    for _ in range(calls):
        plan.send(None)
    with pytest.raises(StopIteration):
        plan.throw(RpcBroken("the peer closed the connection"))


def test_what_the_service_says_of_a_release_is_told() -> None:
    plan = plans.left_by_exception()
    next(plan)
    plan.send(None)
    with pytest.raises(ObjectNotFound):
        plan.throw(ObjectNotFound("no session"))
