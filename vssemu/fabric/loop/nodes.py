"""Nodes of loop devices: a host may not make them itself and asks its PID 1.

Source: the control socket of `vssemu.daemons.init`.
"""

import errno
import json
import os
import socket
from pathlib import Path
from typing import Final, Protocol

import trio

ANSWER_LIMIT: Final = 5.0
"""Seconds; PID 1 does nothing that blocks."""


class Nodes(Protocol):
    """Who makes `/dev/loopN` for a host."""

    async def make(self, number: int) -> None:
        """See that there is a node of the device. Raises OSError."""
        ...

    async def remove(self, number: int) -> None:
        """Take the node of a free device away. Raises OSError."""
        ...


class InitNodes:
    """Nodes made by the host's PID 1, which listens at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def make(self, number: int) -> None:
        """Have /dev/loopN made; one that is there is good. Raises OSError."""
        await self._ask("make_node", number)

    async def remove(self, number: int) -> None:
        """Have /dev/loopN removed; one that is not there is good. Raises OSError."""
        await self._ask("remove_node", number)

    async def _ask(self, operation: str, number: int) -> None:
        request = {"op": operation, "name": f"loop{number}"}
        answer = b""
        try:
            with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                with trio.fail_after(ANSWER_LIMIT):
                    await sock.connect(str(self._path))
                    await sock.send(json.dumps(request).encode() + b"\n")
                    while not answer.endswith(b"\n") and (data := await sock.recv(4096)):
                        answer += data
        except OSError as error:
            error.filename = str(self._path)
            raise
        except trio.TooSlowError:
            raise OSError(errno.ETIMEDOUT, "init does not answer", str(self._path)) from None
        said = json.loads(answer) if answer else {"error": "init hung up"}
        if not said.get("ok"):
            raise OSError(errno.EIO, f"{operation}: {said.get('error')}", f"/dev/loop{number}")


class MachineNodes:
    """Nodes that the machine's own devtmpfs makes: outside namespace hosts."""

    def __init__(self, directory: Path = Path("/dev")) -> None:
        self._directory = directory

    async def make(self, number: int) -> None:
        """Find the node. Raises FileNotFoundError when the kernel has not made it."""
        path = self._directory / f"loop{number}"
        if not path.is_block_device():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    async def remove(self, number: int) -> None:
        """Do nothing: the node is the machine's."""
