"""Who is at the other end of a unix socket.

The kernel's word, taken when the peer connected (or called listen); nothing that the peer
sends can change it. Refuses to decide what anybody may do.

Source: unix(7) SO_PEERCRED; SO_PEERGROUPS (kernel 4.13), net/core/sock.c.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from vssemu.linux import libc

_SO_PEERGROUPS: Final = 59
_CREDENTIALS: Final = struct.Struct("iII")
_SOME_GROUPS: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerCredentials:
    """pid: 0 when it is of a pid namespace that this one does not see into.

    groups: the supplementary ones; whether `gid` is among them is up to the peer.
    """

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]


def peer_credentials(connection: socket.socket) -> PeerCredentials:
    """Return who connected a unix stream socket, or who listens at its other end.

    Raises OSError: ENOTCONN for a socket without a peer, ENOPROTOOPT for another family.
    """
    size = _CREDENTIALS.size
    raw, length = libc.getsockopt(connection.fileno(), socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    if length != size or connection.family != socket.AF_UNIX:
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT), "SO_PEERCRED")
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    if uid == 0xFFFFFFFF:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), "SO_PEERCRED")
    return PeerCredentials(pid=pid, uid=uid, gid=gid, groups=_peer_groups(connection))


def _peer_groups(connection: socket.socket) -> tuple[int, ...]:
    room = _SOME_GROUPS * 4
    while True:
        raw, needed = libc.getsockopt(connection.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, room)
        if needed <= room:
            return struct.unpack(f"{needed // 4}I", raw)
        room = needed
