import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from tests.unit.rpc import example
from tests.unit.rpc.example import SHOP, ExampleError, Shop, decode_error, serve
from vssemu.linux.credentials import PeerCredentials
from vssemu.rpc import errors
from vssemu.rpc.caller import Caller
from vssemu.rpc.client_trio import Client, connect
from vssemu.rpc.errors import BadReply, MessageTooLarge, RpcBroken, RpcBusy, RpcClosed
from vssemu.rpc.interface import Declared, Interface
from vssemu.rpc.listening import listen_fds, listen_unix


@asynccontextmanager
async def raw_stream(path: Path) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_unix_socket(path) as stream:
        yield stream


def names_in(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir()]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def read_all(stream: trio.SocketStream) -> bytes:
    received = b""
    with trio.fail_after(5):
        async for data in stream:
            received += data
    return received


async def test_calls_are_answered_with_typed_values(client: Client) -> None:
    session = await client.call(example.open_session)
    shop = client.scoped(session)
    assert await shop.call(example.add, "F:") == "session-1 F: <Mask.ONE: 1> None"
    assert await client.call(example.flat, 7) == example.Inner(number=7, text="flat")
    assert await shop.call(example.do_snapshot_set) == "operation of session-1"


async def test_the_services_own_error_arrives_as_its_exception(client: Client) -> None:
    with pytest.raises(ExampleError) as caught:
        await client.call(example.fail, 0x80042301, "wrong state")
    assert (caught.value.code, caught.value.fact) == (0x80042301, "wrong state")
    assert (await client.call(example.flat, 1)).number == 1


async def test_a_bug_is_logged_and_answered_and_the_service_lives(client: Client) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(ExampleError) as caught:
        await client.call(example.crash)
    assert caught.value.code == 0x8000FFFF
    assert "ZeroDivisionError: a bug \\udc80" in caught.value.fact
    assert [log["event"] for log in logs] == ["unexpected_exception"]
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)
    assert (await client.call(example.flat, 1)).number == 1


async def test_the_standard_errors_arrive_as_their_exceptions(path: Path) -> None:
    stranger = Interface("org.example.Stranger", "")
    impostor = Interface(SHOP.name, "")

    def echo(record: str) -> None:
        raise Declared

    def unheard() -> None:
        raise Declared

    async with await connect(path) as client:
        with pytest.raises(errors.InterfaceNotFound, match=r"org\.example\.Stranger"):
            await client.call(stranger.method()(unheard))
        with pytest.raises(errors.MethodNotFound, match="Unheard"):
            await client.call(impostor.method()(unheard))
        with pytest.raises(errors.InvalidParameter, match=r"record: Expected `object`") as caught:
            await client.call(impostor.method()(echo), "text")
        assert caught.value.item == "record"
        with pytest.raises(errors.ExpectedMore):
            await client.call(impostor.method(name="Count", returns="n")(example_count), 1)
        with pytest.raises(errors.RemoteError, match=r"org\.example\.Shop\.Failed"):
            await client.call(example.fail, 1, "nobody decodes this")


def example_count(up_to: int) -> int:
    raise Declared


async def test_a_reply_of_another_shape_is_told_and_the_client_stays_usable(path: Path) -> None:
    impostor = Interface(SHOP.name, "")

    def flat(number: int) -> str:
        raise Declared

    async with await connect(path) as client:
        with pytest.raises(BadReply, match="missing required field `words`"):
            await client.call(impostor.method(returns="words")(flat), 1)
        assert (await client.call(example.flat, 2)).number == 2


@pytest.mark.parametrize("last", [False, True])
async def test_a_stream_brings_every_element_and_ends(client: Client, last: bool) -> None:
    async with client.stream(example.count, 5, last=last) as numbers:
        assert [number async for number in numbers] == [1, 2, 3, 4, 5]
    assert (await client.call(example.flat, 1)).number == 1


async def test_a_stream_of_prompts_and_an_empty_one(client: Client) -> None:
    assert [each async for each in client.stream(example.prompts, 2)] == [None, None]
    assert [each async for each in client.stream(example.count, 0)] == []


