"""The trees of device objects: reaching a bare directory in devicefs, and mounting on it.

Owns the walk into devicefs. It is made by threads of this process alone, which devicefs shows
the bare directory at once; any other walker would wait there for what is done here. So nobody
else in this room opens a path below the mount point of devicefs, and whoever needs a copy's
bytes mounts its device (`mounting.detached_copy`).

Synchronous: callers run it in threads.
"""

import os
from pathlib import Path

from vssemu.host import mounting
from vssemu.linux import mount
from vssemu.vss.fabric import BoundDevice

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def open_bare(global_root: Path, name: str) -> int | None:
    """Return a descriptor of a copy's bare directory; None when its tree is mounted there.

    It tells devicefs that the directory is open, so that look-ups may wait for the tree.
    Raises OSError: ENOENT for a name that devicefs does not show, ENOTCONN when it is dead.
    """
    # Both from one mount: a devicefs may be replaced at any moment.
    root = os.open(global_root, _DIRECTORY)
    try:
        directory = os.open(f"Device/{name}", _DIRECTORY, dir_fd=root)
        try:
            is_bare = os.fstat(directory).st_dev == os.fstat(root).st_dev
        except OSError:
            os.close(directory)
            raise
    finally:
        os.close(root)
    if is_bare:
        return directory
    os.close(directory)
    return None


def attach(global_root: Path, name: str, device: BoundDevice, kind: str) -> None:
    """Mount a copy's tree on its directory unless it is there. Raises OSError as above."""
    directory = open_bare(global_root, name)
    if directory is None:
        return
    try:
        mounted = mounting.detached_copy(device, kind)
        try:
            mount.attach(mounted, directory)
        finally:
            os.close(mounted)
    finally:
        os.close(directory)
