r"""Windows paths and Linux paths of one host: `F:\data` is `/mnt/F/data`.

Owns that one mapping. Refuses volume GUID names and relative paths, which say nothing about
where a volume is mounted; paths in shadow copies are the business of `vssemu.vss.paths`.
Drive letters are written capital. Linux paths outside `/mnt/<letter>` stand for themselves.
"""

import re
from collections.abc import Iterable
from pathlib import PurePath, PurePosixPath
from typing import Final

from vssemu.vss.errors import InvalidArgument

MOUNT_ROOT: Final = PurePosixPath("/mnt")
"""Where a host mounts its drive letters."""

_DRIVE: Final = re.compile(r"([A-Za-z]):(?:[\\/](.*))?", re.DOTALL)
_LETTER: Final = re.compile(r"[A-Z]")


def linux_path(path: str) -> PurePosixPath:
    r"""Return where a path of this host lies: `F:\data`, `F:/data` or an absolute Linux path.

    Raises InvalidArgument for a relative path, one that climbs with `..`, a volume GUID name.
    """
    drive = _DRIVE.fullmatch(path)
    if drive is not None:
        rest = [part for part in re.split(r"[\\/]", drive[2] or "") if part not in {"", "."}]
        found = MOUNT_ROOT.joinpath(drive[1].upper(), *rest)
    else:
        found = PurePosixPath(path)
    if not found.is_absolute() or ".." in found.parts or "\0" in path:
        raise InvalidArgument(
            f"path {path!r} is not an absolute path of this host",
            hint=r"give F:\dir, or /mnt/F/dir, without ..",
            item=path,
        )
    return found


def windows_path(path: str | PurePath) -> str:
    r"""Return a path of this host as documents carry it: `F:\data` for `/mnt/F/data`.

    A path in the drive form comes back with a capital letter and backslashes, a Linux path
    that is on no drive letter unchanged but for needless slashes.
    Raises InvalidArgument as `linux_path` does.
    """
    found = linux_path(str(path))
    if found.is_relative_to(MOUNT_ROOT) and found != MOUNT_ROOT:
        letter, *rest = found.relative_to(MOUNT_ROOT).parts
        # A name with a backslash has no Windows form.
        if _LETTER.fullmatch(letter) and not any("\\" in part for part in rest):
            return f"{letter}:\\" + "\\".join(rest)
    return str(found)


def lies_on(path: str | PurePath, volumes: Iterable[str]) -> bool | None:
    r"""Tell whether a path lies on one of the volumes.

    volumes: all names of each, such as `F:\`, mount points, volume GUID names. The last tell
    nothing about paths; a volume that has no other name is mounted nowhere.
    None: no name tells anything.
    Raises InvalidArgument for the path as `linux_path` does.
    """
    found = linux_path(str(path))
    is_told = False
    for volume in volumes:
        try:
            root = linux_path(volume)
        except InvalidArgument:
            continue
        is_told = True
        if found == root or found.is_relative_to(root):
            return True
    return False if is_told else None
