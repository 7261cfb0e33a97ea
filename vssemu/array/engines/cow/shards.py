"""The lunfs processes of an array, and calls to them.

    DIR/lunfs-0.sock     shard 0: io.vssemu.array.Shard; lunfs-1.sock the next, without gaps

A shard is restarted by its supervisor when it dies, and goes on with its mount and its chains.
Whoever calls does not notice: a call whose answer was lost is made again. A shard that does
not answer fails the call, by name, and nothing waits for it for ever.
"""

import errno
import math
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import structlog
import trio

from vssemu.api import shard as api
from vssemu.api.errors import decode_error
from vssemu.linux import statx
from vssemu.rpc import client, client_trio
from vssemu.rpc.errors import RpcBroken, RpcError
from vssemu.rpc.interface import Method
from vssemu.vss.errors import Fail, ObjectNotFound
from vssemu.vss.identity import LunId

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

RESTART_SECONDS: Final = 15.0
"""How long a shard may be away, as it is while it is restarted, and start with large stores."""

ANSWER_SECONDS: Final = 30.0
"""How long a call may take."""

LONG_SECONDS: Final = 1800.0
"""How long the removal of a snapshot may take, which copies what its elders need."""

SILENCE_SECONDS: Final = 10.0
"""How long a shard that is at work on a long call may not answer another one."""

HASTE_SECONDS: Final = 2.0
"""How long a shard may take to answer who can do without."""

SHUNNED_SECONDS: Final = 5.0
"""How long a shard that did not answer in haste is not asked in haste again."""

_RETRY_SECONDS: Final = 0.02
_THREADS: Final = 8
"""Threads in which files of a shard are opened: all that it can keep waiting."""
_AWAY: Final = (ConnectionRefusedError, FileNotFoundError, ConnectionResetError)

P = ParamSpec("P")
R = TypeVar("R")


