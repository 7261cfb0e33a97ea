"""One request at a time: where the kernel puts it, what becomes of it, its answer.

Owns the memory of a request from its reading to its answer. Data of a WRITE land in `body`,
page-aligned, and data of a READ leave from there, so they are copied by the kernel alone.

The number of a request that was sent again, because whoever took it first died, has its
highest bit set, and goes back as it came.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Any, Final, Protocol

from vssemu import logs
from vssemu_fuse.lunfs.fuse import wire
from vssemu_fuse.lunfs.fuse.names import Node
from vssemu_fuse.lunfs.fuse.unaligned import Unaligned
from vssemu_fuse.lunfs.fuse.wire import Opcode
from vssemu_fuse.lunfs.io.view import BLOCK
from vssemu_fuse.lunfs.io.work import Done, Worker

_FAST: Final = struct.Struct("=4xIQQ16x8xQI")
"""opcode, unique, nodeid, offset, size of a READ or WRITE."""
# Bound and plain, for they are wanted with every request: an enum's member is looked up slowly.
_unpack: Final = _FAST.unpack_from
_pack_head: Final = wire.OUT_HEADER.pack_into
_pack_written: Final = wire.WRITTEN.pack
_writev: Final = os.writev
_READ: Final = int(Opcode.READ)
_WRITE: Final = int(Opcode.WRITE)
_WRITTEN_SIZE: Final = wire.WRITTEN.size
_PLACE: Final = struct.Struct("=II")
"""len, opcode."""
_HEADER: Final = wire.OUT_HEADER.size
_IN_HEADER: Final = wire.IN_HEADER.size
_PUNCH_KEEPING_SIZE: Final = 3
_ZERO: Final = 16
_ZERO_KEEPING_SIZE: Final = 17
_ODD: Final = BLOCK - 1

_log = logs.get_logger(__name__)


class Desk(Protocol):
    """What the requests of a connection share. free: the requests that have no work."""

    fd: int
    free: list[Request]
    files: dict[int, Node]
    worker: Worker
    unaligned: Unaligned

    def answer(self, opcode: int, inode: int, body: bytes) -> bytes | None:
        """Answer what is about no data; None: nobody waits for an answer. Raises OSError."""


class Request:
    """A place for one request. rooms: where to read it.

    head: memory of wire.HEAD bytes. body: memory from the start of a page on.
    """

    __slots__ = (
        "_after_read", "_after_write", "_body", "_desk", "_fd", "_files", "_free", "_head", "_out",
        "_run", "_size", "_unique", "rooms",
    )  # fmt: skip

    def __init__(self, desk: Desk, head: memoryview, body: memoryview) -> None:
        self.rooms = [head, body]
        self._head = head
        self._body = body
        self._desk = desk
        self._fd = desk.fd
        self._files = desk.files
        self._free = desk.free
        self._out = bytearray(_HEADER)
        self._unique = 0
        self._size = 0
        self._run = desk.worker.run
        self._after_read: Done = self._read
        self._after_write: Done = self._written

    def begin(self) -> None:
        """Start what the kernel asked for. The answer follows, perhaps at once."""
        opcode, self._unique, inode, offset, size = _unpack(self._head)
        if opcode in {_READ, _WRITE}:
            node = self._files.get(inode)
            if node is None:
                self._fail(errno.ESTALE)
            elif opcode == _READ:
                self._begin_read(node, offset, size)
            else:
                self._begin_write(node, offset, size)
        elif opcode == Opcode.FSYNC:
            self._begin_flush(inode)
        elif opcode == Opcode.FALLOCATE:
            self._begin_zeroing(inode)
        else:
            self._begin_other(opcode, inode)

    def _begin_read(self, node: Node, offset: int, size: int) -> None:
        view = node.view
        if offset + size > view.size:
            size = max(0, view.size - offset)
            if not size:
                self._reply(b"")
                return
        self._size = size
        room = self._body[:size]
        if (offset | size) & _ODD:
            self._run(self._desk.unaligned.read(view, room, offset), self._after_read)
        else:
            self._run(view.read(room, offset), self._after_read)

    def _begin_write(self, node: Node, offset: int, size: int) -> None:
        view = node.view
        if offset + size > view.size:
            self._fail(errno.EFBIG)
            return
        self._size = size
        data = self._body[:size]
        if (offset | size) & _ODD:
            self._run(self._desk.unaligned.write(view, data, offset), self._after_write)
        else:
            self._run(view.write(data, offset), self._after_write)

    def _begin_flush(self, inode: int) -> None:
        node = self._files.get(inode)
        if node is None:
            self._fail(errno.ESTALE)
        else:
            self._run(node.view.flush(), self._done)

    def _begin_zeroing(self, inode: int) -> None:
        _, offset, length, mode, _ = wire.FALLOCATE_IN.unpack_from(self._head, _IN_HEADER)
        node = self._files.get(inode)
        if node is None:
            self._fail(errno.ESTALE)
        elif mode not in {_PUNCH_KEEPING_SIZE, _ZERO, _ZERO_KEEPING_SIZE}:
            self._fail(errno.EOPNOTSUPP)
        elif (offset | length) & _ODD or not length:
            self._fail(errno.EINVAL)
        elif offset + length > node.view.size:
            self._fail(errno.EFBIG)
        else:
            self._run(node.view.zero(offset, length), self._done)

    def _begin_other(self, opcode: int, inode: int) -> None:
        length = _PLACE.unpack_from(self._head)[0]
        more = max(0, length - wire.HEAD)
        body = bytes(self._head[_IN_HEADER : min(length, wire.HEAD)]) + bytes(self._body[:more])
        try:
            answer = self._desk.answer(opcode, inode, body)
        except OSError as error:
            self._fail(error.errno or errno.EIO)
            return
        if answer is None:
            self._free.append(self)
        else:
            self._reply(answer)

    # --- answers

    def _read(self, result: Any) -> None:
        if type(result) is not int:
            self._fail(result.errno or errno.EIO)
            return
        out = self._out
        _pack_head(out, 0, _HEADER + result, 0, self._unique)
        self._send([out, self._body[:result]])

    def _written(self, result: Any) -> None:
        if type(result) is not int:
            self._fail(result.errno or errno.EIO)
            return
        self._send([_pack_written(_WRITTEN_SIZE, 0, self._unique, self._size, 0)])

    def _done(self, result: Any) -> None:
        if isinstance(result, OSError):
            self._fail(result.errno or errno.EIO)
        else:
            self._reply(b"")

    def _reply(self, body: bytes) -> None:
        self._send([wire.OUT_HEADER.pack(_HEADER + len(body), 0, self._unique), body])

    def _fail(self, number: int) -> None:
        self._send([wire.OUT_HEADER.pack(_HEADER, -number, self._unique)])

    def _send(self, rooms: list[Any]) -> None:
        try:
            _writev(self._fd, rooms)
        except OSError as error:
            # ENOENT: nobody waits any more. ENODEV: the file system was ended.
            if error.errno not in {errno.ENOENT, errno.ENODEV}:
                raise
        self._free.append(self)
