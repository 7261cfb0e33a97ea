"""The control socket of a shard: io.vssemu.array.Shard and .Faults, for root alone.

An OSError of the pool becomes a VssError here. What lasts is done beside the requests, and
goes on to its end although the caller hangs up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from vssemu.api import shard as api
from vssemu.api.errors import encode_error, unexpected
from vssemu.api.lunfaults import lun_faults
from vssemu.rpc.caller import Caller
from vssemu.rpc.server import serve_unix
from vssemu.vss.engine import CopyPair, Usage
from vssemu.vss.identity import LunId
from vssemu.vss.storage import storage_failure
from vssemu_fuse.lunfs.control.faults import FaultControl
from vssemu_fuse.lunfs.shard.shard import Shard


class Control:
    """Implements `vssemu.api.shard`. mounted: the descriptor of the mount, the caller's.

    keep_pool: called with the descriptor of the pool's directory, once it is served.
    """

    def __init__(self, shard: Shard, mounted: int, keep_pool: Callable[[int], None]) -> None:
        self._shard = shard
        self._mounted = mounted
        self._keep_pool = keep_pool

    async def mount(self, caller: Caller) -> tuple[int, int]:
        """Hand the mount out."""
        return self._shard.chains.number, os.dup(self._mounted)

    async def serve(
        self, caller: Caller, pid: int, descriptor: int, shards: int | None
    ) -> list[LunId]:
        """Serve a pool."""
        with _storage("serve the pool of process", str(pid)):
            directory = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDONLY | os.O_DIRECTORY)
            if self._shard.chains.serve(directory, shards):
                self._keep_pool(directory)
        return self._shard.chains.luns

    async def create(self, caller: Caller, lun: LunId, size: int) -> None:
        """Make an origin."""
        with _storage("create", lun):
            await self._shard.create(lun, size)

    async def adopt(self, caller: Caller, origin: LunId, snapshot: LunId) -> None:
        """Take over files that were put there."""
        with _storage("take over", origin):
            await self._shard.adopt(origin, snapshot)

    async def extend(self, caller: Caller, lun: LunId, size: int) -> None:
        """Grow an origin."""
        with _storage("extend", lun):
            await self._shard.extend(lun, size)

    async def remove(self, caller: Caller, lun: LunId) -> None:
        """Remove a node."""
        with _storage("remove", lun):
            await self._shard.remove(lun)

    async def prepare(self, caller: Caller, pairs: list[CopyPair], limit: int | None) -> None:
        """Make stores."""
        with _storage("prepare copies of", ", ".join(pair.source for pair in pairs)):
            await self._shard.prepare(pairs, limit)

    async def commit(self, caller: Caller, pairs: list[CopyPair]) -> list[int]:
        """Take snapshots."""
        with _storage("copy", ", ".join(pair.source for pair in pairs)):
            return await self._shard.commit(pairs)

    async def settle(self, caller: Caller, targets: list[LunId]) -> None:
        """Make snapshots durable."""
        with _storage("settle", ", ".join(targets)):
            await self._shard.settle(targets)

    async def abort(self, caller: Caller, targets: list[LunId]) -> None:
        """Remove snapshots that were prepared."""
        with _storage("abort", ", ".join(targets)):
            await self._shard.abort(targets)

    async def hold(self, caller: Caller, luns: list[LunId], seconds: float) -> None:
        """Hold writes."""
        with _storage("hold", ", ".join(luns)):
            await self._shard.hold(luns, seconds)

    async def release(self, caller: Caller, luns: list[LunId]) -> bool:
        """End a hold."""
        return self._shard.release(luns)

    async def empty(self, caller: Caller, lun: LunId) -> None:
        """End a snapshot."""
        with _storage("empty", lun):
            await self._shard.empty(lun)

    async def usage(self, caller: Caller, lun: LunId) -> Usage:
        """Tell sizes."""
        with _storage("look at", lun):
            return self._shard.facts.usage(lun)

    async def invalid(self, caller: Caller) -> list[LunId]:
        """Tell what was lost."""
        return self._shard.facts.invalid()

    async def facts(self, caller: Caller, lun: LunId) -> api.ChainFacts:
        """Tell what is known of a node."""
        return self._shard.facts.facts(lun)

    async def changed(self, caller: Caller, lun: LunId, start: int, own: bool) -> list[api.Run]:
        """Tell where a view differs."""
        return self._shard.facts.changed(lun, start, own=own)


async def serve_control(
    path: Path,
    control: Control,
    faults: FaultControl,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a shard's socket until cancelled; started when it listens."""
    await serve_unix(
        path,
        {api.shard: control, lun_faults: faults},
        vendor="vssemu",
        product="lunfs",
        # arrayd, its one caller, is of the same version; to find it takes a fifth of the start.
        version="",
        url="https://learn.microsoft.com/windows/win32/vss/",
        encode_error=encode_error,
        unexpected=unexpected,
        mode=0o600,
        task_status=task_status,
    )


@contextmanager
def _storage(what: str, item: str) -> Iterator[None]:
    """Turn an OSError into a VssError about `item`."""
    try:
        yield
    except OSError as error:
        raise storage_failure(what, item, error, log="the log of lunfs") from error
