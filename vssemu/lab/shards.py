"""Shards of the cow engine that hang: started anew, which nobody who waits for them notices.

Who waits for a disk that does not answer cannot be killed. So before processes are to end, a
shard that does not answer is killed; its supervisor starts the next one, which goes on with
what was asked of it.
"""

from collections.abc import Sequence

from vssemu.api import shard as api
from vssemu.api.errors import decode_error
from vssemu.lab import hosts, supervisor
from vssemu.lab.paths import LabPaths
from vssemu.rpc import client as rpc
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import Fail

ANSWER_SECONDS = 3.0
"""How long a shard may take to answer a call that does nothing."""

START_SECONDS = 20.0


def revive(paths: LabPaths) -> Sequence[str]:
    """Start the shards anew that hang; return their names. Raises Fail for one that stays away.

    A lab without a supervisor has none that can be started.
    """
    control = paths.supervisor_socket
    try:
        services = supervisor.services(control)
    except supervisor.SupervisorGone:
        return ()
    hung = [
        name
        for name, facts in services.items()
        if hosts.is_shard(name) and facts["ready"] and _hangs(paths, name)
    ]
    for name in hung:
        supervisor.request(control, {"op": "kill", "name": name, "restart": True})
    for name in hung:
        supervisor.wait_ready(control, name, seconds=START_SECONDS)
    return hung


def _hangs(paths: LabPaths, name: str) -> bool:
    path = paths.shards / f"{name}.sock"
    try:
        with rpc.connect(path, decode_error=decode_error, timeout=ANSWER_SECONDS) as client:
            client.call(api.invalid)
    except TimeoutError:
        return True
    except (OSError, RpcError, Fail):
        # It is being started, or does not serve a pool yet: it answers, or will.
        return False
    return False
