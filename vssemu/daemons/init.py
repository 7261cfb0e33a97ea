"""A small supervisor: PID 1 of a namespace host, and the keeper of a lab outside its hosts.

It starts the services of a JSON table, reaps, restarts what died, makes loop device nodes for
the host agent, and stops everything in reverse order. Synchronous and standard library only,
because nothing may be able to block or break it. It knows nothing of what it supervises.

Table: {"socket": path, "logs": directory, "dev": directory or null, "services": [
    {"name", "argv", "env", "after": [names], "confined": bool, "dies_with_me": bool,
     "restart": bool, "stop_seconds": float}]}
In argv, `{ready_fd}` becomes the number of a descriptor to which the service writes once it
serves; a service without it counts as ready at once.

Control socket (root only), one JSON object a line: {"op": "status"}, {"op": "wait", "name",
"seconds"}, {"op": "stop"|"start"|"remove", "name"}, {"op": "kill", "name", "restart": bool},
{"op": "add", "service"}, {"op": "make_node"|"remove_node", "name"}, {"op": "shutdown"}.
Answers are {"ok": true, ...} or {"ok": false, "error": text}.
"""

import contextlib
import json
import os
import re
import selectors
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vssemu.daemons.confinement import confine
from vssemu.linux import capabilities

RESTART_PAUSE = 0.2
"""Seconds between the death of a service and its restart, doubled up to RESTART_PAUSE_MAX."""
RESTART_PAUSE_MAX = 5.0
STEADY_SECONDS = 10.0
"""A service that lived this long starts again with the shortest pause."""
LOOP_MAJOR = 7
_NODE_NAME = re.compile(r"loop(0|[1-9][0-9]{0,5})\Z")


class Refused(Exception):
    """A request that is not carried out; the text says why."""


class Service:
    """One supervised program and how it stands."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.name: str = spec["name"]
        self.argv: list[str] = spec["argv"]
        self.env: dict[str, str] = spec.get("env", {})
        self.after: list[str] = spec.get("after", [])
        self.confined: bool = spec.get("confined", False)
        self.dies_with_me: bool = spec.get("dies_with_me", False)
        self.restart: bool = spec.get("restart", True)
        self.stop_seconds: float = spec.get("stop_seconds", 5.0)
        self.wanted = True
        self.pid = 0
        self.ready = False
        self.says_ready = any("{ready_fd}" in word for word in self.argv)
        self.ready_fd = -1
        self.starts = 0
        self.started_at = 0.0
        self.not_before = 0.0
        self.pause = RESTART_PAUSE
        self.kill_at = 0.0
        self.last_status: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return how the service stands, for the control socket."""
        return {
            "name": self.name,
            "pid": self.pid,
            "ready": self.ready,
            "wanted": self.wanted,
            "starts": self.starts,
            "last_status": self.last_status,
        }


