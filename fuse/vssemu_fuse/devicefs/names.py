"""The names of device objects and the inode numbers behind them.

Owns the shape of the tree, which is a contract with users:

    /                                             directory
    /Device/HarddiskVolumeShadowCopy<N>           directory, covered by the copy's tree
    /RawDevice/HarddiskVolumeShadowCopy<N>        block device
    /Image/HarddiskVolumeShadowCopy<N>            regular file, the device's bytes
    /Properties/HarddiskVolumeShadowCopy<N>       regular file, JSON

Inode numbers are computed, never handed out, so a restarted devicefs gives the same ones:

    bits 63..56  0       bits 55..52  view, from 1; 0 is the root
    bits 51..32  generation of the number      bits 31..0  number; 0 is the view itself

Device directories are of generation 0 always, see `vssemu_fuse.devicefs.catalog`.

Refuses to know which copies exist.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from vssemu.vss.identity import DEVICE_OBJECT_PREFIX

ROOT: Final = 1
_NUMBER_BITS: Final = 32
_GENERATION_BITS: Final = 20
_VIEW_SHIFT: Final = _NUMBER_BITS + _GENERATION_BITS
MAX_NUMBER: Final = (1 << _NUMBER_BITS) - 1
GENERATIONS: Final = 1 << _GENERATION_BITS


class View(enum.Enum):
    """The four directories; the value is the name."""

    DEVICE = "Device"
    RAW_DEVICE = "RawDevice"
    IMAGE = "Image"
    PROPERTIES = "Properties"


_VIEWS: Final = tuple(View)


@dataclass(frozen=True, slots=True)
class ViewDirectory:
    """The directory of a view."""

    view: View


@dataclass(frozen=True, slots=True)
class CopyName:
    """One name of one copy. generation: counts the copies that had this number before."""

    view: View
    number: int
    generation: int


def copy_name(number: int) -> str:
    """Return the last component of a copy's names."""
    return f"{DEVICE_OBJECT_PREFIX}{number}"


def parse_copy_name(name: bytes) -> int | None:
    """Return the number in a copy's name; None when it is none that `copy_name` writes."""
    prefix = DEVICE_OBJECT_PREFIX.encode()
    digits = name.removeprefix(prefix)
    if not name.startswith(prefix) or not digits.isdigit() or digits.startswith(b"0"):
        return None
    # int() of very long text is refused by Python; no number of ours is that long.
    if len(digits) > len(str(MAX_NUMBER)):
        return None
    number = int(digits)
    return number if number <= MAX_NUMBER else None


def parse_view_name(name: bytes) -> View | None:
    """Return the view with this name, None when there is none."""
    return next((view for view in _VIEWS if view.value.encode() == name), None)


def inode_of(node: ViewDirectory | CopyName) -> int:
    """Return the inode number of a directory of the root or of a copy's name.

    Raises ValueError for a number outside 1..MAX_NUMBER.
    """
    view = (_VIEWS.index(node.view) + 1) << _VIEW_SHIFT
    if isinstance(node, ViewDirectory):
        return view
    if not 0 < node.number <= MAX_NUMBER:
        raise ValueError(f"shadow copy number {node.number} is outside 1..{MAX_NUMBER}")
    return view | (node.generation % GENERATIONS) << _NUMBER_BITS | node.number


def node_of(inode: int) -> ViewDirectory | CopyName | None:
    """Return what `inode_of` would number so; None for the root and for anything else."""
    view_index = (inode >> _VIEW_SHIFT) - 1
    if not 0 <= view_index < len(_VIEWS):
        return None
    view = _VIEWS[view_index]
    number = inode & MAX_NUMBER
    generation = (inode >> _NUMBER_BITS) % GENERATIONS
    if number:
        return CopyName(view, number, generation)
    return None if generation else ViewDirectory(view)
