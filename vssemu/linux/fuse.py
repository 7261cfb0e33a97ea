"""The kernel's end of a FUSE connection: opening it, its first message, its repair.

Owns /dev/fuse and the few bytes of the protocol that are needed beside a FUSE library.
Refuses to answer requests.

A connection lives while somebody has its descriptor open, whoever answers. The kernel sends
INIT once, with the mount. A second server that has the same descriptor (a copy of it, not a
clone by FUSE_DEV_IOC_CLONE: closing that ends what was read through it) asks with `resend`
for the requests that the first one took and never answered. They come back with the highest
bit of their number set, and the answer goes to that number.

Source: include/uapi/linux/fuse.h; Linux 6.18, fs/fuse/dev.c (fuse_resend, fuse_dev_poll).
"""

from __future__ import annotations

import errno
import os
import select
import struct
from pathlib import Path
from typing import Final

from vssemu.linux import mount

DEVICE: Final = Path("/dev/fuse")

# struct fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding.
_IN_HEADER: Final = struct.Struct("=IIQQIIIHH")
# The head of struct fuse_init_in: major, minor, max_readahead, flags, flags2.
_INIT_IN: Final = struct.Struct("=IIIII")
# struct fuse_out_header: len, error or the code of a notification, unique.
_OUT_HEADER: Final = struct.Struct("=IiQ")
_INIT: Final = 26
_INIT_EXT: Final = 1 << 30
_HAS_RESEND: Final = 1 << (39 - 32)
_NOTIFY_RESEND: Final = 7
_LARGEST_REQUEST: Final = 1 << 17
"""Bytes; the kernel wants room for a write of the size that holds before INIT."""


def open_connection() -> int:
    """Return a new connection, to be given to a mount as option `fd`.

    Raises OSError: FileNotFoundError without the device node, EPERM.
    """
    return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)


def read_init(connection: int) -> bytes:
    """Return the request that the kernel sends first; there is one as soon as it is mounted.

    Raises OSError: EPERM for a connection without a mount; EPROTO when it is another request.
    """
    request = os.read(connection, _LARGEST_REQUEST)
    if _IN_HEADER.unpack_from(request)[1] != _INIT:
        raise OSError(errno.EPROTO, "the first request of a FUSE mount is not INIT")
    return request


def offers_resend(init: bytes) -> bool:
    """Tell from the INIT request whether the kernel knows `resend` (6.9 does)."""
    _, _, _, flags, more_flags = _INIT_IN.unpack_from(init, _IN_HEADER.size)
    return bool(flags & _INIT_EXT and more_flags & _HAS_RESEND)


def resend(connection: int) -> None:
    """Have the kernel send again what was read and not answered. Raises OSError: EINVAL."""
    os.write(connection, _OUT_HEADER.pack(_OUT_HEADER.size, _NOTIFY_RESEND, 0))


def kernel_resends() -> bool:
    """Tell whether this kernel knows `resend`, from a mount that nobody sees.

    Raises OSError: FileNotFoundError without the device node, EPERM without CAP_SYS_ADMIN.
    """
    connection = open_connection()
    try:
        options = {"fd": str(connection), "rootmode": "40000", "user_id": "0", "group_id": "0"}
        mounted = mount.detached_mount("fuse", "probe", options, read_only=True)
        try:
            return offers_resend(read_init(connection))
        finally:
            os.close(mounted)
    finally:
        os.close(connection)


def is_connected(connection: int) -> bool:
    """Tell whether the connection still has a file system, that is, was not unmounted."""
    poll = select.poll()
    poll.register(connection, 0)
    return not any(event & select.POLLERR for _, event in poll.poll(0))
