"""A small supervisor: PID 1 of a namespace host, and the keeper of a lab outside its hosts.

It starts the services of a JSON table, reaps, restarts what died, keeps their descriptors,
makes loop device nodes for the host agent, and stops everything in reverse order. Owns the
loop; `supervision` has the services, `supervised` one of them, `control` the control socket.

Table: {"socket": path, "logs": directory, "dev": directory or null, "services": [
    {"name", "argv", "env", "after": [names], "confined": bool, "dies_with_me": bool,
     "restart": bool, "stop_seconds": float, "descriptors": how many are kept,
     "nice": its niceness from the very start}]}
In argv, `{ready_fd}` becomes the number of a descriptor to which the service writes once it
serves; a service without it counts as ready at once. Descriptors to keep are sent to the
socket beside the control socket, with the suffix .notify (`vssemu.linux.fdstore`).
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from vssemu.daemons.control import Control
from vssemu.daemons.supervision import Supervisor


class Init:
    """The event loop: children, control connections, kept descriptors, timers."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.selector = selectors.DefaultSelector()
        self.supervisor = Supervisor(table, self.selector)
        dev = Path(table["dev"]) if table.get("dev") else None
        self.control = Control(self.supervisor, self.selector, Path(table["socket"]), dev)
        self._open_signals()

    def run(self) -> None:
        """Supervise until told to stop and everything has ended."""
        while True:
            self.supervisor.step()
            self.control.answer_waiters()
            if self.supervisor.has_ended:
                return
            for key, _ in self.selector.select(self._seconds_to_next_timer()):
                key.data(key.fileobj)

    def _seconds_to_next_timer(self) -> float | None:
        times = self.supervisor.deadlines() + self.control.deadlines()
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _open_signals(self) -> None:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._wakeup_writer = writer
        self.selector.register(reader, selectors.EVENT_READ, self._signalled)

    def _signalled(self, reader: socket.socket) -> None:
        numbers = reader.recv(4096)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.supervisor.shut_down()


def main() -> None:
    """Run the table in the file that the first argument names."""
    Init(json.loads(Path(sys.argv[1]).read_text())).run()
    if os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):  # nobody is left
            os.kill(-1, signal.SIGKILL)


if __name__ == "__main__":
    main()
