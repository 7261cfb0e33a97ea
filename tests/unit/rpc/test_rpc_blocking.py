import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.unit.rpc import example
from tests.unit.rpc.example import ExampleError, Shop, decode_error
from vssemu.rpc.client import Client, connect
from vssemu.rpc.errors import RpcBroken, RpcBusy, RpcClosed, RpcTimeout
from vssemu.rpc.interface import Method

in_thread = trio.to_thread.run_sync


def with_client(path: Path, use: Callable[[Client], object], timeout: float | None = 10) -> object:
    with connect(path, decode_error=decode_error, timeout=timeout) as client:
        return use(client)


async def test_the_blocking_client_does_what_the_other_does(path: Path) -> None:
    def use(client: Client) -> None:
        session = client.call(example.open_session)
        assert client.scoped(session).call(example.add, "F:") == "session-1 F: <Mask.ONE: 1> None"
        with pytest.raises(ExampleError, match="no"):
            client.call(example.fail, 3, "no")
        with client.stream(example.count, 3) as numbers:
            assert list(numbers) == [1, 2, 3]
        client.send_oneway(example.note, "x")
        size, descriptor = client.call_with_descriptor(example.give_file, "hello")
        assert (size, os.pread(descriptor, 10, 0)) == (5, b"hello")
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)

    await in_thread(with_client, path, use)


async def test_a_call_whose_time_is_up_leaves_the_client_usable(path: Path) -> None:
    def use(client: Client) -> None:
        with pytest.raises(RpcTimeout) as caught:
            client.within(0.01).call(example.note, "takes longer")
        assert isinstance(caught.value, TimeoutError)
        assert client.call(example.flat, 9).number == 9

    await in_thread(with_client, path, use)


async def test_a_second_thread_is_refused(path: Path, shop: Shop) -> None:
    client = await in_thread(partial(connect, path, timeout=10))

    def hang() -> None:
        with pytest.raises(RpcClosed, match="this client was closed"):
            client.call(example.hang)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, hang)
            await shop.hanging.wait()
            with pytest.raises(RpcBusy, match="another call or stream"):
                await in_thread(client.call, example.flat, 1)
            client.close()
        await shop.hang_cancelled.wait()


async def test_an_open_stream_keeps_others_out_and_ends_the_connection_when_left(
    path: Path,
) -> None:
    def use(client: Client) -> None:
        with client.stream(example.count, 500) as numbers:
            assert next(numbers) == 1
            with pytest.raises(RpcBusy):
                client.call(example.flat, 1)
        with pytest.raises(RpcClosed, match="left before its end"):
            client.call(example.flat, 1)

    await in_thread(with_client, path, use)


async def test_a_stream_can_be_asked_again_after_its_time_was_up(path: Path) -> None:
    ours, theirs = socket.socketpair()

    def use() -> None:
        client = Client.over(ours).within(0.01)
        with theirs, client.stream(example.count, 1) as numbers:
            with pytest.raises(RpcTimeout):
                next(numbers)
            theirs.sendall(b'{"parameters":{"number":8},"continues":true}\0{"parameters":{}}\0')
            assert list(numbers) == [8]
        client.close()

    await in_thread(use)


async def test_the_wrong_function_for_a_method_is_named(path: Path) -> None:
    def use(client: Client) -> None:
        with pytest.raises(TypeError, match=r"Shop\.Count: use stream"):
            client.call(example.count, 1)
        with pytest.raises(TypeError, match=r"Shop\.Flat: use call"):
            client.stream(example.flat, 1)
        with pytest.raises(TypeError, match="use call_with_descriptor"):
            client.call(example.give_file, "x")

    await in_thread(with_client, path, use)


@pytest.mark.parametrize("method", [example.hang, example.crash])
def test_a_dead_peer_is_rpc_broken(method: Method[[], None]) -> None:
    ours, theirs = socket.socketpair()
    client = Client.over(ours)
    theirs.close()
    with pytest.raises(RpcBroken, match="the peer closed"):
        client.call(method)
    assert client.is_over


SERVE_INHERITED = """
import trio
from tests.unit.rpc.example import Shop, serve
from vssemu.rpc.listening import listen_fds

[inherited] = listen_fds()
trio.run(serve, inherited, Shop())
"""


async def test_a_process_serves_the_socket_it_inherited(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        # LISTEN_PID must be the pid after exec: the shell's own, which exec keeps.
        command = f'exec env LISTEN_PID=$$ LISTEN_FDS=1 "$0" -c "$1" 3<&{listener.fileno()}'
        async with trio.open_nursery() as nursery:
            process = await nursery.start(
                partial(
                    trio.run_process,
                    ["bash", "-c", command, sys.executable, SERVE_INHERITED],
                    pass_fds=[listener.fileno()],
                    check=False,
                )
            )
            with trio.fail_after(20):
                await in_thread(
                    partial(with_client, tmp_path / "s", lambda c: c.call(example.flat, 1))
                )
            process.terminate()
