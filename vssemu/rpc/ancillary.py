"""Descriptors beside the bytes (SCM_RIGHTS): what sendmsg and recvmsg want and give.

Source: unix(7), cmsg(3).
"""

import array
import os
import socket
from collections.abc import Iterable

from vssemu.rpc.protocol import MAX_DESCRIPTORS

RECEIVE_BYTES = 64 * 1024
"""Bytes asked of the kernel in one read."""

RECEIVE_FLAGS = socket.MSG_CMSG_CLOEXEC
ANCILLARY_BYTES = socket.CMSG_SPACE((MAX_DESCRIPTORS + 1) * array.array("i").itemsize)

Ancillary = tuple[int, int, bytes]


def with_descriptor(descriptor: int | None) -> list[tuple[int, int, "array.array[int]"]]:
    """Return the ancillary data that carries one descriptor, or none."""
    if descriptor is None:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]


def descriptors_in(ancillary: Iterable[Ancillary], flags: int) -> list[int]:
    """Return the descriptors that a recvmsg brought, close-on-exec and owned by the caller.

    flags: as recvmsg returned them. Raises ValueError, with nothing left open, when the
    kernel had to drop some because more came than anybody of ours sends.
    """
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if flags & socket.MSG_CTRUNC:
        for descriptor in descriptors:
            os.close(descriptor)
        raise ValueError("more descriptors came than a message may carry")
    return list(descriptors)