async def test_an_error_ends_a_stream(client: Client) -> None:
    numbers = client.stream(example.count, 2000)
    for number in range(1, 1001):
        assert await anext(numbers) == number
    with pytest.raises(ExampleError, match="too many"):
        await anext(numbers)
    with pytest.raises(StopAsyncIteration):
        await anext(numbers)
    assert (await client.call(example.flat, 1)).number == 1


async def test_a_slow_reader_holds_the_stream_back_and_misses_nothing(
    client: Client, shop: Shop
) -> None:
    async with client.stream(example.big, number=100, size=50_000) as texts:
        assert len(await anext(texts)) == 50_000
        await wait_all_tasks_blocked(0.02)
        assert shop.sent < 50  # 5 MB do not fit into the socket's buffer
        assert [len(text) async for text in texts] == [50_000] * 99


async def test_a_cancelled_wait_for_an_element_loses_none(client: Client) -> None:
    async with client.stream(example.count, 3) as numbers:
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(numbers)
        with trio.fail_after(5):
            assert [number async for number in numbers] == [1, 2, 3]


async def test_a_stream_left_early_closes_the_connection(client: Client) -> None:
    async with client.stream(example.count, 500) as numbers:
        await anext(numbers)
        with pytest.raises(RpcBusy, match="Count is under way"):
            await client.call(example.flat, 1)
    with pytest.raises(RpcClosed, match="left before its end"):
        await client.call(example.flat, 1)


async def test_the_peers_death_cancels_its_call_and_sets_closed(path: Path, shop: Shop) -> None:
    client = await connect(path)
    await client.call(example.open_session)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_closed, client)
            await shop.hanging.wait()
            assert not shop.callers[0].closed.is_set()
            await client.aclose()
        await shop.callers[0].closed.wait()
        await shop.hang_cancelled.wait()
        await shop.closed.wait()
    with pytest.raises(RpcClosed, match="has ended"):
        shop.callers[0].on_close(trio.lowlevel.checkpoint)


async def expect_closed(client: Client) -> None:
    with pytest.raises(RpcClosed, match="this client was closed"):
        await client.call(example.hang)


async def test_the_peers_death_is_noticed_behind_bytes_that_wait(path: Path, shop: Shop) -> None:
    hang = b'{"method":"org.example.Shop.Hang"}\0'
    async with raw_stream(path) as stream:
        await stream.send_all(hang * 1000)
        with trio.fail_after(5):
            await shop.hanging.wait()
    with trio.fail_after(5):
        await shop.hang_cancelled.wait()


async def test_a_peer_that_only_stopped_sending_gets_its_replies(path: Path) -> None:
    async with raw_stream(path) as stream:
        await stream.send_all(
            b'{"method":"org.example.Shop.Flat","parameters":{"number":3}}\0' * 2
        )
        await stream.send_eof()
        replies = (await read_all(stream)).split(b"\0")
    assert [json.loads(reply)["parameters"]["number"] for reply in replies[:-1]] == [3, 3]


async def test_oneway_calls_have_no_reply_and_outlive_their_peer(path: Path, shop: Shop) -> None:
    client = await connect(path)
    await client.send_oneway(example.note, "first")
    await client.send_oneway(example.note, "second")
    await client.send_oneway(example.crash)
    assert (await client.call(example.flat, 1)).number == 1
    shop.noted = trio.Event()
    await client.send_oneway(example.note, "third")
    await client.aclose()
    with trio.fail_after(5):
        await shop.noted.wait()
    assert shop.notes == ["first", "second", "third"]


async def test_two_connections_are_served_at_once(path: Path, client: Client, shop: Shop) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call, example.hang)
            await shop.hanging.wait()
            async with await connect(path) as other:
                assert (await other.call(example.flat, 2)).number == 2
            nursery.cancel_scope.cancel()


async def test_calls_of_several_tasks_queue_on_one_client(client: Client) -> None:
    numbers = []

    async def call(number: int) -> None:
        numbers.append((await client.call(example.flat, number)).number)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(call, number)
    assert sorted(numbers) == list(range(20))


