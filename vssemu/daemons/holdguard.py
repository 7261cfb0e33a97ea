"""holdguard: thaws what a host froze when the host does not.

A file system that is frozen stays so when the process that froze it dies, and its writers then
ignore every signal. This program runs outside the host, is small and uses the standard library
alone; nothing it needs can be held by what it watches.

    python3 -m vssemu.daemons.holdguard SOCKET [--ready-fd N]

One connection is one hold. The client sends a line {"limit": seconds} with O_RDONLY descriptors
of directories (SCM_RIGHTS) and is answered `armed`. When it sends the line `release`, goes away,
or the limit passes, each descriptor gets FITHAW and is closed (it pins mount and device); the
answer is `released` or `expired`. SIGTERM ends all holds so.

A thaw may wait for a freeze that still flushes, so each has a thread of its own. One that comes
too early for such a freeze (EINVAL) is tried again until its client is gone.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import stat
import sys
import threading
import time
from pathlib import Path

FITHAW = 0xC0045878
MAX_DESCRIPTORS = 253
MAX_SECONDS = 600.0
ARMING_LIMIT = 10.0
RETRY_SECONDS = 0.02


def thaw(fd: int, over: threading.Event) -> None:
    """Thaw and close. over: set when no freeze of this hold can be under way any more."""
    try:
        last = False
        while not last:
            last = over.is_set()
            try:
                fcntl.ioctl(fd, FITHAW, 0)
                return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    return
            over.wait(RETRY_SECONDS)
    finally:
        os.close(fd)


class Hold:
    """One connection: what it asked to be watched, and until when."""

    def __init__(self, connection: socket.socket, stopping: socket.socket) -> None:
        self._connection = connection
        self._stopping = stopping
        self._descriptors: list[int] = []

    def serve(self) -> None:
        """Serve the connection to its end; whatever happens, everything is thawed."""
        over = threading.Event()
        answer = b"refused\n"
        try:
            limit = self._receive()
            # The clock runs before the client may freeze anything.
            deadline = time.monotonic() + limit
            self._say(b"armed\n")
            answer = b"released\n" if self._word(deadline) == b"release\n" else b"expired\n"
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"holdguard: hold refused or broken: {error}", file=sys.stderr, flush=True)
        threads = [threading.Thread(target=thaw, args=(fd, over)) for fd in self._descriptors]
        for thread in threads:
            thread.start()
        if answer == b"expired\n":
            self._say(answer)
            self._word(time.monotonic() + MAX_SECONDS)
        over.set()
        for thread in threads:
            thread.join()
        self._say(answer)
        self._connection.close()

    def _receive(self) -> float:
        """Return the limit in seconds; the descriptors that came are kept in any case."""
        if not self._readable(time.monotonic() + ARMING_LIMIT):
            raise ValueError("no request came")
        numbers = array.array("i")
        room = socket.CMSG_SPACE(MAX_DESCRIPTORS * numbers.itemsize)
        line, control, flags, _ = self._connection.recvmsg(4096, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
        self._descriptors = list(numbers)
        limit = float(json.loads(line)["limit"])
        if flags & socket.MSG_CTRUNC or not self._descriptors or not 0 < limit <= MAX_SECONDS:
            raise ValueError(f"not a hold: {line!r}, {len(self._descriptors)} descriptors")
        if not all(stat.S_ISDIR(os.fstat(fd).st_mode) for fd in self._descriptors):
            raise ValueError("a descriptor is no directory")
        return limit

    def _word(self, deadline: float) -> bytes:
        """Return what the client says next, b"" when it is gone or the time is over."""
        with contextlib.suppress(OSError):
            return self._connection.recv(64) if self._readable(deadline) else b""
        return b""

    def _readable(self, deadline: float) -> bool:
        watched = [self._connection, self._stopping]
        ready, _, _ = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))
        return self._connection in ready and self._stopping not in ready

    def _say(self, word: bytes) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(word, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)


def main() -> None:
    """Serve holds on the socket that the command line names, until SIGTERM ends them all."""
    parser = argparse.ArgumentParser(prog="holdguard", description="Thaws forgotten freezes.")
    parser.add_argument("socket", type=Path)
    parser.add_argument("--ready-fd", type=int, metavar="N", help="write READY there")
    options = parser.parse_args()
    stopping, stop = socket.socketpair()
    signal.signal(signal.SIGTERM, lambda *_: stop.close())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    options.socket.unlink(missing_ok=True)
    os.umask(0o177)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(options.socket))
    listener.listen(64)
    if options.ready_fd is not None:
        os.write(options.ready_fd, b"READY\n")
        os.close(options.ready_fd)
    while stopping not in select.select([listener, stopping], [], [])[0]:
        with contextlib.suppress(OSError):
            # Not daemon threads: the program ends when the last hold has thawed everything.
            threading.Thread(target=Hold(listener.accept()[0], stopping).serve).start()


if __name__ == "__main__":
    main()
