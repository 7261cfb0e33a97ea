"""The one directory of lunfs: names, their inode numbers, and the views behind them.

An inode number is made of the name alone, so it is the same after a restart: the kernel, and
loop devices that are bound, know a file by it for as long as the mount lives. Nothing is
counted and nothing forgotten; a name that was removed and comes again is the same file.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from typing import Final

from vssemu_fuse.lunfs.fuse import wire
from vssemu_fuse.lunfs.io.view import View

_DOT_NAMES: Final = 2
LONGEST: Final = 255


class Node:
    """A file: what it is called, its inode number, what serves it."""

    __slots__ = ("inode", "name", "view")

    def __init__(self, name: str, inode: int, view: View) -> None:
        self.name = name
        self.inode = inode
        self.view = view


def inode_of(name: str) -> int:
    """Return the inode number of a name: 64 bits of its hash, never that of the directory."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") | 2


class Names:
    """The files. on_change: called with the inode of a file whose size may have changed."""

    def __init__(self) -> None:
        self.by_inode: Final[dict[int, Node]] = {}
        self._by_name: Final[dict[str, Node]] = {}
        self.on_change: Callable[[int], None] = lambda _inode: None

    def add(self, name: str, view: View) -> None:
        """Serve a view by a name; the view of a name that is there is replaced.

        Raises OSError: EEXIST when another name has its inode number, EINVAL for a name that
        cannot be one of a file.
        """
        if not 0 < len(name.encode()) <= LONGEST or "/" in name or name in {".", ".."}:
            raise OSError(errno.EINVAL, "not the name of a file", name)
        inode = inode_of(name)
        known = self.by_inode.get(inode)
        if known is not None and known.name != name:
            raise OSError(errno.EEXIST, f"has the inode number of {known.name}", name)
        if known is not None:
            known.view = view
        else:
            self.by_inode[inode] = self._by_name[name] = Node(name, inode, view)
        self.on_change(inode)

    def remove(self, name: str) -> None:
        """Serve a name no more; whoever has its file open gets ESTALE. Unknown is no error."""
        node = self._by_name.pop(name, None)
        if node is not None:
            del self.by_inode[node.inode]

    def changed(self, name: str) -> None:
        """Have the kernel ask for the size of a file anew, after its view grew."""
        if name in self._by_name:
            self.on_change(self._by_name[name].inode)

    def get(self, name: str) -> Node | None:
        """Return the file with a name."""
        return self._by_name.get(name)

    def __len__(self) -> int:
        return len(self._by_name)

    def listing(self, offset: int) -> list[tuple[int, bytes, Node | None]]:
        """Return what a reader of the directory gets from `offset` on.

        Each entry: the offset to go on from, its name, its file, None for the directory itself.
        """
        rows: list[tuple[int, bytes, Node | None]] = [(1, b".", None), (2, b"..", None)]
        nodes = sorted(self._by_name.values(), key=lambda node: node.name)
        rows += [
            (number, node.name.encode(), node) for number, node in enumerate(nodes, _DOT_NAMES + 1)
        ]
        return rows[offset:]


def attributes(inode: int, node: Node | None) -> bytes:
    """Return struct fuse_attr of a file, or of the directory."""
    size = 0 if node is None else node.view.size
    mode = 0o40700 if node is None else 0o100600
    links = 2 if node is None else 1
    return wire.ATTRIBUTES.pack(
        inode, size, size // 512, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0
    )