class Supervisor:
    """The event loop: children, control connections, readiness pipes, timers."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.services = {s["name"]: Service(s) for s in table["services"]}
        self.logs = Path(table["logs"])
        self.dev = Path(table["dev"]) if table.get("dev") else None
        self.selector = selectors.DefaultSelector()
        self.waiters: list[tuple[socket.socket, str, float]] = []
        self.buffers: dict[socket.socket, bytes] = {}
        self.stopping = False
        self._open_control(Path(table["socket"]))
        self._open_signals()

    def _open_control(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous)
        listener.listen(16)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, self._accept)

    def _open_signals(self) -> None:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._wakeup_writer = writer
        self.selector.register(reader, selectors.EVENT_READ, self._signalled)

    # --- the loop

    def run(self) -> None:
        """Supervise until told to stop and everything has ended."""
        while True:
            self._reap()
            self._start_what_may()
            self._kill_what_lingers()
            self._answer_waiters()
            if self.stopping and not any(s.pid for s in self.services.values()):
                return
            for key, _ in self.selector.select(self._seconds_to_next_timer()):
                key.data(key.fileobj)

    def _seconds_to_next_timer(self) -> float | None:
        now = time.monotonic()
        times = [deadline for _, _, deadline in self.waiters]
        for service in self.services.values():
            if service.kill_at:
                times.append(service.kill_at)
            if not service.pid and service.wanted and service.not_before > now:
                times.append(service.not_before)
        return max(0.0, min(times) - now) if times else None

    def _signalled(self, reader: socket.socket) -> None:
        numbers = reader.recv(4096)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.shut_down()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self.services.values():
                if service.pid == pid:
                    self._ended(service, status)

    def _ended(self, service: Service, status: int) -> None:
        service.pid = 0
        service.kill_at = 0.0
        service.last_status = os.waitstatus_to_exitcode(status)
        self._close_ready(service)
        service.ready = False
        if time.monotonic() - service.started_at > STEADY_SECONDS:
            service.pause = RESTART_PAUSE
        self._put_off(service)
        if not service.restart:
            service.wanted = False
        _log(event="ended", service=service.name, status=service.last_status)

    @staticmethod
    def _put_off(service: Service) -> None:
        """Let the next start wait, each time longer."""
        service.not_before = time.monotonic() + service.pause
        service.pause = min(service.pause * 2, RESTART_PAUSE_MAX)

    # --- starting and stopping

    def _start_what_may(self) -> None:
        now = time.monotonic()
        for service in self.services.values():
            known = [self.services[name] for name in service.after if name in self.services]
            if (
                service.wanted
                and not service.pid
                and not self.stopping
                and now >= service.not_before
                and all(other.ready for other in known)
            ):
                self._start(service)

    def _start(self, service: Service) -> None:
        try:
            ready_reader, ready_writer = os.pipe()
        except OSError as error:
            self._not_started(service, error)
            return
        try:
            pid = os.fork()
        except OSError as error:
            os.close(ready_reader)
            os.close(ready_writer)
            self._not_started(service, error)
            return
        if pid == 0:
            _become(service, ready_writer, self.logs / f"{service.name}.log")
        os.close(ready_writer)
        os.set_blocking(ready_reader, False)
        service.pid = pid
        service.ready = not service.says_ready
        service.ready_fd = ready_reader
        service.starts += 1
        service.started_at = time.monotonic()
        self.selector.register(
            ready_reader, selectors.EVENT_READ, lambda _fd: self._said_ready(service)
        )

    def _not_started(self, service: Service, error: OSError) -> None:
        """Try again later: PID 1 outlives a machine that is short of memory or processes."""
        _log(event="not started", service=service.name, error=str(error))
        self._put_off(service)

    def _said_ready(self, service: Service) -> None:
        service.ready = bool(os.read(service.ready_fd, 64)) or service.ready
        self._close_ready(service)

    def _close_ready(self, service: Service) -> None:
        if service.ready_fd >= 0:
            self.selector.unregister(service.ready_fd)
            os.close(service.ready_fd)
            service.ready_fd = -1

    def _stop(self, service: Service) -> None:
        service.wanted = False
        if service.pid and not service.kill_at:
            os.kill(service.pid, signal.SIGTERM)
            service.kill_at = time.monotonic() + service.stop_seconds

    def _kill_what_lingers(self) -> None:
        now = time.monotonic()
        for service in self.services.values():
            if service.pid and service.kill_at and now >= service.kill_at:
                os.kill(service.pid, signal.SIGKILL)
                service.kill_at = now + service.stop_seconds
        if self.stopping:
            self._stop_next()

    def shut_down(self) -> None:
        """Stop all services, the last started first."""
        self.stopping = True

    def _stop_next(self) -> None:
        running = [s for s in self.services.values() if s.pid]
        needed = {name for s in running for name in s.after}
        for service in running:
            if service.name not in needed:
                self._stop(service)

    # --- the control socket

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # out of descriptors, or the caller has gone: nothing to end over
        connection.setblocking(False)
        self.buffers[connection] = b""
        self.selector.register(connection, selectors.EVENT_READ, self._readable)

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
            self.selector.unregister(connection)
            self.waiters = [w for w in self.waiters if w[0] is not connection]
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

    def _answer_waiters(self) -> None:
        now = time.monotonic()
        for waiter in list(self.waiters):
            connection, name, deadline = waiter
            service = self.services.get(name)
            if service is not None and not service.ready and now < deadline:
                continue
            self.waiters.remove(waiter)
            if service is not None and service.ready:
                self._answer(connection, {"ok": True, **service.facts()})
            else:
                self._answer(connection, {"ok": False, "error": f"{name} is not ready"})

    def _named(self, request: dict[str, Any]) -> Service:
        try:
            return self.services[request["name"]]
        except KeyError:
            raise Refused(f"no service {request.get('name')!r}") from None

    def _status(self, _c: socket.socket, _r: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, "services": [s.facts() for s in self.services.values()]}

    def _wait(self, connection: socket.socket, request: dict[str, Any]) -> None:
        service = self._named(request)
        deadline = time.monotonic() + float(request["seconds"])
        self.waiters.append((connection, service.name, deadline))

    def _stop_one(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        self._stop(self._named(request))
        return {"ok": True}

    def _kill_one(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        service = self._named(request)
        service.wanted = bool(request.get("restart", False))
        if service.pid:
            os.kill(service.pid, signal.SIGKILL)
        return {"ok": True}

    def _start_one(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        service = self._named(request)
        service.wanted = True
        service.not_before = 0.0
        return {"ok": True}

    def _add(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        service = Service(request["service"])
        if service.name in self.services:
            raise Refused(f"service {service.name!r} is there already")
        self.services[service.name] = service
        return {"ok": True}

    def _remove(self, _c: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        service = self._named(request)
        if service.pid:
            raise Refused(f"service {service.name!r} is running")
        del self.services[service.name]
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
        if self.dev is None or match is None:
            raise Refused("only nodes of loop devices are made, and only on a host")
        return self.dev / match.group(), int(match.group(1))

    def _shutdown(self, _c: socket.socket, _r: dict[str, Any]) -> dict[str, Any]:
        self.shut_down()
        return {"ok": True}


_OPERATIONS: dict[
    str, Callable[[Supervisor, socket.socket, dict[str, Any]], dict[str, Any] | None]
] = {
    "status": Supervisor._status,
    "wait": Supervisor._wait,
    "stop": Supervisor._stop_one,
    "kill": Supervisor._kill_one,
    "start": Supervisor._start_one,
    "add": Supervisor._add,
    "remove": Supervisor._remove,
    "make_node": Supervisor._make_node,
    "remove_node": Supervisor._remove_node,
    "shutdown": Supervisor._shutdown,
}


def _become(service: Service, ready_fd: int, log: Path) -> None:
    """Turn the forked child into the service; never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        if service.dies_with_me:
            capabilities.set_parent_death_signal(signal.SIGKILL)
        if service.confined:
            confine()
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        null_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(null_fd, 0)
        os.dup2(log_fd, 1)
        os.dup2(log_fd, 2)
        os.set_inheritable(ready_fd, True)
        argv = [word.replace("{ready_fd}", str(ready_fd)) for word in service.argv]
        os.execvpe(argv[0], argv, {**os.environ, **service.env})
    except BaseException as error:  # noqa: BLE001  (a forked child must not return)
        os.write(2, f"{service.name}: cannot start: {error}\n".encode())
    finally:
        os._exit(127)


def _log(**fields: object) -> None:
    print(json.dumps({"logger": "init", **fields}), file=sys.stderr, flush=True)


def main() -> None:
    """Run the table in the file that the first argument names."""
    table = json.loads(Path(sys.argv[1]).read_text())
    Supervisor(table).run()
    if os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):  # nobody is left
            os.kill(-1, signal.SIGKILL)


if __name__ == "__main__":
    main()
