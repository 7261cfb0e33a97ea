"""One provider's program: started on demand with a listening socket, watched, killed.

The socket is made here and handed over as descriptor 3 (sd_listen_fds(3)); connections are
made as calls need them, so calls that overlap have one each. When the program ends, all
connections break and the next need starts it anew; when the service dies, so does it. Refuses
to know what the calls mean.
"""

import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog
import trio

from vssemu.linux import activation, run
from vssemu.rpc.client_trio import Client
from vssemu.rpc.client_trio import connect as connect_to
from vssemu.rpc.listening import listen_unix

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SECONDS_AFTER_KILL = 5.0


class ProviderAnswer(Exception):
    """A provider's error as it came: code, fact, hint, none of them trusted yet."""

    def __init__(self, parameters: Mapping[str, object]) -> None:
        code = parameters.get("hresult")
        self.hresult = code & 0xFFFF_FFFF if isinstance(code, int) else 0x8000_FFFF
        self.fact = str(parameters.get("fact", ""))
        hint = parameters.get("hint")
        self.hint = None if hint is None else str(hint)
        super().__init__(f"0x{self.hresult:08x}: {self.fact}")


class Runner:
    """A running provider program. Made by `started`, ended by `kill`."""

    def __init__(self, child: run.Child, path: Path, name: str) -> None:
        self._child = child
        self._path = path
        self._idle: list[Client] = []
        self._name = name
        self.ended = trio.Event()

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether the program is there and can be called."""
        # Asked of the kernel, for the watch may not have had its turn yet.
        return not self.ended.is_set() and self._child.poll() is None

    async def watch(self) -> None:
        """Return when the program has ended, reaped; runs in the hub's nursery."""
        pidfd = os.pidfd_open(self._child.pid)
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)
            if (status := self._child.poll()) is not None:
                logger.info("provider_ended", provider=self._name, status=status)
            self.ended.set()
            self._drop_connections()

    async def connection(self) -> Client:
        """Return a connection nobody uses. Raises OSError."""
        while self._idle:
            client = self._idle.pop()
            if not client.is_over:
                return client
        return await connect_to(self._path, decode_error=ProviderAnswer)

    def give_back(self, client: Client) -> None:
        """Keep a connection, whose call was answered, for the next one."""
        if self.is_alive and not client.is_over:
            self._idle.append(client)

    async def kill(self) -> None:
        """End the program and its children; returns when it is gone, or after 5 s."""
        if self._child.poll() is None:
            try:
                os.killpg(self._child.pid, signal.SIGKILL)
            except ProcessLookupError:
                logger.debug("provider_gone", provider=self._name)
        with trio.move_on_after(SECONDS_AFTER_KILL, shield=True):
            await self.ended.wait()
        self._path.unlink(missing_ok=True)

    def _drop_connections(self) -> None:
        self._idle.clear()


def spawn(command: Sequence[str], path: Path, environment: Mapping[str, str], name: str) -> Runner:
    """Start a provider's program with its socket at `path`. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with listen_unix(path, mode=0o600) as sock:
        child = _start(command, sock, environment)
    logger.info("provider_started", provider=name, pid=child.pid, command=list(command))
    return Runner(child, path, name)


def _start(
    command: Sequence[str], sock: socket.socket, environment: Mapping[str, str]
) -> run.Child:
    descriptor = sock.fileno()
    become = [sys.executable, "-I", "-S", activation.__file__]
    argv = [*become, str(os.getpid()), str(descriptor), *command]
    return run.spawn(argv, env=environment, pass_fds=(descriptor,), process_group=0)
