"""One supervised program: what the table says of it, how it stands, how a child becomes it.

Synchronous and standard library only, like all that PID 1 does.
"""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from vssemu.daemons.confinement import confine
from vssemu.linux import capabilities, fdstore

RESTART_PAUSE = 0.2
"""Seconds between the death of a service that lived shortly, and served, and its restart; doubled
up to RESTART_PAUSE_MAX for one that does not come to serve."""
RESTART_PAUSE_MAX = 5.0


class Service:
    """One supervised program and how it stands."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.name: str = spec["name"]
        self.argv: list[str] = spec["argv"]
        self.env: dict[str, str] = spec.get("env", {})
        self.after: list[str] = spec.get("after", [])
        self.confined: bool = spec.get("confined", False)
        self.dies_with_me: bool = spec.get("dies_with_me", False)
        self.restart: bool = spec.get("restart", True)
        self.stop_seconds: float = spec.get("stop_seconds", 5.0)
        self.most_kept: int = spec.get("descriptors", 0)
        self.nice: int | None = spec.get("nice")
        self.kept: dict[str, int] = {}
        self.wanted = True
        self.pid = 0
        self.ready = False
        self.says_ready = any("{ready_fd}" in word for word in self.argv)
        self.ready_fd = -1
        self.starts = 0
        self.started_at = 0.0
        self.not_before = 0.0
        self.pause = RESTART_PAUSE
        self.kill_at = 0.0
        self.last_status: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return how the service stands, for the control socket."""
        return {
            "name": self.name,
            "pid": self.pid,
            "ready": self.ready,
            "wanted": self.wanted,
            "starts": self.starts,
            "last_status": self.last_status,
            "kept": sorted(self.kept),
        }

    def keep(self, name: str, descriptor: int) -> bool:
        """Take over a descriptor; False when there is no room for it."""
        if name not in self.kept and len(self.kept) >= self.most_kept:
            return False
        self.let_go(name)
        self.kept[name] = descriptor
        return True

    def let_go(self, *names: str) -> None:
        """Close the kept descriptors of these names; unknown ones are none."""
        for name in names:
            if name in self.kept:
                os.close(self.kept.pop(name))


def become(service: Service, ready_fd: int, log: Path, store: Path) -> None:
    """Turn the forked child into the service; never returns.

    store: the socket that takes descriptors.
    """
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        if service.dies_with_me:
            capabilities.set_parent_death_signal(signal.SIGKILL)
        if service.nice is not None:
            with contextlib.suppress(PermissionError):  # then it waits like others
                os.setpriority(os.PRIO_PROCESS, 0, service.nice)
        if service.confined:
            confine()
        kept: dict[str, str] = {}
        if service.most_kept:
            kept, (ready_fd,) = fdstore.hand_back(service.kept, [ready_fd])
            kept["NOTIFY_SOCKET"] = str(store)
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        null_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(null_fd, 0)
        os.dup2(log_fd, 1)
        os.dup2(log_fd, 2)
        os.set_inheritable(ready_fd, True)
        argv = [word.replace("{ready_fd}", str(ready_fd)) for word in service.argv]
        os.execvpe(argv[0], argv, {**os.environ, **service.env, **kept})
    except BaseException as error:  # noqa: BLE001  (a forked child must not return)
        os.write(2, f"{service.name}: cannot start: {error}\n".encode())
    finally:
        os._exit(127)
