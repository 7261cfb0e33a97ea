"""A provider in a process of its own, started by socket activation, misbehaving on demand.

What it does in CommitSnapshots stands in the environment: VSSEMU_WAY.
"""

import os
import signal

import trio

from vssemu.api import provider as table
from vssemu.api.errors import encode_error
from vssemu.rpc.listening import listen_fds
from vssemu.rpc.server import serve_unix
from vssemu.vss.provider import Supported


class Program:
    async def on_load(self, caller, host, config):
        self.machine = host.machine
        assert config == {"way": os.environ["VSSEMU_WAY"]}

    async def on_unload(self, caller, force):
        return force

    async def are_luns_supported(self, caller, context, luns):
        return Supported(supported=True, luns=tuple(luns))

    async def begin_prepare_snapshot(self, caller, set_id, snapshot_id, context, luns):
        return luns

    async def end_prepare_snapshots(self, caller, set_id):
        await trio.sleep_forever()

    async def pre_commit_snapshots(self, caller, set_id): ...

    async def commit_snapshots(self, caller, set_id):
        way = os.environ["VSSEMU_WAY"]
        if way == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif way == "hang":
            signal.pause()

    async def post_commit_snapshots(self, caller, set_id, count): ...
    async def pre_final_commit_snapshots(self, caller, set_id): ...
    async def post_final_commit_snapshots(self, caller, set_id): ...
    async def abort_snapshots(self, caller, set_id): ...

    async def get_target_luns(self, caller, sources):
        return [lun.information for lun in sources]

    async def locate_luns(self, caller, luns): ...

    async def fill_in_lun_info(self, caller, lun):
        return Supported(supported=False, luns=())

    async def on_lun_empty(self, caller, lun): ...
    async def on_lun_state_change(self, caller, snapshots, originals, flags): ...
    async def resync_luns(self, caller, sources, targets, reply): ...


async def main():
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
