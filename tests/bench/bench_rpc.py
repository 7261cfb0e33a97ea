"""Print what a call costs: `python -m tests.bench.bench_rpc`.

The service runs in this process's trio loop, the blocking client in a thread of it, so both
sides of a call share the interpreter: what two processes reach is more.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import trio

from tests.unit.rpc import example
from tests.unit.rpc.example import Shop, serve
from vssemu.rpc import client as blocking
from vssemu.rpc import client_trio

CALLS = 5_000
CLIENTS = 4


def tell(what: str, count: int, start: float) -> None:
    seconds = time.perf_counter() - start
    print(f"{what:40} {count / seconds:10,.0f}/s {seconds / count * 1e6:8.1f} us")


async def call_often(client: client_trio.Client) -> None:
    for number in range(CALLS):
        await client.call(example.flat, number)


def call_often_blocking(path: Path) -> None:
    with blocking.connect(path) as client:
        start = time.perf_counter()
        for number in range(CALLS):
            client.call(example.flat, number)
        tell("blocking client, one at a time", CALLS, start)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "s")
        async with trio.open_nursery() as services:
            await services.start(partial(serve, path, Shop()))
            async with await client_trio.connect(path) as client:
                start = time.perf_counter()
                await call_often(client)
                tell("trio client, one at a time", CALLS, start)
                start = time.perf_counter()
                async with trio.open_nursery() as nursery:
                    for _ in range(CLIENTS):
                        nursery.start_soon(call_often, await client_trio.connect(path))
                tell(f"{CLIENTS} trio clients at once", CLIENTS * CALLS, start)
                start = time.perf_counter()
                async for _ in client.stream(example.big, CALLS, 100):
                    pass
                tell("elements of a stream", CALLS, start)
                start = time.perf_counter()
                async for _ in client.stream(example.big, 20, 10_000_000):
                    pass
                tell("elements of 10 MB", 20, start)
            await trio.to_thread.run_sync(call_often_blocking, path)
            services.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
