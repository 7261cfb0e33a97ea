"""Which LUN a file is of, by the name that the kernel has of it.

Files of LUNs are `naa.<32 digits>[…]`, or lie in a directory of such a name. Asking a loop
device for the inode of its file may ask the file system, and a file system in user space may
never answer. What is another LUN's by its name is not asked, whoever serves it.
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from vssemu.vss.identity import LunId

_NAME: Final = re.compile(r"(?:.*/)?(naa\.[0-9a-f]{32})(?![0-9a-f])[^/]*(?:/[^/]*)?\Z")


def lun_of(path: str) -> LunId | None:
    """Return the LUN that a file belongs to, None for a file that is none of a LUN's.

    path: as in a device's `loop/backing_file`, or as a link of /proc/self/fd has it.
    """
    found = _NAME.match(path)
    return LunId(found[1]) if found else None


def is_of(luns: Collection[LunId]) -> Callable[[str], bool]:
    """Return what tells of a path whether it may be that of a file of one of these LUNs."""
    return lambda path: lun_of(path) in {None, *luns}


def is_same_lun(path: str) -> Callable[[str], bool]:
    """Return what tells of a path whether it may be of the LUN that another one is of.

    Of a file that is none of a LUN's, everything may be.
    """
    lun = lun_of(path)
    return (lambda _path: True) if lun is None else is_of([lun])


def opened_path(descriptor: int) -> str:
    """Return the name that the kernel has of an open file. Raises OSError."""
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())
