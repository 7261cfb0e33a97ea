"""FUSE connections as they look from outside: whose they are, and their end by force.

Owns the file system fusectl, which has a directory for each connection, named as the minor
number of the device that the file system has. It is mounted anew for each look, where nobody
sees it. Refuses to ask a file system anything: the one who answers may be dead.

Source: Documentation/filesystems/fuse/fuse.rst, statx(2).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from vssemu.linux import mount, statx


def detached(pid: int) -> set[int]:
    """Return the connections of detached mounts that a process has descriptors of.

    Only mounts that the process itself does not see count, so none that it happens to have
    files on. Raises OSError: FileNotFoundError for a process that is gone, PermissionError.
    """
    try:
        seen = {facts.mount_id for facts in mount.mounts(pid)}
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return set()  # it is ending, and has closed everything by then
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if _mount_id(pid, path.name) in seen:
                continue
            major, minor = statx.device(path)
        except OSError:
            continue  # closed under the look
        if major == 0:
            found.add(minor)
    return found & _all()


def abort(connection: int) -> None:
    """End a connection: whatever waits for it, and all that comes, fails.

    One that is gone is no error. Raises OSError.
    """
    control = _control()
    try:
        descriptor = os.open(f"{connection}/abort", os.O_WRONLY | os.O_CLOEXEC, dir_fd=control)
    except FileNotFoundError:
        return
    finally:
        os.close(control)
    try:
        os.write(descriptor, b"1")
    finally:
        os.close(descriptor)


def _all() -> set[int]:
    control = _control()
    try:
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=control)
    finally:
        os.close(control)
    try:
        with os.scandir(directory) as entries:
            return {int(entry.name) for entry in entries}
    finally:
        os.close(directory)


def _control() -> int:
    return mount.detached_mount("fusectl", None, read_only=False)


def _mount_id(pid: int, descriptor: str) -> int:
    lines = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("mnt_id:"))
    return int(value)
