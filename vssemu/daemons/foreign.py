"""Letting go of other people's mounts in a mount namespace of our own.

A new mount namespace is a copy: it would keep whatever was mounted on a loop device or by FUSE
at that moment from ever being released by its owner, for as long as our process lives.
"""

import errno
from collections.abc import Collection
from pathlib import Path

from vssemu.linux import mount


def let_go(tree: Path, *, keep: Collection[Path] = ()) -> None:
    """Detach the loop and FUSE mounts below `tree`, but those that one of `keep` lies on.

    Only in a mount namespace of our own, from which nothing propagates. Raises OSError.
    """
    for found in reversed(mount.mounts()):
        is_foreign = found.source.startswith("/dev/loop") or found.fstype.startswith("fuse")
        place = found.mount_point
        if is_foreign and tree in place.parents and not any(k.is_relative_to(place) for k in keep):
            try:
                mount.unmount(place, mount.UnmountFlag.DETACH)
            except OSError as error:
                # Its owner was first, and may have removed the directory as well.
                if error.errno not in {errno.EINVAL, errno.ENOENT}:
                    raise
