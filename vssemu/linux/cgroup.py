"""Control groups, version 2: groups of processes that are killed and confined together.

Owns the directory operations and the files cgroup.procs, cgroup.kill and cgroup.events.
Refuses to distribute resources; what devices a group may open is in `device_fence`.

Source: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from vssemu.linux import mount, processes


def find_cgroup2() -> Path | None:
    """Return where the version 2 tree is mounted; None when it is not.

    /sys/fs/cgroup as a rule, /sys/fs/cgroup/unified beside version 1. Raises OSError
    when mountinfo cannot be read.
    """
    for facts in mount.mounts():
        if facts.fstype == "cgroup2":
            return facts.mount_point
    return None


def create(group: Path) -> None:
    """Make a group, and those above it that lack. Raises OSError: PermissionError, EAGAIN."""
    group.mkdir(parents=True, exist_ok=True)


def move(group: Path, pid: int) -> None:
    """Move a process, with all its threads, into a group; 0 moves the caller.

    What it starts later is in the group from birth.
    Raises OSError: ESRCH, EPERM, ENOENT, EBUSY when the group has controllers for children.
    """
    _write(group / "cgroup.procs", str(pid))


def pids(group: Path) -> tuple[int, ...]:
    """Return the processes of a group and all groups below it, as this pid namespace has them.

    0 stands for one of another pid namespace. Empty when the group is gone meanwhile.
    Raises OSError.
    """
    found: list[int] = []
    for each in _below(group):
        try:
            text = (each / "cgroup.procs").read_text(encoding="ascii")
        except OSError as error:
            if _is_gone(error):
                continue
            raise
        found += [int(line) for line in text.split()]
    return tuple(found)


def kill(group: Path) -> None:
    """Send SIGKILL to every process of a group and below, also to those just being born.

    Kernels before 5.14 lack cgroup.kill: there each process is killed by number, again and
    again until no new one appears; one in an uninterruptible call then remains listed.
    A group that is gone is no error. Returns before they are dead: `wait_empty`.
    Raises OSError: PermissionError.
    """
    try:
        _write(group / "cgroup.kill", "1")
    except FileNotFoundError:
        _kill_one_by_one(group)
    except OSError as error:
        if not _is_gone(error):
            raise


def wait_empty(group: Path, deadline: float) -> bool:
    """Wait until no process is left in a group and below; tell whether that came to pass.

    deadline: a moment of `time.monotonic()`. Blocks the calling thread. A zombie that
    nobody reaped does not count. A group that is gone is empty. Raises OSError.
    """
    try:
        events = os.open(group / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while True:
            if b"populated 0" in os.pread(events, 4096, 0):
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            poll.poll(remaining * 1000)
    except OSError as error:
        if _is_gone(error):
            return True
        raise
    finally:
        os.close(events)


def remove(group: Path) -> None:
    """Remove a group and all below it, deepest first; one that is gone is no error.

    Raises OSError: EBUSY while a process is in one of them; those removed before stay so.
    """
    for each in reversed(list(_below(group))):
        try:
            each.rmdir()
        except FileNotFoundError:
            continue


def _below(group: Path) -> Iterator[Path]:
    """Yield a group and all below it, parents first."""
    for directory, _, _ in os.walk(group):
        yield Path(directory)


def _kill_one_by_one(group: Path) -> None:
    seen: set[processes.ProcessIdentity] = set()
    while True:
        fresh = set()
        for pid in pids(group):
            try:
                identity = processes.identity_of(pid)
            except ProcessLookupError:
                continue
            if identity not in seen and processes.kill(identity, signal.SIGKILL):
                fresh.add(identity)
        if not fresh:
            return
        seen |= fresh


def _is_gone(error: OSError) -> bool:
    # A file that was open when its group was removed answers ENODEV.
    return isinstance(error, FileNotFoundError) or error.errno == errno.ENODEV


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(fd)
