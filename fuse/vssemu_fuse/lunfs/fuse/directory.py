"""Answers to requests that touch no data: names, attributes, the list of files, INIT.

Synchronous and without I/O. Each returns the body of an answer, or raises OSError whose errno
is the answer.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from vssemu_fuse.lunfs.fuse import wire
from vssemu_fuse.lunfs.fuse.names import Names, Node, attributes

ATTR_SECONDS: Final = 3600
"""Attributes change only when a LUN grows, and the kernel is told then. So a look at the loop
devices of the machine, which asks for the inode of each file, never waits for a lunfs."""
_ENTRY: Final = wire.ENTRY_OUT.size + wire.ATTRIBUTES.size
_NAME_KEPT_SECONDS: Final = 0
_OPEN: Final = (
    wire.OpenFlag.DIRECT_IO | wire.OpenFlag.NOFLUSH | wire.OpenFlag.PARALLEL_DIRECT_WRITES
)
_SEEK_DATA: Final = 3
_SEEK_HOLE: Final = 4
_SETATTR_SIZE: Final = 1 << 3


Answer = Callable[[int, bytes], bytes]
"""Called with the inode and with what follows the header of a request."""


class Directory:
    """The answers about the files of `names`; `answers` has them by opcode."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.answers: Final[dict[int, Answer]] = {
            wire.Opcode.LOOKUP: self._look_up,
            wire.Opcode.GETATTR: self._attributes,
            wire.Opcode.SETATTR: self._set_attributes,
            wire.Opcode.OPEN: self._open,
            wire.Opcode.RELEASE: _nothing,
            wire.Opcode.OPENDIR: self._open_directory,
            wire.Opcode.READDIR: self._list,
            wire.Opcode.READDIRPLUS: self._list_plus,
            wire.Opcode.RELEASEDIR: _nothing,
            wire.Opcode.FSYNCDIR: _nothing,
            wire.Opcode.ACCESS: _nothing,
            wire.Opcode.STATFS: self._statistics,
            wire.Opcode.LSEEK: self._seek,
            wire.Opcode.DESTROY: _nothing,
        }

    def _look_up(self, nodeid: int, body: bytes) -> bytes:
        if nodeid != wire.ROOT:
            raise OSError(errno.ENOTDIR, "not a directory")
        node = self._names.get(os.fsdecode(body.split(b"\0", 1)[0]))
        if node is None:
            raise OSError(errno.ENOENT, "no such LUN")
        return _entry(node)

    def _attributes(self, nodeid: int, _body: bytes) -> bytes:
        node = None if nodeid == wire.ROOT else self._node(nodeid)
        return wire.ATTR_OUT.pack(ATTR_SECONDS, 0, 0) + attributes(nodeid, node)

    def _set_attributes(self, nodeid: int, body: bytes) -> bytes:
        """Change nothing: times and modes are nobody's business here, sizes the array's."""
        valid, _, _, size = wire.SETATTR_IN.unpack_from(body)
        if valid & _SETATTR_SIZE and size != self._node(nodeid).view.size:
            raise OSError(errno.EPERM, "LUNs are resized by the array")
        return self._attributes(nodeid, b"")

    def _open(self, nodeid: int, _body: bytes) -> bytes:
        self._node(nodeid)
        return wire.OPEN_OUT.pack(0, _OPEN, 0)

    def _open_directory(self, nodeid: int, _body: bytes) -> bytes:
        if nodeid != wire.ROOT:
            raise OSError(errno.ENOTDIR, "not a directory")
        return wire.OPEN_OUT.pack(0, 0, 0)

    def _list(self, _nodeid: int, body: bytes) -> bytes:
        _, start, size = wire.READ_IN.unpack_from(body)
        rows = bytearray()
        for offset, name, node in self._names.listing(start):
            row = _row(offset, name, node)
            if len(rows) + len(row) > size:
                break
            rows += row
        return bytes(rows)

    def _list_plus(self, _nodeid: int, body: bytes) -> bytes:
        _, start, size = wire.READ_IN.unpack_from(body)
        rows = bytearray()
        for offset, name, node in self._names.listing(start):
            row = (bytes(_ENTRY) if node is None else _entry(node)) + _row(offset, name, node)
            if len(rows) + len(row) > size:
                break
            rows += row
        return bytes(rows)

    def _statistics(self, _nodeid: int, _body: bytes) -> bytes:
        """Return what says most to a loop device: blocks of 4096 bytes."""
        return wire.STATFS_OUT.pack(0, 0, 0, len(self._names), 0, 4096, 255, 4096)

    def _seek(self, nodeid: int, body: bytes) -> bytes:
        """Call all of a file data: what is a hole can be any reader's guess."""
        _, offset, whence, _ = wire.LSEEK_IN.unpack_from(body)
        size = self._node(nodeid).view.size
        if whence not in {_SEEK_DATA, _SEEK_HOLE}:
            raise OSError(errno.EINVAL, "neither SEEK_DATA nor SEEK_HOLE")
        if offset >= size:
            raise OSError(errno.ENXIO, "beyond the end")
        return wire.LSEEK_OUT.pack(offset if whence == _SEEK_DATA else size)

    def _node(self, inode: int) -> Node:
        node = self._names.by_inode.get(inode)
        if node is None:
            raise OSError(errno.ESTALE, "this LUN is not served any more")
        return node


def _nothing(_nodeid: int, _body: bytes) -> bytes:
    return b""


def _entry(node: Node) -> bytes:
    head = wire.ENTRY_OUT.pack(node.inode, 0, _NAME_KEPT_SECONDS, ATTR_SECONDS, 0, 0)
    return head + attributes(node.inode, node)


def _row(offset: int, name: bytes, node: Node | None) -> bytes:
    inode = wire.ROOT if node is None else node.inode
    mode = stat.S_IFDIR if node is None else stat.S_IFREG
    return wire.entry(name, inode, offset, mode >> 12)
