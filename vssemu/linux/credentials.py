"""Who is at the other end of a unix socket, as the kernel vouches for it.

Owns SO_PEERCRED and SO_PEERGROUPS. Both are what held when the peer called connect() or
listen(), whatever it has become since. Refuses to judge: who may do what is said elsewhere.

Source: unix(7), socket(7); asm-generic/socket.h; net/core/sock.c.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final, Protocol

from vssemu.linux import libc

_SO_PEERGROUPS: Final = 59
_CREDENTIALS: Final = struct.Struct("iII")
_GROUP: Final = struct.Struct("I")
_ROOM: Final = 64


class HasDescriptor(Protocol):
    """A socket, of whatever library."""

    def fileno(self) -> int:
        """Return its descriptor."""


@dataclass(frozen=True, kw_only=True)
class PeerCredentials:
    """The peer process: pid as this pid namespace sees it (0: not visible), uid, gid.

    groups: the supplementary groups, without gid unless it is listed there too.
    """

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]


def peer_credentials(sock: HasDescriptor) -> PeerCredentials:
    """Return who made the other end of a connected unix socket. Raises OSError."""
    descriptor = sock.fileno()
    raw, _ = libc.getsockopt(descriptor, socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return PeerCredentials(pid=pid, uid=uid, gid=gid, groups=_peer_groups(descriptor))


def _peer_groups(descriptor: int) -> tuple[int, ...]:
    size = _ROOM * _GROUP.size
    raw, needed = libc.getsockopt(descriptor, socket.SOL_SOCKET, _SO_PEERGROUPS, size)
    if needed > size:
        # The peer's groups were fixed when it connected: what is needed now is enough.
        raw, again = libc.getsockopt(descriptor, socket.SOL_SOCKET, _SO_PEERGROUPS, needed)
        if again != len(raw):
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE), libc.name_of(descriptor))
    return tuple(group for (group,) in _GROUP.iter_unpack(raw))
