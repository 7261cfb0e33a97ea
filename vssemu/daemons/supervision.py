"""Supervised services: started, reaped, restarted, stopped in order, their descriptors kept.

Synchronous and standard library only, because nothing may be able to block or break it. It
knows nothing of what it supervises. The loop that drives it is in `vssemu.daemons.init`.

A service with room for descriptors may give some away (`vssemu.linux.fdstore`) and gets them
back when it is started again after it died. They are closed when it is not to run any more.
Such a service does not wait for those that it comes after while something of it is kept:
they may be waiting for it.
"""

import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from vssemu.daemons.supervised import RESTART_PAUSE, RESTART_PAUSE_MAX, Service, become
from vssemu.linux import fdstore

STEADY_SECONDS = 10.0
"""A service that lived this long is started again at once: it is not one that cannot run."""


class Supervisor:
    """The services of a table. selector: the loop's, which calls the data of what is ready."""

    def __init__(self, table: dict[str, Any], selector: selectors.BaseSelector) -> None:
        self.services = {s["name"]: Service(s) for s in table["services"]}
        self.stopping = False
        self._logs = Path(table["logs"])
        self._selector = selector
        self._store_path = Path(table["socket"]).with_suffix(".notify")
        self._store = fdstore.listen(self._store_path)
        selector.register(self._store, selectors.EVENT_READ, self._take_messages)

    def step(self) -> None:
        """Do what is due now: bury, start, kill, stop."""
        self._reap()
        self._start_what_may()
        self._kill_what_lingers()

    @property
    def has_ended(self) -> bool:
        """Whether it was told to stop and nothing runs any more."""
        return self.stopping and not any(s.pid for s in self.services.values())

    def deadlines(self) -> list[float]:
        """Return the moments, of the monotonic clock, at which something is due."""
        now = time.monotonic()
        times = []
        for service in self.services.values():
            if service.kill_at:
                times.append(service.kill_at)
            if not service.pid and service.wanted and service.not_before > now:
                times.append(service.not_before)
        return times

    def stop(self, service: Service) -> None:
        """Have a service end, and not come back."""
        service.wanted = False
        if not service.pid:
            service.let_go(*service.kept)
        elif not service.kill_at:
            os.kill(service.pid, signal.SIGTERM)
            service.kill_at = time.monotonic() + service.stop_seconds

    def kill(self, service: Service, *, restart: bool) -> None:
        """Kill a service; it comes back if so wanted."""
        service.wanted = restart
        if service.pid:
            os.kill(service.pid, signal.SIGKILL)
        elif not restart:
            service.let_go(*service.kept)

    def start(self, service: Service) -> None:
        """Have a service run, at once."""
        service.wanted = True
        service.not_before = 0.0

    def shut_down(self) -> None:
        """Stop all services, the last started first."""
        self.stopping = True
        for service in self.services.values():
            if not service.pid:
                # Nobody may wait any more for one that does not come back.
                service.let_go(*service.kept)

    # --- the end of a service

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # What the dead one sent is its own, and nobody's once its number is forgotten.
            self._take_messages(self._store)
            for service in self.services.values():
                if service.pid == pid:
                    self._ended(service, status)

    def _ended(self, service: Service, status: int) -> None:
        service.pid = 0
        service.kill_at = 0.0
        service.last_status = os.waitstatus_to_exitcode(status)
        self._close_ready(service)
        served = service.says_ready and service.ready
        service.ready = False
        if served:
            service.pause = RESTART_PAUSE
        if time.monotonic() - service.started_at > STEADY_SECONDS:
            service.pause = 0.0
        self._put_off(service)
        if not service.restart:
            service.wanted = False
        if self.stopping or not service.wanted:
            service.let_go(*service.kept)
        _log(event="ended", service=service.name, status=service.last_status)

    @staticmethod
    def _put_off(service: Service) -> None:
        """Let the next start wait, each time longer."""
        service.not_before = time.monotonic() + service.pause
        service.pause = min(max(service.pause * 2, RESTART_PAUSE), RESTART_PAUSE_MAX)

    def _kill_what_lingers(self) -> None:
        now = time.monotonic()
        for service in self.services.values():
            if service.pid and service.kill_at and now >= service.kill_at:
                os.kill(service.pid, signal.SIGKILL)
                service.kill_at = now + service.stop_seconds
        if self.stopping:
            self._stop_next()

    def _stop_next(self) -> None:
        running = [s for s in self.services.values() if s.pid]
        needed = {name for s in running for name in s.after}
        for service in running:
            if service.name not in needed:
                self.stop(service)

    # --- its beginning

    def _start_what_may(self) -> None:
        now = time.monotonic()
        for service in self.services.values():
            known = [self.services[name] for name in service.after if name in self.services]
            if (
                service.wanted
                and not service.pid
                and not self.stopping
                and now >= service.not_before
                and (service.kept or all(other.ready for other in known))
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
            log = self._logs / f"{service.name}.log"
            become(service, ready_writer, log, self._store_path)
        os.close(ready_writer)
        os.set_blocking(ready_reader, False)
        service.pid = pid
        service.ready = not service.says_ready
        service.ready_fd = ready_reader
        service.starts += 1
        service.started_at = time.monotonic()
        self._selector.register(
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
            self._selector.unregister(service.ready_fd)
            os.close(service.ready_fd)
            service.ready_fd = -1

    # --- its descriptors

    def _take_messages(self, store: socket.socket) -> None:
        while message := self._next_message(store):
            sender = [s for s in self.services.values() if s.pid and s.pid == message.pid]
            unused = list(message.descriptors)
            name = message.fields.get("FDNAME", "")
            if sender and "FDSTOREREMOVE" in message.fields:
                sender[0].let_go(name)
            elif sender and "FDSTORE" in message.fields and unused:
                if sender[0].keep(name, unused[0]):
                    del unused[0]
                else:
                    _log(event="descriptor not kept", service=sender[0].name, name=name)
            for descriptor in unused:
                os.close(descriptor)

    @staticmethod
    def _next_message(store: socket.socket) -> fdstore.Message | None:
        try:
            return fdstore.receive(store)
        except OSError:
            return None  # out of descriptors or memory: nothing to end over


def _log(**fields: object) -> None:
    sys.stderr.write(json.dumps({"logger": "init", **fields}) + "\n")
    sys.stderr.flush()
