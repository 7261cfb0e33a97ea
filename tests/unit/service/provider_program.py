"""A provider in a process of its own, started by socket activation, misbehaving on demand.

What it does in CommitSnapshots stands in the environment: VSSEMU_WAY.
"""

import os
import signal
from typing import Any

import trio

from vssemu.api import provider as table
from vssemu.api.errors import encode_error
from vssemu.rpc.listening import listen_fds
from vssemu.rpc.server import serve_unix
from vssemu.vss.provider import Supported


class Program:
    async def on_load(self, caller: Any, host: Any, config: Any) -> None:
        self.machine = host.machine
        assert config == {"way": os.environ["VSSEMU_WAY"]}

    async def on_unload(self, caller: Any, force: Any) -> Any:
        return force

    async def are_luns_supported(self, caller: Any, context: Any, luns: Any) -> Any:
        return Supported(supported=True, luns=tuple(luns))

    async def begin_prepare_snapshot(
        self, caller: Any, set_id: Any, snapshot_id: Any, context: Any, luns: Any
    ) -> Any:
        return luns

    async def end_prepare_snapshots(self, caller: Any, set_id: Any) -> None:
        await trio.sleep_forever()

    async def pre_commit_snapshots(self, caller: Any, set_id: Any) -> None: ...

    async def commit_snapshots(self, caller: Any, set_id: Any) -> None:
        way = os.environ["VSSEMU_WAY"]
        if way == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif way == "hang":
            signal.pause()

    async def post_commit_snapshots(self, caller: Any, set_id: Any, count: Any) -> None: ...
    async def pre_final_commit_snapshots(self, caller: Any, set_id: Any) -> None: ...
    async def post_final_commit_snapshots(self, caller: Any, set_id: Any) -> None: ...
    async def abort_snapshots(self, caller: Any, set_id: Any) -> None: ...

    async def get_target_luns(self, caller: Any, sources: Any) -> Any:
        return [lun.information for lun in sources]

    async def locate_luns(self, caller: Any, luns: Any) -> None: ...

    async def fill_in_lun_info(self, caller: Any, lun: Any) -> Any:
        return Supported(supported=False, luns=())

    async def on_lun_empty(self, caller: Any, lun: Any) -> None: ...
    async def on_lun_state_change(
        self, caller: Any, snapshots: Any, originals: Any, flags: Any
    ) -> None: ...
    async def resync_luns(self, caller: Any, sources: Any, targets: Any, reply: Any) -> None: ...


async def main() -> None:
    (sock,) = listen_fds()
    await serve_unix(
        sock,
        {table.provider: Program()},
        vendor="t",
        product="t",
        version="1",
        url="",
        encode_error=encode_error,
    )


trio.run(main)
