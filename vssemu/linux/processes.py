"""Other processes: which one it is, whether it lives, its end.

A process number alone names nobody: it is used again. Identity is the number together
with the moment of its start. Signals go through a pidfd, taken first and checked
afterwards, so that they cannot hit a successor. Refuses to search for processes by name.

Source: proc(5) /proc/pid/stat field 22, pidfd_open(2) (kernel 5.3).
"""

from __future__ import annotations

import errno
import os
import select
import signal as signals
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Fields of /proc/PID/stat, counted from the one after the closing bracket of the name.
_STATE: Final = 0
_START: Final = 19
_DEAD: Final = frozenset("ZXx")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessIdentity:
    """One process, for as long as the machine is up.

    start_ticks: when it started, in clock ticks since boot.
    """

    pid: int
    start_ticks: int


def boot_id() -> str:
    """Return what tells this boot of the machine from all others, a GUID without braces."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def identity_of(pid: int) -> ProcessIdentity:
    """Return the identity of a process, also of one that ended and was not reaped.

    Raises ProcessLookupError when there is none.
    """
    return ProcessIdentity(pid=pid, start_ticks=int(_stat(pid)[_START]))


def alive(identity: ProcessIdentity) -> bool:
    """Tell whether that very process still runs; one not reaped yet (a zombie) does not."""
    try:
        fields = _stat(identity.pid)
    except ProcessLookupError:
        return False
    return int(fields[_START]) == identity.start_ticks and fields[_STATE] not in _DEAD


def command_of(pid: int) -> str | None:
    """Return the command line of a process, its words set apart by blanks.

    None for one that is gone, is a kernel thread, or may not be looked at.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return words.replace(b"\0", b" ").decode(errors="replace").strip() or None


def open_pidfd(identity: ProcessIdentity) -> int:
    """Return a pidfd of that very process.

    It becomes readable when the process has ended. The caller closes it.
    Raises ProcessLookupError when the process is gone.
    """
    try:
        fd = os.pidfd_open(identity.pid)
    except OSError as error:
        error.filename = f"/proc/{identity.pid}"
        raise
    try:
        if not alive(identity):
            raise ProcessLookupError(
                errno.ESRCH, os.strerror(errno.ESRCH), f"/proc/{identity.pid}"
            )
    except BaseException:
        os.close(fd)
        raise
    return fd


def kill(identity: ProcessIdentity, signal: signals.Signals) -> bool:
    """Send a signal to that very process; return False when it is gone.

    Raises PermissionError.
    """
    try:
        fd = open_pidfd(identity)
    except ProcessLookupError:
        return False
    try:
        signals.pidfd_send_signal(fd, signal)
    except ProcessLookupError:
        return False
    except OSError as error:
        error.filename = f"/proc/{identity.pid}"
        raise
    finally:
        os.close(fd)
    return True


def wait_gone(
    identities: Iterable[ProcessIdentity], deadline: float
) -> tuple[ProcessIdentity, ...]:
    """Wait until all these processes have ended; return those that have not.

    deadline: a moment of `time.monotonic()`. Blocks the calling thread. Processes that
    ended and were not reaped count as ended. Never raises for one that is gone.
    """
    waiting: dict[int, ProcessIdentity] = {}
    poll = select.poll()
    try:
        for identity in identities:
            try:
                fd = open_pidfd(identity)
            except ProcessLookupError:
                continue
            waiting[fd] = identity
            poll.register(fd, select.POLLIN)
        while waiting:
            remaining = deadline - time.monotonic()
            ended = poll.poll(max(remaining, 0.0) * 1000)
            if not ended and remaining <= 0:
                break
            for fd, _ in ended:
                poll.unregister(fd)
                os.close(fd)
                del waiting[fd]
        return tuple(waiting.values())
    finally:
        for fd in waiting:
            os.close(fd)


def _stat(pid: int) -> list[str]:
    path = Path(f"/proc/{pid}/stat")
    try:
        text = os.fsdecode(path.read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(path)) from None
    # The name stands in brackets and may itself hold blanks and brackets.
    return text[text.rindex(")") + 2 :].split(" ")
