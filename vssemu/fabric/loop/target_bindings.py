"""Loop devices over the images of LUNs, seen from outside the hosts.

Every namespace shares the loop devices, so this half sees all of them. What it must tell
apart is a binding that is alive from one that a crash left behind: a frozen file system keeps
its loop device when its mounts, its namespace and all its processes are gone, and a second
binding of the same image would mount happily beside it.

A binding is alive when some process has it mounted, or has the device open. What neither
holds, and still does not go by itself, is a file system without a mount; it is mounted
privately, thawed and unmounted, and takes its loop device with it.

Refuses to free what is alive. Blocks: call in a thread.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from vssemu.fabric.loop.lunfiles import is_of
from vssemu.linux import loop, mount, statx, unmounted
from vssemu.vss.identity import LunId

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

WITHDRAWN_LIMIT: Final = 512
"""Bytes to which a device is cut when its LUN is withdrawn by surprise."""

_PROC: Final = Path("/proc")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileIdentity:
    """A file, whatever its name: the numbers of its device and inode."""

    device: int
    inode: int

    @classmethod
    def of(cls, descriptor: int) -> "FileIdentity":
        """Return the identity of an open file; who serves it is not asked."""
        device, inode = statx.identity(descriptor)
        return cls(device=device, inode=inode)


def bindings_of(lun: LunId, files: frozenset[FileIdentity]) -> list[loop.LoopStatus]:
    """Return all loop devices over any of these files of a LUN. Raises OSError."""
    wanted = {(file.device, file.inode) for file in files}
    return loop.bindings_of(wanted, may_be=is_of([lun]))


def is_bound_to(number: int, files: frozenset[FileIdentity]) -> bool:
    """Tell whether a loop device is bound to one of these files. Raises OSError."""
    if loop.backing_file(number) is None:
        return False
    fd = loop.open_device(number)
    try:
        seen = loop.status(fd)
    except OSError:
        return False
    finally:
        os.close(fd)
    return FileIdentity(device=seen.device, inode=seen.inode) in files


def cut_off(number: int, files: frozenset[FileIdentity]) -> None:
    """Leave a device so few bytes that all use of it fails, if it has one of these files.

    Raises OSError.
    """
    fd = loop.open_device(number)
    try:
        seen = loop.status(fd)
        if FileIdentity(device=seen.device, inode=seen.inode) in files:
            loop.set_size_limit(fd, WITHDRAWN_LIMIT)
    finally:
        os.close(fd)


def holder(number: int) -> str | None:
    """Return, in words, which process has a loop device mounted or open; None when none has.

    This process does not count. Processes that end meanwhile are passed over.
    """
    seen: set[str] = set()
    for pid in _others():
        try:
            namespace = os.readlink(_PROC / str(pid) / "ns/mnt")  # noqa: PTH115  # no path
            if namespace not in seen:
                seen.add(namespace)
                if (where := _mount_point(pid, number)) is not None:
                    return f"mounted on {where} for process {pid}"
            if _has_open(pid, number):
                return f"open in process {pid}"
        except OSError:
            continue
    return None


def _others() -> Iterator[int]:
    own = os.getpid()
    for path in _PROC.iterdir():
        if path.name.isdecimal() and int(path.name) != own:
            yield int(path.name)


def _mount_point(pid: int, number: int) -> Path | None:
    for facts in mount.mounts(pid):
        if (facts.device.major, facts.device.minor) == (loop.MAJOR, number):
            return facts.mount_point
    return None


def _has_open(pid: int, number: int) -> bool:
    name = f"/loop{number}"
    wanted = os.makedev(loop.MAJOR, number)
    for link in (_PROC / str(pid) / "fd").iterdir():
        try:
            # The name first: a stat of other files may wait for a dead file server.
            if not os.readlink(link).endswith(name):  # noqa: PTH115  # no path
                continue
            facts = link.stat()
        except OSError:
            continue
        if stat.S_ISBLK(facts.st_mode) and facts.st_rdev == wanted:
            return True
    return False


def release_stuck(number: int) -> None:
    """End a file system that has lost its mounts and keeps its loop device.

    Raises OSError when there is none on it, or another process takes the device meanwhile.
    """
    if not _is_claimed(number):
        return
    logger.warning("releasing_stuck_device", device=str(loop.node(number)))
    was_frozen = unmounted.thaw_device(number)
    logger.info("stuck_device_released", device=str(loop.node(number)), was_frozen=was_frozen)


def _is_claimed(number: int) -> bool:
    """Tell whether a file system, or another exclusive user, has a device."""
    try:
        os.close(loop.open_device(number, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return True
    return False
