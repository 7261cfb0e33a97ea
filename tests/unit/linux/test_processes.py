import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vssemu.linux import processes, run


@pytest.fixture
def sleeper() -> Iterator[Any]:
    child = run.spawn(["sleep", "100"])
    yield child
    child.kill()
    child.wait(10)


def test_identity_has_the_start_time_that_the_kernel_tells(sleeper: run.Child) -> None:
    identity = processes.identity_of(sleeper.pid)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    age = now - identity.start_ticks / os.sysconf("SC_CLK_TCK")
    assert -0.1 < age < 60


def test_a_name_with_brackets_and_blanks_is_read_right(tmp_path: Path) -> None:
    program = tmp_path / "a ) R (b"
    program.symlink_to("/bin/sleep")
    child = run.spawn([str(program), "100"])
    try:
        assert processes.alive(processes.identity_of(child.pid))
    finally:
        child.kill()
        child.wait(10)


def test_a_successor_with_the_same_number_is_not_alive_and_not_killed(sleeper: run.Child) -> None:
    real = processes.identity_of(sleeper.pid)
    earlier = processes.ProcessIdentity(pid=real.pid, start_ticks=real.start_ticks - 1)
    assert processes.alive(real)
    assert not processes.alive(earlier)
    assert not processes.kill(earlier, signal.SIGKILL)
    assert processes.alive(real)
    with pytest.raises(ProcessLookupError) as caught:
        processes.open_pidfd(earlier)
    assert caught.value.filename == f"/proc/{real.pid}"


def test_kill_reaches_the_process_and_wait_gone_sees_its_end(sleeper: run.Child) -> None:
    identity = processes.identity_of(sleeper.pid)
    assert processes.wait_gone([identity], time.monotonic() + 0.05) == (identity,)
    assert processes.kill(identity, signal.SIGTERM)
    assert processes.wait_gone([identity], time.monotonic() + 10) == ()
    # Not reaped yet: its number is taken, and it counts as ended all the same.
    assert processes.identity_of(sleeper.pid) == identity
    assert not processes.alive(identity)
    assert sleeper.wait(10) == -signal.SIGTERM
    assert not processes.kill(identity, signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        processes.identity_of(sleeper.pid)


def test_wait_gone_returns_only_those_that_remain(sleeper: run.Child) -> None:
    other = run.spawn(["sleep", "100"])
    identities = [processes.identity_of(child.pid) for child in (sleeper, other)]
    other.kill()
    before = len(os.listdir("/proc/self/fd"))
    assert processes.wait_gone(identities, time.monotonic() + 0.5) == (identities[0],)
    assert len(os.listdir("/proc/self/fd")) == before
    other.wait(10)