class Shard:
    """One lunfs of `count`. luns: descriptor of the directory of the LUNs' directories.

    names: the nodes of its chains.
    """

    def __init__(self, path: Path, number: int, count: int, luns: int) -> None:
        self.number = number
        self._count = count
        self.names: set[LunId] = set()
        self._path = path
        self._luns = luns
        self._mount = -1
        self._idle: list[client_trio.Client] = []
        self._threads = trio.CapacityLimiter(_THREADS)
        self._shunned_until = -math.inf

    @property
    def mount(self) -> int:
        """The descriptor of its mount."""
        assert self._mount >= 0, "the shard was not opened"
        return self._mount

    async def open(self) -> None:
        """Have it serve the pool. Raises VssError."""
        with self.limited("Mount", ANSWER_SECONDS):
            connection = await self._connected()
        self._idle.append(connection)

    async def aclose(self) -> None:
        """Close all connections and the mount."""
        while self._idle:
            await self._idle.pop().aclose()
        if self._mount >= 0:
            os.close(self._mount)
            self._mount = -1

    async def call(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method. Raises VssError; FileNotFoundError for a LUN that is not there."""
        with self.limited(method.name, ANSWER_SECONDS), _missing():
            return await self._patiently(method, *args, **kwargs)

    async def call_in_haste(
        self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R | None:
        """As `call`; None of a shard that does not answer, or did not a moment ago."""
        if trio.current_time() < self._shunned_until:
            return None
        with trio.move_on_after(HASTE_SECONDS):
            return await self.call(method, *args, **kwargs)
        self._shunned_until = trio.current_time() + SHUNNED_SECONDS
        return None

    async def call_long(self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `call`, for what may take long while the shard lives; asked for again meanwhile."""
        with self.limited(method.name, LONG_SECONDS), _missing():
            while True:
                with trio.move_on_after(SILENCE_SECONDS):
                    return await self._patiently(method, *args, **kwargs)
                with self.limited(method.name, ANSWER_SECONDS):
                    await self._patiently(api.invalid)

    async def _patiently(self, method: Method[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        while True:
            try:
                async with self._lent() as connection:
                    return await connection.call(method, *args, **kwargs)
            except RpcBroken as broken:
                logger.warning("shard_went_away", shard=self.number, reason=str(broken))
            await trio.sleep(_RETRY_SECONDS)

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[client_trio.Client]:
        """Give a connection that nobody else uses; it is closed when it was left in a call."""
        while self._idle and self._idle[-1].is_over:
            self._idle.pop()
        connection = self._idle.pop() if self._idle else await self._connected()
        try:
            yield connection
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await connection.aclose()
            raise
        finally:
            if not connection.is_over:
                self._idle.append(connection)

    async def _connected(self) -> client_trio.Client:
        """Connect, waiting for a shard that is being restarted, and say what it is to serve."""
        deadline = trio.current_time() + RESTART_SECONDS
        while True:
            try:
                return await self._introduced()
            except (*_AWAY, RpcBroken) as error:
                if trio.current_time() >= deadline:
                    raise Fail(
                        f"{self.describe()} is not there: {error}",
                        item=str(self._path),
                        hint="see its log; its supervisor restarts it",
                    ) from error
            await trio.sleep(_RETRY_SECONDS)

    async def _introduced(self) -> client_trio.Client:
        connection = await client_trio.connect(self._path, decode_error=decode_error)
        try:
            number, descriptor = await connection.call_with_descriptor(api.mount)
            if number != self.number:
                os.close(descriptor)
                raise Fail(
                    f"{self._path} is shard {number}, not {self.number}", item=str(self._path)
                )
            self._take_mount(descriptor)
            before = set(self.names)
            served = await connection.call(api.serve, os.getpid(), self._luns, self._count)
        except BaseException:
            with trio.CancelScope(shield=True):
                await connection.aclose()
            raise
        # Over other connections nodes may have come and gone since it looked.
        self.names = (set(served) | (self.names - before)) - (before - self.names)
        return connection

    def _take_mount(self, descriptor: int) -> None:
        """Keep the descriptor of the mount, unless it is the one that is there."""
        if self._mount < 0:
            self._mount = descriptor
        elif statx.identity(self._mount)[0] == statx.identity(descriptor)[0]:
            os.close(descriptor)
        else:
            # Nobody kept what it had: its LUNs are gone from the hosts that had them.
            logger.error("shard_lost_its_mount", shard=self.number)
            os.dup2(descriptor, self._mount, inheritable=False)
            os.close(descriptor)

    async def in_thread(self, work: Callable[..., R], *args: object) -> R:
        """Do what blocks as long as the shard does; it is left to itself after the limit.

        Raises what it raises; Fail.
        """
        with self.limited("Open", ANSWER_SECONDS):
            return await trio.to_thread.run_sync(
                work, *args, limiter=self._threads, abandon_on_cancel=True
            )

    def connect(self, seconds: float) -> client.Client:
        """Return a blocking connection, each of whose calls may take so long. Raises OSError."""
        return client.connect(self._path, decode_error=decode_error, timeout=seconds)

    def describe(self) -> str:
        """Return its name for messages."""
        return f"shard {self.number} ({self._path})"

    @contextmanager
    def limited(self, what: str, seconds: float) -> Iterator[None]:
        """Have what is done with the shard in the block take no longer. Raises Fail."""
        try:
            with trio.fail_after(seconds):
                yield
        except trio.TooSlowError as error:
            raise Fail(
                f"{self.describe()} does not answer: {what} took more than {seconds:g} s",
                item=str(self._path),
                hint="see its log",
            ) from error
        except RpcError as error:
            raise Fail(
                f"{self.describe()} refused {what}: {error}", item=str(self._path)
            ) from error


@contextmanager
def _missing() -> Iterator[None]:
    """Say of a LUN that is not there what a file system says of a file."""
    try:
        yield
    except ObjectNotFound as error:
        raise FileNotFoundError(errno.ENOENT, error.fact, error.item) from error


class Shards:
    """All shards of an array. luns: the directory of the LUNs' directories."""

    def __init__(self, directory: Path, luns: Path) -> None:
        self._luns = os.open(luns, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        count = 0
        while _socket(directory, count).exists():
            count += 1
        self.all = [
            Shard(_socket(directory, number), number, count, self._luns) for number in range(count)
        ]

    async def open(self) -> None:
        """Have all shards serve the pool. Raises VssError."""
        for shard in self.all:
            await shard.open()

    async def aclose(self) -> None:
        """Close what is open."""
        for shard in self.all:
            await shard.aclose()
        os.close(self._luns)

    async def emptiest(self) -> Shard:
        """Return the shard with the fewest LUNs, of those that answer if any does."""
        ranked = sorted(self.all, key=lambda shard: len(shard.names))
        for shard in ranked:
            if await shard.call_in_haste(api.invalid) is not None:
                return shard
        return ranked[0]

    def find(self, name: LunId) -> Shard | None:
        """Return the shard that serves a node."""
        return next((shard for shard in self.all if name in shard.names), None)

    def of(self, name: LunId) -> Shard:
        """Return the shard that serves a node. Raises FileNotFoundError."""
        shard = self.find(name)
        if shard is None:
            raise FileNotFoundError(errno.ENOENT, "no shard serves it", name)
        return shard


def _socket(directory: Path, number: int) -> Path:
    return directory / f"lunfs-{number}.sock"
