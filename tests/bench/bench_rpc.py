"""What a call costs: `python -m tests.bench.bench_rpc`.

The service runs in this process's trio loop, the blocking client in a thread of it, so both
sides of a call share the interpreter: what two processes reach is more.
"""

import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from tests.bench.figures import Row, show
from tests.unit.rpc import example
from tests.unit.rpc.example import Shop, serve
from vssemu.rpc import client as blocking
from vssemu.rpc import client_trio

CALLS = 5_000
CLIENTS = 4


def told(what: str, count: int, start: float) -> Row:
    seconds = time.perf_counter() - start
    each = f"{seconds / count * 1e6:,.1f} us each"
    return Row(name=what, figure=f"{count / seconds:,.0f}/s", against=each)


async def call_often(client: client_trio.Client) -> None:
    for number in range(CALLS):
        await client.call(example.flat, number)


def call_often_blocking(path: Path) -> Row:
    with blocking.connect(path) as client:
        start = time.perf_counter()
        for number in range(CALLS):
            client.call(example.flat, number)
        return told("blocking client, one at a time", CALLS, start)


def rows() -> Sequence[Row]:
    """Measure; return the rows."""
    return trio.run(_measure)


async def _measure() -> list[Row]:
    found = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "s")
        async with trio.open_nursery() as services:
            await services.start(partial(serve, path, Shop()))
            async with await client_trio.connect(path) as client:
                start = time.perf_counter()
                await call_often(client)
                found.append(told("trio client, one at a time", CALLS, start))
                start = time.perf_counter()
                async with trio.open_nursery() as nursery:
                    for _ in range(CLIENTS):
                        nursery.start_soon(call_often, await client_trio.connect(path))
                found.append(told(f"{CLIENTS} trio clients at once", CLIENTS * CALLS, start))
                start = time.perf_counter()
                async for _ in client.stream(example.big, CALLS, 100):
                    pass
                found.append(told("elements of a stream", CALLS, start))
                start = time.perf_counter()
                async for _ in client.stream(example.big, 20, 10_000_000):
                    pass
                found.append(told("elements of 10 MB", 20, start))
            found.append(await trio.to_thread.run_sync(call_often_blocking, path))
            services.cancel_scope.cancel()
    return found


if __name__ == "__main__":
    show("Calls", rows())
