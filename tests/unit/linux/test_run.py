import os
import signal
import time
from pathlib import Path

import pytest

from vssemu.linux import processes, run


def test_run_returns_both_streams() -> None:
    done = run.run(["sh", "-c", "cat; echo error >&2"], input="grüße", timeout=10)
    assert (done.stdout, done.stderr) == ("grüße", "error\n")


def test_the_environment_is_built_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSSEMU_SECRET", "1")
    printed = run.run(["env"], env={"ADDED": "2"}, timeout=10).stdout.split("\n")
    assert sorted(filter(None, printed)) == sorted(
        ["ADDED=2", *(f"{key}={value}" for key, value in run.ENVIRONMENT.items())]
    )


def test_bytes_that_are_not_utf8_survive() -> None:
    assert os.fsencode(run.run(["printf", r"\377"], timeout=10).stdout) == b"\xff"


def test_a_failure_tells_command_status_and_words() -> None:
    with pytest.raises(run.ProgramFailed) as caught:
        run.run(["sh", "-c", "echo no such disk >&2; exit 3"], timeout=10)
    error = caught.value
    assert (error.status, error.signal, error.stderr) == (3, None, "no such disk\n")
    assert error.filename == "sh"
    assert str(error).endswith("exit status 3: no such disk")


def test_a_signal_is_told_by_its_name() -> None:
    with pytest.raises(run.ProgramFailed) as caught:
        run.run(["sh", "-c", "kill -TERM $$"], timeout=10)
    assert (caught.value.status, caught.value.signal) == (None, "SIGTERM")


def test_an_unknown_program_is_file_not_found() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        run.run(["vssemu-no-such-program"], timeout=10)
    assert caught.value.filename == "vssemu-no-such-program"


def test_at_the_limit_the_grandchildren_die_too(tmp_path: Path) -> None:
    """This test will start a shell that leaves a child behind which holds the pipes open."""
    noted = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(run.ProgramTimedOut, match="still running after 1 s"):
        run.run(["sh", "-c", f"sleep 100 & echo $! > {noted}; wait"], timeout=1)
    assert time.monotonic() - started < 10
    pid = int(noted.read_text())
    try:
        identity = processes.identity_of(pid)
    except ProcessLookupError:
        return
    assert processes.wait_gone([identity], time.monotonic() + 5) == ()


def test_a_timeout_is_a_program_failure_and_a_timeout_error() -> None:
    with pytest.raises(TimeoutError):
        run.run(["sleep", "100"], timeout=0.1)
    with pytest.raises(run.ProgramFailed):
        run.run(["sleep", "100"], timeout=0.1)


def test_descriptors_are_inherited_only_when_named(tmp_path: Path) -> None:
    with (tmp_path / "kept").open("w+") as kept, (tmp_path / "lost").open("w+") as lost:
        os.set_inheritable(lost.fileno(), True)
        listing = run.run(["ls", "/proc/self/fd"], pass_fds=[kept.fileno()], timeout=10).stdout
        assert str(kept.fileno()) in listing.split()
        assert str(lost.fileno()) not in listing.split()


def test_spawn_puts_a_child_into_a_group_of_its_own() -> None:
    child = run.spawn(["sleep", "100"], process_group=0)
    try:
        assert os.getpgid(child.pid) == child.pid
        assert os.getsid(child.pid) == os.getsid(0)
    finally:
        child.send_signal(signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL


def test_spawn_starts_a_session() -> None:
    child = run.spawn(["sleep", "100"], start_new_session=True)
    try:
        assert os.getsid(child.pid) == child.pid
    finally:
        child.kill()
        child.wait(10)