async def test_a_cancelled_calls_late_reply_is_dropped(client: Client) -> None:
    with trio.move_on_after(0.01):
        await client.call(example.note, "takes longer")
    with trio.fail_after(5):
        assert (await client.call(example.flat, 9)).number == 9


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b'{"method":"' + b"x" * 70_000, "longer than 65536"),
        (b"x" * 70_000 + b"\0", "longer than 65536"),
        (b"GET / HTTP/1.1\r\n\r\n\0", "no varlink call"),
        (b"[1]\0", "no varlink call"),
        (b"\0", "no varlink call"),
        (b'{"method":' + b"[" * 60_000 + b"\0", "no varlink call"),
        (b"\xff\xfe\0", "no varlink call"),
    ],
    ids=["endless", "long", "http", "array", "empty", "nested", "bytes"],
)
async def test_garbage_is_answered_and_ends_the_connection_alone(
    path: Path, client: Client, sent: bytes, told: str
) -> None:
    async with raw_stream(path) as stream:
        await stream.send_all(sent)
        answer = json.loads((await read_all(stream)).removesuffix(b"\0"))
    assert answer["error"] == "org.varlink.service.InvalidParameter"
    assert told in answer["parameters"]["reason"]
    assert (await client.call(example.flat, 1)).number == 1


@pytest.mark.parametrize(
    ("parameters", "item"),
    [
        (b"[]", "parameters"),
        (b'{"number":"x"}', "number"),
        (b"{}", "number"),
        (b'{"number":1,"other":2}', "other"),
        (b'{"number":1e999}', "number"),
        (b'{"number":' + b"9" * 6000 + b"}", "number"),
        (b'{"number":' + b"[" * 900 + b"]" * 900 + b"}", "number"),
        (b'{"number":1,"x":"\xff"}', "x"),
        (b'{"\xff":1}', "parameters"),
    ],
    ids=range(9),
)
async def test_wrong_parameters_are_answered_and_the_connection_lives(
    path: Path, parameters: bytes, item: str
) -> None:
    call = b'{"method":"org.example.Shop.Flat","parameters":%b}\0'
    async with raw_stream(path) as stream:
        await stream.send_all(call % parameters + call % b'{"number":5}')
        await stream.send_eof()
        first, second, _ = (await read_all(stream)).split(b"\0")
    assert json.loads(first)["error"] == "org.varlink.service.InvalidParameter"
    assert json.loads(first)["parameters"]["parameter"] == item
    assert json.loads(second)["parameters"]["number"] == 5


async def test_a_truncated_message_ends_quietly(path: Path, client: Client) -> None:
    async with raw_stream(path) as stream:
        await stream.send_all(b'{"method":"org.exa')
        await stream.send_eof()
        assert await read_all(stream) == b""
    assert (await client.call(example.flat, 1)).number == 1


async def test_too_long_calls_and_unsendable_text_leave_the_client_usable(path: Path) -> None:
    async with await connect(path, max_message=1000) as client:
        with pytest.raises(MessageTooLarge):
            await client.call(example.fail, 1, "x" * 1000)
        with pytest.raises(ValueError, match="surrogates"):
            await client.call(example.fail, 1, "\udc80")
        assert (await client.call(example.flat, 1)).number == 1


async def test_a_reply_over_the_limit_is_an_error_and_not_the_end(client: Client) -> None:
    with pytest.raises(ExampleError, match="MessageTooLarge"):
        await anext(client.stream(example.big, 1, 70_000))
    assert (await client.call(example.flat, 1)).number == 1


async def test_a_descriptor_arrives_open_and_close_on_exec(
    client: Client, open_descriptors: Callable[[], set[str]]
) -> None:
    await client.call(example.flat, 1)  # both ends of the connection are open now
    before = open_descriptors()
    size, descriptor = await client.call_with_descriptor(example.give_file, "hello")
    assert (size, os.pread(descriptor, 10, 0)) == (5, b"hello")
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    await client.call(example.flat, 1)  # after which the server has closed its own
    assert open_descriptors() <= before


async def test_no_error_leaves_a_descriptor_open(
    client: Client, open_descriptors: Callable[[], set[str]]
) -> None:
    await client.call(example.flat, 1)  # both ends of the connection are open now
    before = open_descriptors()
    for text in ("fail after opening", "unsendable"):
        with pytest.raises((ExampleError, BadReply)):
            await client.call_with_descriptor(example.give_file, text)
    await client.send_oneway(example.give_file, "for nobody")
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.call_with_descriptor(example.give_file, "never sent")
    with trio.fail_after(5):
        await client.call(example.note, "a reply, so that all before it is done")
    assert open_descriptors() <= before


