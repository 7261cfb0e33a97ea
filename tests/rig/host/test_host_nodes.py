"""Nodes of loop devices, made by a real init."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.rig.host.hostrig import Place, eventually
from vssemu.fabric.loop.nodes import InitNodes, MachineNodes


@pytest.fixture
def init(place: Place) -> Iterator[Path]:
    """An init without services, which makes nodes in a directory; its socket."""
    socket = place.paths.init_socket
    nodes = place.root / "nodes"
    nodes.mkdir()
    table = {"socket": str(socket), "logs": str(place.root), "dev": str(nodes), "services": []}
    file = place.root / "table.json"
    file.write_text(json.dumps(table))
    process = subprocess.Popen([sys.executable, "-m", "vssemu.daemons.init", file])
    yield socket
    process.terminate()
    assert process.wait(20) == 0


async def test_init_makes_a_node_and_takes_it_away(place: Place, init: Path) -> None:
    await eventually(init.is_socket, what="init")
    nodes = InitNodes(init)
    node = place.root / "nodes" / "loop77"
    for _ in range(2):
        await nodes.make(77)
        assert node.is_block_device()
        assert node.stat().st_rdev == os.makedev(7, 77)
    for _ in range(2):
        await nodes.remove(77)
        assert not node.exists()


async def test_an_init_that_is_not_there_is_named(place: Place) -> None:
    with pytest.raises(OSError, match=r"init\.sock"):
        await InitNodes(place.paths.init_socket).make(77)


async def test_an_init_that_hangs_up_or_refuses_is_an_error(place: Place) -> None:
    answers = iter([b"", b'{"ok": false, "error": "not here"}\n'])

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)
        await stream.send_all(next(answers))
        await stream.aclose()

    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(place.paths.init_socket))
    sock.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [trio.SocketListener(sock)])
        for words in ("hung up", "not here"):
            with pytest.raises(OSError, match=words):
                await InitNodes(place.paths.init_socket).make(77)
        nursery.cancel_scope.cancel()


async def test_outside_a_host_the_machine_must_have_the_node(place: Place) -> None:
    (place.root / "loop77").touch()
    with pytest.raises(FileNotFoundError):
        await MachineNodes(place.root).make(77)
