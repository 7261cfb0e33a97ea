"""The connection to the kernel: taking requests, INIT, what the kernel is told unasked.

A connection outlives the process that answers it. Its first lunfs and each later one do the
same: they ask for all that was taken and not answered, and answer what comes; INIT, which the
kernel sends once, is a request like any other. All memory for requests is there from the
start, and locked: a request that is being copied to a page that must first be made or found
when lunfs is killed is ended by the kernel, with EIO. Requests wait in the kernel while there
is no place for them.

Source: Linux 6.18, fs/fuse/dev.c (fuse_dev_do_read, fuse_resend), fs/fuse/inode.c.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import Final

from vssemu import logs
from vssemu.linux import fuse
from vssemu_fuse.lunfs.fuse import wire
from vssemu_fuse.lunfs.fuse.directory import Directory
from vssemu_fuse.lunfs.fuse.names import Names
from vssemu_fuse.lunfs.fuse.request import Request
from vssemu_fuse.lunfs.fuse.unaligned import Unaligned
from vssemu_fuse.lunfs.fuse.wire import InitFlag, Opcode
from vssemu_fuse.lunfs.io.buffers import aligned
from vssemu_fuse.lunfs.io.work import Worker

LARGEST: Final = 1 << 20
"""Bytes of data in one request."""
PLACES: Final = 32
"""Requests under way at a time."""
_IN_A_TURN: Final = 32
"""Requests taken before those that were begun are submitted."""
_BACKGROUND: Final = 128
"""Requests of loop devices that the kernel has ready: the depth of one device's queue."""
_WANTED: Final = (
    InitFlag.ASYNC_READ
    | InitFlag.BIG_WRITES
    | InitFlag.DO_READDIRPLUS
    | InitFlag.ASYNC_DIO
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.HAS_RESEND
)

_log = logs.get_logger(__name__)


class Connection:
    """Requests of one mount, answered from `names` by way of `worker`.

    fd: the open connection; it does not block any more. It belongs to the caller.
    """

    def __init__(self, fd: int, names: Names, worker: Worker) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.files = names.by_inode
        self.worker = worker
        self.unaligned = Unaligned()
        self.free: list[Request] = []
        self.has_ended = False
        """Whether the file system is gone: unmounted, or ended by the administrator."""
        self._answers = Directory(names).answers
        self._places = 0
        self._add_places(PLACES)
        names.on_change = self.forget_attributes

    def _add_places(self, count: int) -> None:
        heads = _present(count * mmap.PAGESIZE)
        for place in range(count):
            start = place * mmap.PAGESIZE
            self.free.append(Request(self, heads[start : start + wire.HEAD], _present(LARGEST)))
        self._places += count

    def make_room(self, staying: int) -> None:
        """Have places beside those of so many requests that will stay long.

        Up to as many as the kernel gives out at once: beyond, others wait with them.
        """
        wanted = PLACES + min(staying, _BACKGROUND)
        if wanted > self._places:
            self._add_places(wanted - self._places)

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be taken before something was answered."""
        return not self.free

    def take_over(self) -> None:
        """Have the kernel send again what a predecessor took and never answered."""
        fuse.resend(self.fd)

    def take(self) -> bool:
        """Take requests as long as there are some and places for them; tell whether any."""
        free, fd = self.free, self.fd
        for taken in range(_IN_A_TURN):
            if not free:
                return taken > 0
            request = free[-1]
            try:
                os.readv(fd, request.rooms)
            except BlockingIOError:
                return taken > 0
            except OSError as error:
                if error.errno == errno.ENODEV:
                    self.has_ended = True
                    return False
                # ENOENT: this one was called off while it was read.
                if error.errno not in {errno.ENOENT, errno.EINTR}:
                    raise
            else:
                free.pop()
                request.begin()
        return True

    def forget_attributes(self, inode: int) -> None:
        """Have the kernel ask for the attributes of a file anew, its size among them."""
        length = wire.OUT_HEADER.size + wire.INVAL_INODE.size
        head = wire.OUT_HEADER.pack(length, wire.Notification.INVAL_INODE, 0)
        try:
            os.write(self.fd, head + wire.INVAL_INODE.pack(inode, -1, 0))
        except OSError as error:
            # ENOENT: the kernel does not know the file. EPERM, ENODEV: nor any other.
            if error.errno not in {errno.ENOENT, errno.EPERM, errno.ENODEV, errno.ENOTCONN}:
                raise

    def answer(self, opcode: int, inode: int, body: bytes) -> bytes | None:
        """Answer what is about no data, for `Request`."""
        if opcode in {Opcode.FORGET, Opcode.BATCH_FORGET}:
            return None
        if opcode == Opcode.INIT:
            return _greet(body)
        answer = self._answers.get(opcode)
        if answer is None:
            # FLUSH and INTERRUPT among them: the kernel asks once, and does without.
            raise OSError(errno.ENOSYS, f"request {opcode} is not known")
        return answer(inode, body)


def _present(size: int) -> memoryview:
    """Return memory of which every page is there, not only once it is used."""
    room = aligned(size)
    room[:] = bytes(size)
    return room


def _greet(body: bytes) -> bytes:
    greeting = wire.parse_init(body)
    resends = InitFlag.HAS_RESEND in greeting.flags
    _log.info("greeted", protocol=f"{greeting.major}.{greeting.minor}", resends=resends)
    return wire.init_answer(
        greeting, _WANTED, max_background=_BACKGROUND, max_write=LARGEST, page=mmap.PAGESIZE
    )
