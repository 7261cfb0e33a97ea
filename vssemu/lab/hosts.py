"""The services of a lab: tables for the lab's supervisor and for each host's PID 1."""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid5

import msgspec

from vssemu.api.registry import register_provider
from vssemu.lab.config import COW, LabConfig
from vssemu.lab.namespace_host import HostSpec
from vssemu.lab.paths import LABS, LabPaths
from vssemu.rpc import client as rpc
from vssemu.vss.enums import ProviderType
from vssemu.vss.identity import ARRAY_PROVIDER_ID

ARRAY = "arrayd"
_SHARD = "lunfs-"
VSSD = "vssd"
DEVICEFS = "devicefs"
MOST_SHARDS = 4
"""More processors than these serve somebody else: the hosts, say."""
KEPT_BY_SHARD = 8
"""What the supervisor keeps for a shard: its connection, its mount, the pool's directory."""
SHARD_NICE = -15
"""As it gives itself: while it starts, too, nobody's disk waits behind those who wait for it."""
KEPT_DESCRIPTORS = 1024
"""What PID 1 keeps for devicefs: its connection to the kernel, and a device for each copy."""
INIT_SOCKET = "/run/vssemu/init.sock"
"""Control socket of a host's PID 1, as the host sees it."""


def guard_name(host: str) -> str:
    """Return the name of a host's holdguard among the supervisor's services."""
    return f"holdguard-{host}"


def shard_name(number: int) -> str:
    """Return the name of a shard of the cow engine among the supervisor's services."""
    return f"{_SHARD}{number}"


def is_shard(service: str) -> bool:
    """Tell whether a service of the supervisor is a shard of the cow engine."""
    return service.startswith(_SHARD)


def shard_names(config: LabConfig) -> list[str]:
    """Return the names of all shards of a lab, by number; none without the cow engine.

    There is one for each processor that the lab may use, and at most MOST_SHARDS.
    """
    if config.engine != COW:
        return []
    count = min(len(os.sched_getaffinity(0)), MOST_SHARDS)
    return [shard_name(number) for number in range(count)]


def host_name(host: str) -> str:
    """Return the name of a host among the supervisor's services."""
    return f"host-{host}"


def module(name: str, *arguments: str | Path) -> list[str]:
    """Return the command line that runs a module of ours with this interpreter."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return the environment of everything in a lab: nothing of the caller's but this."""
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    path = f"{Path(sys.executable).parent}{os.pathsep}{system}"
    return {"PATH": path, "LANG": "C.UTF-8", "HOME": "/root"}


def outside_table(config: LabConfig, paths: LabPaths, group: Path) -> dict[str, Any]:
    """Return the table of the lab's supervisor.

    The shards of the cow engine, the array, and a holdguard for each host.
    """
    pool = Path(config.pool) if config.pool else paths.default_pool
    shards = [_shard(config, paths, number) for number in range(len(shard_names(config)))]
    array = {
        "name": ARRAY,
        "argv": module(
            "vssemu.daemons.arrayd",
            *("--state", pool / "array"),
            *("--pool", pool),
            *("--run", paths.run),
            *("--fence", group),
            *("--faults", paths.faults),
            *(("--engine", config.engine, "--shards", paths.shards) if shards else ()),
            *("--ready-fd", "{ready_fd}"),
        ),
        "after": [shard["name"] for shard in shards],
        "dies_with_me": True,
    }
    return {
        "socket": str(paths.supervisor_socket),
        "logs": str(paths.logs),
        "dev": None,
        "services": [*shards, array, *(guard_service(paths, host) for host in config.hosts)],
    }


def _shard(config: LabConfig, paths: LabPaths, number: int) -> dict[str, Any]:
    """Return a shard as a service of the supervisor.

    It outlives the supervisor, for as long as somebody has still to write.
    """
    name = shard_name(number)
    argv = module(
        "vssemu_fuse.lunfs",
        *("--number", str(number)),
        *("--socket", paths.shards / f"{name}.sock"),
        *(("--chunk-size", str(config.chunk_size)) if config.chunk_size else ()),
        *(("--safety", config.safety) if config.safety else ()),
        *("--ready-fd", "{ready_fd}"),
    )
    return {"name": name, "argv": argv, "descriptors": KEPT_BY_SHARD, "nice": SHARD_NICE}


def guard_service(paths: LabPaths, host: str) -> dict[str, Any]:
    """Return a host's holdguard as a service of the supervisor."""
    socket = paths.host_outside(host) / "holdguard.sock"
    argv = module("vssemu.daemons.holdguard", socket, *("--ready-fd", "{ready_fd}"))
    return {"name": guard_name(host), "argv": argv}


def host_service(config: LabConfig, paths: LabPaths, host: str, group: Path) -> dict[str, Any]:
    """Write what a host is made from; return the host as a service of the supervisor."""
    state = paths.host_state(host)
    for part in ("root", "var/logs"):
        (state / part).mkdir(parents=True, exist_ok=True)
    table = state / "var" / "services.json"
    table.write_text(json.dumps(_inner_table()))
    pool = Path(config.pool) if config.pool else paths.default_pool
    spec = HostSpec(
        name=host,
        tree=str(state / "root"),
        state=str(state / "var"),
        outside=str(paths.host_outside(host)),
        hidden=(str(LABS.parent), str(pool)),
        cgroup=str(group / host / "inside"),
        pid_file=str(paths.host_pid(host)),
        table="/var/lib/vssemu/services.json",
    )
    record = state / "host.json"
    record.write_bytes(msgspec.json.encode(spec))
    return {
        "name": host_name(host),
        "argv": module("vssemu.lab.namespace_host", record),
        "after": [ARRAY, guard_name(host)],
        "dies_with_me": True,
        "restart": False,
        "stop_seconds": 20.0,
    }


def register_array_provider(vss: rpc.Client) -> None:
    """Register the array's own hardware provider in a host's catalog. Raises VssError."""
    vss.call(
        register_provider,
        provider_id=ARRAY_PROVIDER_ID,
        class_id=ARRAY_PROVIDER_ID,
        name="vssemu virtual array provider",
        type=ProviderType.HARDWARE,
        version=version("vssemu"),
        version_id=uuid5(ARRAY_PROVIDER_ID, version("vssemu")),
        command=module("vssemu.daemons.provider_runner", "vssemu.providers.array:ArrayProvider"),
        config={},
    )


def _inner_table() -> dict[str, Any]:
    vssd = {
        "name": VSSD,
        "argv": module("vssemu.daemons.vssd", "--ready-fd", "{ready_fd}"),
        "confined": True,
        "stop_seconds": 15.0,
    }
    devicefs = {
        "name": DEVICEFS,
        "argv": module("vssemu_fuse.devicefs", "--ready-fd", "{ready_fd}"),
        "confined": True,
        "after": [VSSD],
        "descriptors": KEPT_DESCRIPTORS,
    }
    return {
        "socket": INIT_SOCKET,
        "logs": "/var/lib/vssemu/logs",
        "dev": "/dev",
        "services": [vssd, devicefs],
    }
