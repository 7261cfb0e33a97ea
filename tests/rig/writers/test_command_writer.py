import os
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.unit.writers.writer_support import SET_ID, event, failure_of
from vssemu.linux import processes
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.hresult import Hresult
from vssemu.vss.writer import EventKind
from vssemu.writers.command import CommandWriter
from vssemu.writers.dispatch import Dispatcher


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def trace(scratch: Path) -> Path:
    return scratch / "trace"


def said(trace: Path) -> list[str]:
    return trace.read_text().split() if trace.exists() else []


def writer_of(scratch: Path, trace: Path, *, freeze: str = "", **options: object) -> Dispatcher:
    values: dict[str, Any] = {
        "pre_freeze": [script(scratch / "freeze", f'{freeze}\necho "$VSSEMU_EVENT" >> {trace}')],
        "post_thaw": [script(scratch / "thaw", f'echo "$VSSEMU_EVENT" >> {trace}')],
    }
    return Dispatcher(CommandWriter(**(values | options)))


async def test_programs_run_at_freeze_and_thaw_and_know_the_set(
    scratch: Path, trace: Path
) -> None:
    told = f'echo "$VSSEMU_SNAPSHOT_SET_ID" "$VSSEMU_VOLUMES" >> {trace}'
    dispatcher = writer_of(scratch, trace, freeze=told)
    assert (await dispatcher.deliver(event(EventKind.FREEZE))).ok
    assert (await dispatcher.deliver(event(EventKind.THAW))).ok
    assert (await dispatcher.deliver(event(EventKind.ABORT))).ok
    assert said(trace) == [SET_ID, "F:\\", "Freeze", "Thaw"]


async def test_a_status_other_than_0_is_retryable_with_the_programs_last_words(
    scratch: Path, trace: Path
) -> None:
    dispatcher = writer_of(scratch, trace, freeze="echo first; echo no licence >&2; exit 7")
    outcome = await dispatcher.deliver(event(EventKind.FREEZE))
    assert not outcome.ok
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_RETRYABLE
    assert failure_of(outcome).message.endswith("freeze: ended with status 7: no licence")


async def test_a_program_that_is_not_there_is_retryable(scratch: Path, trace: Path) -> None:
    dispatcher = writer_of(scratch, trace, pre_freeze=[str(scratch / "nothing")])
    outcome = await dispatcher.deliver(event(EventKind.FREEZE))
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_RETRYABLE
    assert "No such file" in failure_of(outcome).message


async def test_a_program_is_killed_at_its_limit_with_all_its_children(
    scratch: Path, trace: Path
) -> None:
    pids = scratch / "pids"
    freeze = f"sleep 300 & echo $! > {pids}; echo $$ >> {pids}; wait"
    dispatcher = writer_of(scratch, trace, freeze=freeze, limit=0.5)
    start = trio.current_time()
    outcome = await dispatcher.deliver(event(EventKind.FREEZE))
    assert 0.4 < trio.current_time() - start < 3
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_TIMEOUT
    assert "0.5 s" in failure_of(outcome).message
    left = [int(pid) for pid in pids.read_text().split()]
    assert len(left) == 2
    identities = []
    for pid in left:
        try:
            identities.append(processes.identity_of(pid))
        except ProcessLookupError:
            continue
    assert processes.wait_gone(identities, time.monotonic() + 5) == ()


async def test_abort_kills_the_running_program_and_runs_the_abort_program(
    scratch: Path, trace: Path
) -> None:
    started = scratch / "started"
    os.mkfifo(started)
    undo = [script(scratch / "undo", f"echo undone >> {trace}")]
    dispatcher = writer_of(scratch, trace, freeze=f"echo > {started}; sleep 300", abort=undo)
    outcomes = []

    async def freeze() -> None:
        outcomes.append(await dispatcher.deliver(event(EventKind.FREEZE)))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(freeze)
            await trio.to_thread.run_sync(started.read_text)
            dispatcher.abort_running()
    assert failure_of(outcomes[0]).hresult is Hresult.VSS_E_WRITERERROR_RETRYABLE
    assert (await dispatcher.deliver(event(EventKind.ABORT))).ok
    assert (await dispatcher.deliver(event(EventKind.ABORT))).ok
    assert said(trace) == ["undone"]


async def test_abort_runs_the_thaw_program_when_no_other_was_given(
    scratch: Path, trace: Path
) -> None:
    dispatcher = writer_of(scratch, trace)
    await dispatcher.deliver(event(EventKind.FREEZE))
    await dispatcher.deliver(event(EventKind.ABORT))
    assert said(trace) == ["Freeze", "Abort"]


async def test_abort_without_a_freeze_runs_nothing(scratch: Path, trace: Path) -> None:
    dispatcher = writer_of(scratch, trace)
    await dispatcher.deliver(event(EventKind.ABORT))
    assert said(trace) == []


def test_a_writer_without_programs_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="pre_freeze, post_thaw"):
        CommandWriter(pre_freeze=[], post_thaw=["true"])