async def test_a_late_reply_takes_its_descriptor_with_it(
    null: int,
    open_descriptors: Callable[[], set[str]],
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        client = Client.over(trio.socket.from_stdlib_socket(ours))
        before = open_descriptors()
        with trio.move_on_after(0.01):
            await client.call_with_descriptor(example.give_file, "late")
        socket.send_fds(theirs, [b'{"parameters":{"size":1}}\0'], [null])
        theirs.sendall(b'{"parameters":{"number":4}}\0')
        with trio.fail_after(5):
            assert (await client.call(example.flat, 4)).number == 4
        assert open_descriptors() <= before
        await client.aclose()


@pytest.mark.parametrize(
    ("reply", "count"),
    [
        (b'{"parameters":{"number":4}}\0', 1),
        (b'{"parameters":{"number":4}}\0', 9),
        (b'{"parameters":{"number":4}', 2),
        (b'{"parameters":{"number":4},"continues":true}\0', 1),
        (b"garbage\0", 1),
    ],
)
async def test_unasked_descriptors_break_the_client_and_leak_not(
    reply: bytes, count: int, null: int, open_descriptors: Callable[[], set[str]]
) -> None:
    before = open_descriptors()
    ours, theirs = socket.socketpair()
    client = Client.over(trio.socket.from_stdlib_socket(ours))
    socket.send_fds(theirs, [reply], [null] * count)
    theirs.close()
    with trio.fail_after(5), pytest.raises(RpcBroken):
        await client.call(example.flat, 4)
    assert client.is_over
    assert open_descriptors() <= before


async def test_descriptors_sent_to_the_server_are_dropped(
    path: Path, client: Client, null: int, open_descriptors: Callable[[], set[str]]
) -> None:
    await client.call(example.flat, 1)
    before = open_descriptors()
    call = b'{"method":"org.example.Shop.Flat","parameters":{"number":3}}\0'
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        socket.send_fds(sock, [call], [null] * 3)
        sock.shutdown(socket.SHUT_WR)
        await trio.lowlevel.wait_readable(sock)
        assert json.loads(sock.recv(1000)[:-1])["parameters"]["number"] == 3
    await client.call(example.note, "until the other connection is gone")
    assert open_descriptors() <= before


async def test_the_peer_is_named_by_the_kernel(client: Client, shop: Shop) -> None:
    await client.call(example.open_session)
    assert shop.callers[0].credentials == PeerCredentials(
        pid=os.getpid(),
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=tuple(os.getgroups()),
    )


async def test_who_is_not_authorized_gets_that_from_every_method(
    tmp_path: Path, shop: Shop, nursery: trio.Nursery
) -> None:
    def refuse(caller: Caller) -> None:
        raise ExampleError(0x80070005, "not in the group")

    await nursery.start(partial(serve, tmp_path / "s", shop, authorize=refuse))
    async with raw_stream(tmp_path / "s") as stream:
        for method in SHOP.methods.values():
            await stream.send_all(b'{"method":"%b"}\0' % method.qualified_name.encode())
        await stream.send_eof()
        replies = (await read_all(stream)).split(b"\0")[:-1]
    assert len(replies) == len(SHOP.methods)
    assert {json.loads(reply)["parameters"]["hresult"] for reply in replies} == {0x80070005}
    assert not shop.callers


async def test_one_user_gets_only_so_many_connections(
    tmp_path: Path, shop: Shop, nursery: trio.Nursery
) -> None:
    await nursery.start(partial(serve, tmp_path / "s", shop, connections_per_user=1))
    async with await connect(tmp_path / "s") as first:
        await first.call(example.flat, 1)
        async with await connect(tmp_path / "s") as second:
            with trio.fail_after(5), pytest.raises(RpcBroken, match="peer"):
                await second.call(example.flat, 1)
    with trio.fail_after(5):
        while True:
            async with await connect(tmp_path / "s") as third:
                try:
                    assert (await third.call(example.flat, 3)).number == 3
                    break
                except RpcBroken:
                    await trio.sleep(0.01)


async def test_a_callback_that_hangs_or_fails_does_not_stop_the_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    caller = Caller(PeerCredentials(pid=1, uid=0, gid=0, groups=()))
    ran = []

    async def good() -> None:
        ran.append(trio.current_time())

    async def bad() -> None:
        raise ZeroDivisionError

    for callback in (good, bad, trio.sleep_forever, good):
        caller.on_close(callback)
    start = trio.current_time()
    with structlog.testing.capture_logs() as logs, trio.CancelScope() as scope:
        scope.cancel()
        await caller.run_callbacks(30)
    assert [moment - start for moment in ran] == [0, 30]
    assert [log["event"] for log in logs] == ["on_close_timed_out", "on_close_failed"]


class Lacking:
    pass


class Plain(Shop):
    def flat(self, caller: Caller, number: int) -> None:  # type: ignore[override]
        """Not async."""


class Renamed(Shop):
    async def flat(self, caller: Caller, count: int) -> None:  # type: ignore[override]
        """Another name."""


class Callerless(Shop):
    async def flat(self, number: int) -> None:  # type: ignore[override]
        """No caller."""


class Replyless(Shop):
    async def prompts(self, caller: Caller, number: int) -> None:  # type: ignore[override]
        """No reply."""


@pytest.mark.parametrize(
    ("implementation", "text"),
    [
        (Lacking, r"Lacking\.open_session is missing; org\.example\.Shop\.OpenSession"),
        (Plain, r"Plain\.flat must be an async"),
        (Renamed, r"missing \['number'\], undeclared \['count'\]"),
        (Callerless, "the first parameter must be `caller`"),
        (Replyless, r"missing \['reply'\]"),
    ],
)
async def test_an_implementation_that_does_not_fit_stops_the_start(
    tmp_path: Path, implementation: type, text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        await serve(tmp_path / "s", implementation())
    assert names_in(tmp_path) == []


async def test_the_socket_file_comes_with_its_mode_and_goes_with_the_service(
    tmp_path: Path, shop: Shop
) -> None:
    where = tmp_path / "s"
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, where, shop, mode=0o640))
        assert mode_of(where) == 0o640
        with pytest.raises(OSError, match="listening there already"):
            await serve(where, shop)
        nursery.cancel_scope.cancel()
    assert names_in(tmp_path) == []


