"""Running a program inside a namespace host, as `lab exec` does."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from vssemu.daemons.confinement import confine
from vssemu.lab.namespace_host import NAMESPACES
from vssemu.lab.paths import LabPaths
from vssemu.linux import cgroup, namespaces, processes
from vssemu.vss.errors import Fail


def identity_of_host(paths: LabPaths, host: str) -> processes.ProcessIdentity:
    """Return the identity of a running host's PID 1. Raises Fail when it is not running."""
    try:
        record = json.loads(paths.host_pid(host).read_bytes())
        identity = processes.ProcessIdentity(pid=record["pid"], start_ticks=record["start"])
    except (OSError, ValueError, KeyError):
        identity = None
    if identity is None or not processes.alive(identity):
        raise Fail(
            f"host {host} of lab {paths.name} is not running",
            hint=f"vssemu lab start {host} --name {paths.name}",
            item=host,
        )
    return identity


def inside(paths: LabPaths, host: str, path: str) -> Path:
    """Return the path by which the machine reaches `path` of a running host."""
    return Path(f"/proc/{identity_of_host(paths, host).pid}/root") / path.lstrip("/")


def run_inside(paths: LabPaths, host: str, host_cgroup: Path, argv: Sequence[str]) -> int:
    """Run a program on a host with this process's own streams; return its exit status.

    A program that died of a signal gives 128 plus its number, as a shell has it. This process
    itself enters the host for good, all but its pid namespace. Raises Fail, OSError.
    """
    identity = identity_of_host(paths, host)
    directory = Path.cwd()
    pidfd = processes.open_pidfd(identity)
    cgroup.move(host_cgroup, os.getpid())
    namespaces.enter(pidfd, NAMESPACES)
    os.close(pidfd)
    pid = os.fork()
    if pid == 0:
        _become(argv, directory, host)
    return _wait(pid)


def _become(argv: Sequence[str], directory: Path, host: str) -> None:
    """Turn the forked child into the program; never returns."""
    status = 126
    try:
        confine()
        os.chdir(directory if directory.is_dir() else Path("/"))
        own = str(Path(sys.executable).parent)
        path = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        if own not in path.split(os.pathsep):
            path = own + os.pathsep + path
        os.execvpe(argv[0], list(argv), {**os.environ, "PATH": path, "HOSTNAME": host})
    except FileNotFoundError:
        status = 127
        os.write(2, f"{argv[0]}: not found on {host}\n".encode())
    except BaseException as error:  # noqa: BLE001  (a forked child must not return)
        os.write(2, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(status)


def _wait(pid: int) -> int:
    def pass_on(number: int, _frame: FrameType | None) -> None:
        os.kill(pid, number)

    # A terminal's interrupt reaches the program by itself; what is sent to us alone does not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGHUP, pass_on)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
