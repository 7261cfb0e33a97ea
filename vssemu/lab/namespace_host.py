"""A namespace host, seen from outside: the process that makes it and waits for its PID 1.

`python -m vssemu.lab.namespace_host FILE` with a JSON file of `HostSpec`. Namespaces: mount,
uts, ipc, net, cgroup, pid. Killing this process or its child is the power button: the kernel
then ends everything inside.
"""

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vssemu.lab import root
from vssemu.linux import capabilities, cgroup, mount, namespaces, processes
from vssemu.linux.namespaces import Namespace

NAMESPACES = (
    Namespace.MOUNT
    | Namespace.UTS
    | Namespace.IPC
    | Namespace.NET
    | Namespace.CGROUP
    | Namespace.PID
)
"""What a host has of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSpec:
    """What a host is made from. table: the services' table of its PID 1 (see daemons.init)."""

    name: str
    tree: str
    state: str
    outside: str
    hidden: tuple[str, ...]
    cgroup: str
    pid_file: str
    table: str


def start(spec: HostSpec) -> int:
    """Make the host; return the pid of its PID 1 as this process sees it. Raises OSError."""
    cgroup.move(Path(spec.cgroup), os.getpid())
    namespaces.unshare(NAMESPACES)
    # What the machine unmounts goes here too; what is mounted here never shows there.
    mount.set_propagation("/", mount.Propagation.SLAVE, recursive=True)
    tree = Path(spec.tree)
    root.build(
        tree,
        frozenset(Path(p) for p in spec.hidden),
        state=Path(spec.state),
        outside=Path(spec.outside),
    )
    waiter, starter = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(starter)
        _become_init(spec, tree, waiter)
    os.close(waiter)
    # pivot_root moves this process too, so what is outside is done before.
    _record(Path(spec.pid_file), pid)
    os.close(starter)
    return pid


def _record(file: Path, pid: int) -> None:
    identity = processes.identity_of(pid)
    partial = file.with_suffix(".new")
    partial.write_text(json.dumps({"pid": identity.pid, "start": identity.start_ticks}))
    partial.rename(file)


def _become_init(spec: HostSpec, tree: Path, waiter: int) -> None:
    """Go on as PID 1 inside; never returns."""
    try:
        capabilities.set_parent_death_signal(signal.SIGKILL)
        os.read(waiter, 1)
        mount.mount("proc", tree / "proc", "proc")
        os.chdir(tree)
        namespaces.pivot_root(".", ".")
        mount.unmount(".", mount.UnmountFlag.DETACH)
        os.chdir("/")
        namespaces.set_host_name(spec.name)
        namespaces.interface_up("lo")
        os.environ["HOSTNAME"] = spec.name
        os.execv(sys.executable, [sys.executable, "-m", "vssemu.daemons.init", spec.table])
    except BaseException as error:  # noqa: BLE001  (a forked child must not return)
        os.write(2, f"{spec.name}: {error}\n".encode())
    finally:
        os._exit(127)


def main() -> None:
    """Make the host and end with it, passing SIGTERM on to its PID 1."""
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=HostSpec)
    pid = start(spec)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