def test_a_dead_socket_file_is_replaced_and_another_file_is_not(tmp_path: Path) -> None:
    where = tmp_path / "s"
    listen_unix(where).close()
    assert where.is_socket()
    with listen_unix(where), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(where))
    where.unlink()
    where.write_text("precious")
    with pytest.raises(FileExistsError, match="no socket is in the way"):
        listen_unix(where)
    assert where.read_text() == "precious"
    with pytest.raises(OSError, match="at most 107 bytes") as caught:
        listen_unix(tmp_path / ("x" * 200))
    assert caught.value.filename.endswith("xxx")
    assert sorted(tmp_path.iterdir()) == [where]


def test_inherited_sockets_are_for_the_process_they_were_passed_to() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "HOME": "/"}
    assert listen_fds(environment) == []
    assert environment == {"HOME": "/"}


async def test_connecting_to_nothing_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await connect(tmp_path / "nothing")
    assert caught.value.filename == str(tmp_path / "nothing")


async def test_a_reply_that_nobody_asked_for_breaks_the_client() -> None:
    ours, theirs = socket.socketpair()
    client = Client.over(trio.socket.from_stdlib_socket(ours))
    with theirs:
        theirs.sendall(b'{"parameters":{"number":4}}\0' * 2)
        assert (await client.call(example.flat, 4)).number == 4
        with pytest.raises(RpcBroken, match="nobody waits for"):
            await client.call(example.flat, 5)
    await client.aclose()


async def test_a_client_tells_which_side_closed(path: Path) -> None:
    client = await connect(path, decode_error=decode_error)
    await client.aclose()
    with pytest.raises(RpcClosed):
        await client.call(example.flat, 1)
    ours, theirs = socket.socketpair()
    broken = Client.over(trio.socket.from_stdlib_socket(ours))
    theirs.close()
    for _ in range(2):
        with pytest.raises(RpcBroken, match="the peer closed"):
            await broken.call(example.flat, 1)
