"""Taking away what a lab left, whatever state it is in, and nothing else.

What is ours is known from three records: the lab's control group holds its processes, its
array's journal names its LUNs, and its directories carry its name. A volume that a crash left
frozen is thawed before its processes are killed, because a process that waits for a freeze
ignores SIGKILL.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from vssemu.lab.paths import LabPaths
from vssemu.lab.waiting import until
from vssemu.linux import cgroup, fuse_connections, loop, mount, unmounted
from vssemu.vss.errors import Fail

GONE_SECONDS = 15.0
"""How long killed processes and released loop devices may take to go."""


def loops_of(names: Collection[str]) -> list[loop.BoundLoop]:
    """Return the loop devices whose backing file's path contains one of the names."""
    return [b for b in loop.bound_loops() if any(name in b.backing_file for name in names)]


def _thaw(number: int) -> None:
    """Thaw what may be frozen on a loop device; a device that goes meanwhile is good."""
    with contextlib.suppress(OSError):
        unmounted.thaw_device(number)


def end_processes(group: Path, names: Collection[str]) -> None:
    """Kill everything in the lab's control group, thawing its volumes until all are gone.

    Raises Fail with the pids that would not go.
    """
    if not group.exists():
        return
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        for device in loops_of(names):
            _thaw(device.number)
        cgroup.kill(group)
        if not cgroup.wait_empty(group, time.monotonic() + 0.5):
            if time.monotonic() < deadline:
                continue
            pids = ", ".join(map(str, cgroup.pids(group)))
            raise Fail(
                f"processes {pids} of control group {group} do not end",
                hint="look for what they wait for in /proc/PID/stack",
                item=pids,
            )
        cgroup.remove(group)
        return


def cut_connections(group: Path) -> None:
    """End what is served to the lab by a program of its own, whether or not that one answers.

    group: of the processes outside the hosts. Who waits for it gets an error, and can end.
    """
    for pid in cgroup.pids(group):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for connection in fuse_connections.detached(pid):
                fuse_connections.abort(connection)


def release_loops(names: Collection[str]) -> None:
    """Wait until no loop device is bound to what is ours; unbind those that stay.

    Raises Fail with the devices that are still in use by somebody else.
    """

    def none_left() -> bool:
        left = loops_of(names)
        for device in left:
            _thaw(device.number)
            if not device.autoclear:
                _unbind(device.number)
        return not left

    if not until(none_left, seconds=GONE_SECONDS):
        nodes = ", ".join(str(loop.node(d.number)) for d in loops_of(names))
        raise Fail(
            f"{nodes} are still bound to LUNs of the lab",
            hint="something outside the lab has them open: see lsof, findmnt",
            item=nodes,
        )


def _unbind(number: int) -> None:
    with contextlib.suppress(OSError):
        device = loop.open_device(number)
        try:
            loop.clear(device)
        finally:
            os.close(device)


def remove_mounts_below(directory: Path) -> None:
    """Detach what is still mounted at or below a directory of ours, the deepest first."""
    prefix = str(directory)
    targets = [str(m.mount_point) for m in mount.mounts()]
    for target in sorted(targets, key=len, reverse=True):
        if target == prefix or target.startswith(prefix + "/"):
            mount.unmount(target, mount.UnmountFlag.DETACH)


def remove_files(paths: LabPaths) -> None:
    """Remove the lab's directories, and theirs when they became empty."""
    for directory in (paths.run, paths.state):
        remove_mounts_below(directory)
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            raise Fail(f"{directory} could not be removed", item=str(directory))
        for parent in (directory.parent, directory.parent.parent):
            with contextlib.suppress(OSError):
                parent.rmdir()
