"""Programs: the only module that starts any.

Arguments are lists, never shell lines. The environment is built from nothing (a search
path and a locale), so that no setting of the caller changes what a tool prints. The
whole command is logged at debug level; a failure carries exit status or signal name and
what the program wrote to its error stream. Refuses to interpret any output.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_log: Final = logging.getLogger(__name__)

ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
}
# A program in an uninterruptible system call outlives SIGKILL; nobody waits longer for it.
_SECONDS_AFTER_KILL: Final = 5.0

Child = subprocess.Popen[bytes]
Stream = int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """What a program that ended with status 0 left: its arguments and its two streams."""

    argv: tuple[str, ...]
    stdout: str
    stderr: str


class ProgramFailed(OSError):
    """A program ran and ended badly.

    argv: the command. status: its exit status, None when a signal ended it.
    returncode: the status, or minus the signal's number. signal: the name of that signal, else
    None. stdout, stderr: all it wrote there.
    A program that could not be started at all gives FileNotFoundError or PermissionError.
    """

    def __init__(
        self, argv: Sequence[str], returncode: int, stderr: str, *, stdout: str = ""
    ) -> None:
        super().__init__(errno.EIO, "program failed", argv[0])
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stdout = stdout
        self.status = returncode if returncode >= 0 else None
        self.signal = signal_name(-returncode) if returncode < 0 else None
        self.stderr = stderr

    def __str__(self) -> str:
        how = f"exit status {self.status}" if self.signal is None else f"ended by {self.signal}"
        words = " ".join(self.stderr.split())
        return f"{shlex.join(self.argv)}: {how}" + (f": {words}" if words else "")


class ProgramTimedOut(ProgramFailed, TimeoutError):
    """A program did not end within its time limit and was killed with all its children."""

    def __init__(self, argv: Sequence[str], seconds: float, stderr: str) -> None:
        super().__init__(argv, -signal.SIGKILL, stderr)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{shlex.join(self.argv)}: still running after {self.seconds:g} s, killed"


def signal_name(number: int) -> str:
    """Return the name of a signal, such as "SIGTERM"; "signal 70" for a nameless one."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    input: str | None = None,  # noqa: A002  # the word that subprocess uses
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a program to its end and return what it printed.

    argv: program and arguments. timeout: seconds, after which the program and its
    children are killed. input: text for its standard input, which is empty otherwise.
    env: variables added to ENVIRONMENT. pass_fds: descriptors it inherits, by number.
    Output that is not UTF-8 arrives with surrogate escapes.
    Raises ProgramFailed for a status other than 0 or a signal, ProgramTimedOut at the
    limit, FileNotFoundError or PermissionError when there is no such program.
    """
    child = spawn(
        argv,
        env=env,
        pass_fds=pass_fds,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    try:
        data = None if input is None else os.fsencode(input)
        stdout, stderr = child.communicate(data, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise ProgramTimedOut(argv, timeout, _kill(child)) from None
    except BaseException:
        _kill(child)
        raise
    if child.returncode != 0:
        raise ProgramFailed(
            argv, child.returncode, os.fsdecode(stderr), stdout=os.fsdecode(stdout)
        )
    return Completed(argv=tuple(argv), stdout=os.fsdecode(stdout), stderr=os.fsdecode(stderr))


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    cwd: str | Path | None = None,
    stdin: Stream = subprocess.DEVNULL,
    stdout: Stream = None,
    stderr: Stream = None,
    start_new_session: bool = False,
    process_group: int | None = None,
) -> Child:
    """Start a program and return it running; the caller waits for it.

    env: variables added to ENVIRONMENT. pass_fds: descriptors it inherits, by number.
    stdin, stdout, stderr: a descriptor, `PIPE` or `DEVNULL`; None inherits ours.
    process_group: 0 puts it into a group of its own, as start_new_session does together
    with a session; None leaves it in ours.
    No code of ours runs between fork and exec, so this is safe beside other threads.
    Raises FileNotFoundError or PermissionError when there is no such program.
    """
    _log.debug("run %s", shlex.join(argv))
    return subprocess.Popen(
        list(argv),
        env={**ENVIRONMENT, **(env or {})},
        pass_fds=tuple(pass_fds),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=start_new_session,
        process_group=None if start_new_session else process_group,
    )


def wait_or_kill(child: Child, seconds: float) -> int:
    """Wait for a program that `spawn` started, kill it at the limit; return as `returncode`."""
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait(_SECONDS_AFTER_KILL)


PIPE: Final = subprocess.PIPE
DEVNULL: Final = subprocess.DEVNULL
STDOUT: Final = subprocess.STDOUT


def _kill(child: Child) -> str:
    """Kill a child's process group and return what it had written to its error stream."""
    # The child is not reaped yet, so its number, and with it the group's, is still its own.
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    try:
        return os.fsdecode(child.communicate(timeout=_SECONDS_AFTER_KILL)[1])
    except subprocess.TimeoutExpired:
        _log.warning("%s (pid %d) does not die of SIGKILL", child.args, child.pid)
        return ""
