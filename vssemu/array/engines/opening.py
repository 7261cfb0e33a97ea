"""The engine of an array, by its name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from vssemu.array.core import ScratchEngine
from vssemu.array.engines.cow.engine import CowEngine
from vssemu.array.engines.reflink.engine import ReflinkEngine
from vssemu.array.pool import Pool
from vssemu.vss.errors import InvalidArgument

REFLINK: Final = "reflink"
COW: Final = "cow"
ENGINES: Final = (REFLINK, COW)


@asynccontextmanager
async def open_engine(
    name: str, pool: Pool, shards: Path | None = None
) -> AsyncIterator[ScratchEngine]:
    """Open an engine over a pool during the block.

    shards: directory of the sockets of lunfs, for cow. Raises InvalidArgument for a name that
    is no engine's, or cow without shards; Fail when a shard does not answer.
    """
    if name == REFLINK:
        reflink = ReflinkEngine(pool.luns)
        try:
            yield reflink
        finally:
            reflink.close()
        return
    if name != COW:
        raise InvalidArgument(f"{name!r} is no engine", item=name, hint=", ".join(ENGINES))
    if shards is None:
        raise InvalidArgument("the engine cow wants --shards DIR", item=name)
    cow = CowEngine(pool.luns, shards)
    try:
        await cow.open()
        yield cow
    finally:
        with trio.CancelScope(shield=True):
            await cow.aclose()
