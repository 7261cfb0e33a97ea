"""Descriptors that outlive a service: kept by its starter, handed back at the next start.

Owns both ends of the part of sd_notify(3) and sd_listen_fds(3) that systemd calls the file
descriptor store, so that a service does the same below systemd and below our own PID 1:

    service -> starter   a datagram to $NOTIFY_SOCKET, lines NAME=VALUE, with descriptors
        FDSTORE=1, FDNAME=name                      keep the descriptor that comes along
        FDSTOREREMOVE=1, FDNAME=name                close what is kept by that name
        BARRIER=1                                   close what comes along: all before is done
    starter -> service   descriptors from 3 on, $LISTEN_FDS of them, names in $LISTEN_FDNAMES

Names are ASCII without colon. Refuses to decide what is worth keeping, and for how long.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FIRST: Final = 3
_LARGEST: Final = 4096
_MOST_DESCRIPTORS: Final = 16
_CREDENTIALS: Final = struct.Struct("=iII")
SEND_LIMIT: Final = 5.0
"""Seconds that a starter may leave its queue full, or a barrier closed."""


class Store:
    """The store of whoever started this process; None as path: there is none.

    Then everything is done that is to be done without: nothing.
    """

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else _address(path)

    @classmethod
    def of_starter(cls) -> Store:
        """Return the store that the environment names."""
        return cls(os.environ.get("NOTIFY_SOCKET"))

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return self._path is not None

    def keep(self, name: str, descriptor: int) -> None:
        """Give a descriptor away by name, in copy. Raises OSError when nobody takes it."""
        self._send({"FDSTORE": "1", "FDNAME": name}, [descriptor])

    def forget(self, name: str) -> None:
        """Have the descriptor of that name closed. Raises OSError."""
        self._send({"FDSTOREREMOVE": "1", "FDNAME": name}, [])

    def settle(self) -> None:
        """Return when all that was asked before has been done.

        Raises OSError; TimeoutError after SEND_LIMIT.
        """
        if not self.is_there:
            return
        reader, writer = os.pipe()
        try:
            try:
                self._send({"BARRIER": "1"}, [writer])
            finally:
                os.close(writer)
            poll = select.poll()
            poll.register(reader, 0)
            if not poll.poll(SEND_LIMIT * 1000):
                raise TimeoutError(f"{self._path!r} took nothing within {SEND_LIMIT:g} s")
        finally:
            os.close(reader)

    def _send(self, fields: Mapping[str, str], descriptors: list[int]) -> None:
        if self._path is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(SEND_LIMIT)
            sender.connect(self._path)
            socket.send_fds(sender, [_text(fields)], descriptors)


def inherited() -> dict[str, int]:
    """Return what the starter kept for this process, by name; to be called once.

    Of several with one name all but the first are closed.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, int] = {}
    for descriptor, name in enumerate(names[: int(os.environ["LISTEN_FDS"])], _FIRST):
        os.set_inheritable(descriptor, False)
        if found.setdefault(name, descriptor) != descriptor:
            os.close(descriptor)
    return found


# --- the starter's end


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One datagram. pid: who sent it, 0 for another namespace's. descriptors: the taker's."""

    pid: int
    fields: Mapping[str, str]
    descriptors: list[int]


def listen(path: Path) -> socket.socket:
    """Return the socket on which services ask, for root alone; it does not block."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(previous)
    listener.setblocking(False)
    return listener


def receive(listener: socket.socket) -> Message | None:
    """Return the next message, None when there is none now."""
    room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * _MOST_DESCRIPTORS)
    try:
        text, attached, _, _ = listener.recvmsg(_LARGEST, room, socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        return None
    pid = 0
    descriptors: list[int] = []
    for level, kind, data in attached:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = len(data) - len(data) % 4
            descriptors += struct.unpack(f"={whole // 4}i", data[:whole])
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid = _CREDENTIALS.unpack(data)[0]
    lines = text.decode("ascii", "replace").splitlines()
    return Message(
        pid=pid,
        fields={name: value for name, _, value in (line.partition("=") for line in lines)},
        descriptors=descriptors,
    )


def hand_back(kept: Mapping[str, int], others: Iterable[int]) -> tuple[dict[str, str], list[int]]:
    """Put kept descriptors where `inherited` looks, in a child that is about to exec.

    others: descriptors that must survive as well. Returns the environment that says so, and
    the numbers that the others have now; all are inheritable.
    """
    first_free = _FIRST + len(kept)
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, first_free) for each in kept.values()]
    kept_aside = [fcntl.fcntl(each, fcntl.F_DUPFD, first_free) for each in others]
    for number, descriptor in enumerate(moved, _FIRST):
        os.dup2(descriptor, number, inheritable=True)
    environment = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(kept)),
        "LISTEN_FDNAMES": ":".join(kept),
    }
    return environment, kept_aside


def _address(path: str) -> str:
    # An at sign stands for the abstract name space.
    return f"\0{path[1:]}" if path.startswith("@") else path


def _text(fields: Mapping[str, str]) -> bytes:
    return "\n".join(f"{name}={value}" for name, value in fields.items()).encode("ascii")
