"""The control socket of a supervisor: JSON lines, for root.

{"op": "status"}, {"op": "wait", "name", "seconds"}, {"op": "stop"|"start"|"remove", "name"},
{"op": "kill", "name", "restart": bool}, {"op": "add", "service"},
{"op": "make_node"|"remove_node", "name"}, {"op": "shutdown"}.
Answers are {"ok": true, ...} or {"ok": false, "error": text}.

Standard library only, and nothing that a caller does ends it.
"""

import json
import os
import re
import selectors
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vssemu.daemons.supervised import Service
from vssemu.daemons.supervision import Supervisor

LOOP_MAJOR = 7
_NODE_NAME = re.compile(r"loop(0|[1-9][0-9]{0,5})\Z")


class Refused(Exception):
    """A request that is not carried out; the text says why."""


class Control:
    """The listening socket, its connections, and who waits for a service to be ready.

    selector: the loop's. dev: where nodes of loop devices are made, None: nowhere.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        selector: selectors.BaseSelector,
        path: Path,
        dev: Path | None,
    ) -> None:
        self.buffers: dict[socket.socket, bytes] = {}
        self._supervisor = supervisor
        self._selector = selector
        self._dev = dev
        self._waiters: list[tuple[socket.socket, str, float]] = []
        selector.register(_listen(path), selectors.EVENT_READ, self.accept)

    def deadlines(self) -> list[float]:
        """Return the moments, of the monotonic clock, until which somebody waits."""
        return [deadline for _, _, deadline in self._waiters]

    def answer_waiters(self) -> None:
        """Answer those who waited for a service that is ready, or long enough."""
        now = time.monotonic()
        for waiter in list(self._waiters):
            connection, name, deadline = waiter
            service = self._supervisor.services.get(name)
            if service is not None and not service.ready and now < deadline:
                continue
            self._waiters.remove(waiter)
            if service is not None and service.ready:
                self._answer(connection, {"ok": True, **service.facts()})
            else:
                self._answer(connection, {"ok": False, "error": f"{name} is not ready"})

    def accept(self, listener: socket.socket) -> None:
        """Take a connection."""
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # out of descriptors, or the caller has gone: nothing to end over
        connection.setblocking(False)
        self.buffers[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ, self._readable)

    def _readable(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        if not data or len(self.buffers[connection]) > 1 << 20:
            self._drop(connection)
            return
        *lines, rest = (self.buffers[connection] + data).split(b"\n")
        self.buffers[connection] = rest
        for line in lines:
            self._serve(connection, line)

    def _drop(self, connection: socket.socket) -> None:
        if connection in self.buffers:
            del self.buffers[connection]
            self._selector.unregister(connection)
            self._waiters = [w for w in self._waiters if w[0] is not connection]
            connection.close()

    def _serve(self, connection: socket.socket, line: bytes) -> None:
        try:
            request = json.loads(line)
            handler = (
                _OPERATIONS.get(str(request.get("op"))) if isinstance(request, dict) else None
            )
            if handler is None:
                raise Refused("unknown operation")
            answer = handler(self, connection, request)
        except (Refused, OSError, ValueError, KeyError, TypeError) as error:
            answer = {"ok": False, "error": str(error) or type(error).__name__}
        if answer is not None:
            self._answer(connection, answer)

    def _answer(self, connection: socket.socket, answer: dict[str, Any]) -> None:
        try:
            connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            self._drop(connection)

    def _named(self, request: dict[str, Any]) -> Service:
        try:
            return self._supervisor.services[request["name"]]
        except KeyError:
            raise Refused(f"no service {request.get('name')!r}") from None

    def _status(self, _c: socket.socket, _r: dict[str, Any]) -> dict[str, Any]:
        services = self._supervisor.services.values()
        return {"ok": True, "services": [s.facts() for s in services]}

    def _wait(self, connection: socket.socket, request: dict[str, Any]) -> None:
        service = self._named(request)
        deadline = time.monotonic() + float(request["seconds"])
        self._waiters.append((connection, service.name, deadline))

    def _stop(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        self._supervisor.stop(self._named(request))
        return {"ok": True}

    def _kill(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        restart = bool(request.get("restart", False))
        self._supervisor.kill(self._named(request), restart=restart)
        return {"ok": True}

    def _start(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        self._supervisor.start(self._named(request))
        return {"ok": True}

    def _add(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        service = Service(request["service"])
        if service.name in self._supervisor.services:
            raise Refused(f"service {service.name!r} is there already")
        self._supervisor.services[service.name] = service
        return {"ok": True}

    def _remove(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        service = self._named(request)
        if service.pid:
            raise Refused(f"service {service.name!r} is running")
        service.let_go(*service.kept)
        del self._supervisor.services[service.name]
        return {"ok": True}

    def _make_node(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        path, minor = self._node(request)
        device = os.makedev(LOOP_MAJOR, minor)
        try:
            os.mknod(path, 0o600 | stat.S_IFBLK, device)
        except FileExistsError:
            if path.stat().st_rdev != device:
                raise
        return {"ok": True}

    def _remove_node(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        path, _ = self._node(request)
        path.unlink(missing_ok=True)
        return {"ok": True}

    def _node(self, request: dict[str, Any]) -> tuple[Path, int]:
        match = _NODE_NAME.match(str(request.get("name")))
        if self._dev is None or match is None:
            raise Refused("only nodes of loop devices are made, and only on a host")
        return self._dev / match.group(), int(match.group(1))

    def _shutdown(self, _c: socket.socket, _r: dict[str, Any]) -> dict[str, Any]:
        self._supervisor.shut_down()
        return {"ok": True}


_OPERATIONS: dict[
    str, Callable[[Control, socket.socket, dict[str, Any]], dict[str, Any] | None]
] = {
    "status": Control._status,
    "wait": Control._wait,
    "stop": Control._stop,
    "kill": Control._kill,
    "start": Control._start,
    "add": Control._add,
    "remove": Control._remove,
    "make_node": Control._make_node,
    "remove_node": Control._remove_node,
    "shutdown": Control._shutdown,
}


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(previous)
    listener.listen(16)
    listener.setblocking(False)
    return listener
