"""An interface that uses every feature, and its implementation, for the tests of this room."""

import dataclasses
import enum
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NewType
from uuid import UUID

import trio

from vssemu.rpc.caller import Caller
from vssemu.rpc.dispatch import Authorize
from vssemu.rpc.interface import Declared, Interface
from vssemu.rpc.protocol import MAX_MESSAGE
from vssemu.rpc.server import serve_unix

CopyId = NewType("CopyId", UUID)


class Mask(enum.IntFlag):
    ONE = 1
    TWO = 2
    HIGH = 1 << 62


class Kind(enum.Enum):
    BASE = "base"
    PLEX = "plex"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """Something inside."""

    number: int
    text: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Everything:
    flag: bool
    number: int
    ratio: float
    text: str
    raw: bytes
    guid: UUID
    copy_id: CopyId
    mask: Mask
    kind: Kind
    inner: Inner
    many: list[Inner]
    pair: tuple[int, ...]
    table: dict[str, Inner]
    maybe: CopyId | None = None


SHOP = Interface("org.example.Shop", "Sells copies.\n\nTo everybody.", scope=("session", str))


@SHOP.method(scoped=False, returns="session")
def open_session() -> str:
    """Open a session that ends with the connection."""
    raise Declared


@SHOP.method(returns="answer")
def add(volume: str, mask: Mask = Mask.ONE, provider: CopyId | None = None) -> str:
    """Add a volume."""
    raise Declared


@SHOP.method(scoped=False, returns="record")
def echo(record: Everything) -> Everything:
    raise Declared


@SHOP.method(scoped=False)
def flat(number: int) -> Inner:
    raise Declared


@SHOP.method(scoped=False)
def fail(code: int, fact: str) -> None:
    raise Declared


@SHOP.method(scoped=False)
def crash() -> None:
    raise Declared


@SHOP.method(scoped=False, more=True, returns="number")
def count(up_to: int, last: bool = False) -> int:
    """Stream the numbers 1 to up_to. last: the last one travels in the last reply."""
    raise Declared


@SHOP.method(scoped=False, more=True)
def prompts(number: int) -> None:
    raise Declared


@SHOP.method(scoped=False, more=True, returns="text")
def big(number: int, size: int) -> str:
    raise Declared


@SHOP.method(scoped=False)
def hang() -> None:
    raise Declared


@SHOP.method(scoped=False)
def note(text: str) -> None:
    raise Declared


@SHOP.method(operation=True)
def do_snapshot_set() -> None:
    raise Declared


@SHOP.method(scoped=False, sends_descriptor=True, returns="size")
def give_file(text: str) -> int:
    raise Declared


class ExampleError(Exception):
    def __init__(self, code: int, fact: str) -> None:
        super().__init__(code, fact)
        self.code = code
        self.fact = fact


def encode_error(error: Exception) -> dict[str, Any] | None:
    if not isinstance(error, ExampleError):
        return None
    return {
        "hresult": error.code,
        "name": "EXAMPLE",
        "fact": error.fact,
        "hint": None,
        "item": None,
    }


def decode_error(parameters: dict[str, Any]) -> Exception:
    return ExampleError(parameters["hresult"], parameters["fact"])


class Shop:
    """Records what happened to it in events that tests wait for."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.hanging = trio.Event()
        self.hang_cancelled = trio.Event()
        self.closed = trio.Event()
        self.noted = trio.Event()
        self.notes: list[str] = []
        self.sent = 0

    async def open_session(self, caller: Caller) -> str:
        async def close() -> None:
            await trio.lowlevel.checkpoint()
            self.closed.set()

        self.callers.append(caller)
        caller.on_close(close)
        return f"session-{len(self.callers)}"

    async def add(
        self, caller: Caller, session: str, volume: str, mask: Mask, provider: CopyId | None
    ) -> str:
        return f"{session} {volume} {mask!r} {provider}"

    async def echo(self, caller: Caller, record: Everything) -> Everything:
        return record

    async def flat(self, caller: Caller, number: int) -> Inner:
        return Inner(number=number, text="flat")

    async def fail(self, caller: Caller, code: int, fact: str) -> None:
        raise ExampleError(code, fact)

    async def crash(self, caller: Caller) -> None:
        raise ZeroDivisionError("a bug \udc80")

    async def count(
        self,
        caller: Caller,
        up_to: int,
        last: bool,
        *,
        reply: Callable[[int], Awaitable[None]],
    ) -> int | None:
        for number in range(1, up_to + (not last)):
            await reply(number)
            if number == 1000:
                raise ExampleError(7, "too many")
        return up_to if last else None

    async def prompts(
        self, caller: Caller, number: int, *, reply: Callable[[None], Awaitable[None]]
    ) -> None:
        for _ in range(number):
            await reply(None)

    async def big(
        self, caller: Caller, number: int, size: int, *, reply: Callable[[str], Awaitable[None]]
    ) -> None:
        for _ in range(number):
            await reply("x" * size)
            self.sent += 1

    async def hang(self, caller: Caller) -> None:
        self.hanging.set()
        try:
            await trio.sleep_forever()
        finally:
            self.hang_cancelled.set()

    async def note(self, caller: Caller, text: str) -> None:
        await trio.sleep(0.05)
        self.notes.append(text)
        self.noted.set()

    async def do_snapshot_set(self, caller: Caller, session: str) -> str:
        return f"operation of {session}"

    async def give_file(self, caller: Caller, text: str) -> tuple[int, int]:
        with tempfile.TemporaryFile() as file:
            file.write(text.encode())
            file.flush()
            descriptor = os.dup(file.fileno())
        if text == "fail after opening":
            os.close(descriptor)
            raise ExampleError(1, text)
        if text == "unsendable":
            return "\udc80", descriptor  # type: ignore[return-value]
        return len(text), descriptor


async def serve(
    where: str | Path | socket.socket,
    shop: object,
    *,
    authorize: Authorize | None = None,
    mode: int = 0o666,
    max_message: int = MAX_MESSAGE,
    connections_per_user: int = 100,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    await serve_unix(
        where,
        {SHOP: shop},
        vendor="v",
        product="p",
        version="1",
        url="https://example.org",
        encode_error=encode_error,
        authorize=authorize,
        mode=mode,
        max_message=max_message,
        connections_per_user=connections_per_user,
        task_status=task_status,
    )
