"""A host's line to its array: an array that hangs, one that dies, one that is not there."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from vssemu.api.errors import encode_error
from vssemu.fabric import arraylink
from vssemu.fabric.arraylink import ArrayLink
from vssemu.rpc.caller import Caller
from vssemu.rpc.errors import RpcTimeout
from vssemu.rpc.interface import Declared, Interface
from vssemu.rpc.server import serve_unix

line = Interface("io.vssemu.test.Line", "One call.")


@line.method(returns="answer")
def ask() -> str:
    """Answer."""
    raise Declared


class Array:
    """The other end; it hangs in its first calls."""

    def __init__(self, hangs: int = 0) -> None:
        self.hangs = hangs
        self.calls = 0

    async def ask(self, caller: Caller) -> str:
        """Answer."""
        self.calls += 1
        if self.calls <= self.hangs:
            await trio.sleep(0.6)
        return "here"


@pytest.fixture
def path() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="vs-", dir="/tmp"))
    yield directory / "array.sock"
    shutil.rmtree(directory)


async def serve(path: Path, served: Array, nursery: trio.Nursery) -> None:
    async def run(task_status: trio.TaskStatus[None]) -> None:
        await serve_unix(
            path,
            {line: served},
            vendor="t",
            product="t",
            version="1",
            url="",
            encode_error=encode_error,
            task_status=task_status,
        )

    await nursery.start(run)


async def test_an_array_that_hangs_is_not_waited_for_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arraylink, "ANSWER_LIMIT", 0.2)
    async with trio.open_nursery() as nursery:
        await serve(path, Array(hangs=1), nursery)
        link = ArrayLink(path)
        with pytest.raises(RpcTimeout, match="Ask"):
            await link.call(ask)
        await trio.sleep(0.6)
        assert await link.call(ask) == "here"
        await link.aclose()
        nursery.cancel_scope.cancel()


async def test_a_listener_that_never_answers_is_given_up_as_well(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arraylink, "ANSWER_LIMIT", 0.2)
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(os.fspath(path))
        stopped.listen()
        link = ArrayLink(path)
        with pytest.raises(RpcTimeout):
            await link.call(ask)
        await link.aclose()


async def test_an_array_that_is_being_restarted_is_waited_for(path: Path) -> None:
    async with trio.open_nursery() as nursery:

        async def start() -> None:
            await trio.sleep(0.3)
            await serve(path, Array(), nursery)

        nursery.start_soon(start)
        link = ArrayLink(path)
        assert await link.call(ask) == "here"
        await link.aclose()
        nursery.cancel_scope.cancel()


async def test_an_array_that_is_gone_is_an_oserror(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arraylink, "RESTART_LIMIT", 0.1)
    with pytest.raises(FileNotFoundError):
        await ArrayLink(path).call(ask)
