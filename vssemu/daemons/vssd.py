"""One host's VSS: the host agent and the service, joined, on one socket.

    python -m vssemu.daemons.vssd [--run DIR] [--state DIR] [--outside DIR] [--mnt DIR]
        [--dev DIR] [--config FILE] [--machine NAME] [--ready-fd N]

Serves io.vssemu.Requester, Writer, Registry, Disks and DeviceObjects on RUN/vss.sock, which
anybody may connect to and only root and the operators' group may use. SIGTERM ends it in
order: sessions are released, so nonpersistent sets go; what is mounted stays for a successor.
Exit status 0 after SIGTERM or SIGINT, 1 when it could not run, 2 for a wrong command line.
"""

import argparse
import signal
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import structlog
import trio

from vssemu.api.device_objects import device_objects
from vssemu.api.disks import disks
from vssemu.api.errors import encode_error, unexpected
from vssemu.daemons.logs import configure_logs
from vssemu.fabric.arraylink import ArrayLink
from vssemu.fabric.loop.initiator import LoopInitiator, open_initiator
from vssemu.fabric.loop.nodes import InitNodes, MachineNodes
from vssemu.faults import FaultPoints
from vssemu.host.agent import HostAgent, open_host
from vssemu.host.disks import Disks
from vssemu.host.paths import HostPaths
from vssemu.host.storage import ArrayStorage
from vssemu.linux.readiness import tell_ready
from vssemu.rpc.errors import RpcError
from vssemu.rpc.interface import Interface
from vssemu.rpc.server import serve_unix
from vssemu.service.access import authorize
from vssemu.service.limits import CONFIGURATION, Limits, load
from vssemu.service.providers import socket_activation
from vssemu.service.service import open_service
from vssemu.vss.errors import VssError
from vssemu.vss.provider import HostIdentity

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_EXPECTED = (VssError, OSError, RpcError, sqlite3.Error)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options. Exits with 2 when the command line is wrong."""
    usual = HostPaths()
    parser = argparse.ArgumentParser(prog="vssd", description="The VSS service of a host.")
    parser.add_argument("--run", type=_path, default=usual.run, help="sockets, device objects")
    parser.add_argument("--state", type=_path, default=usual.state, help="catalogs, event log")
    parser.add_argument("--outside", type=_path, default=usual.outside, help="array, holdguard")
    parser.add_argument("--mnt", type=_path, default=usual.mnt, help="drive letters")
    parser.add_argument("--dev", type=_path, default=usual.dev, help="parent of by-id")
    parser.add_argument("--config", type=_path, default=CONFIGURATION, help="time limits")
    parser.add_argument("--machine", help="the host's name; the kernel's by default")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets READY when serving")
    return parser.parse_args(argv)


def _path(text: str) -> Path:
    return Path(text).absolute()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until it is told to end; return the exit status."""
    options = parse_arguments(argv)
    configure_logs()
    try:
        trio.run(_run, options, load(options.config))
    except _EXPECTED as error:
        logger.error("vssd_failed", error=str(error), exc_info=error)
        return 1
    except BaseExceptionGroup as group:
        expected, rest = group.split(_EXPECTED)
        if expected is not None:
            logger.error("vssd_failed", error=str(expected.exceptions[0]), exc_info=expected)
        if rest is not None:
            raise rest from None
        return 1
    return 0


async def _run(options: argparse.Namespace, limits: Limits) -> None:
    paths = HostPaths(
        run=options.run,
        state=options.state,
        mnt=options.mnt,
        dev=options.dev,
        outside=options.outside,
    )
    link = ArrayLink(paths.outside / "array.sock")
    in_lab = paths.init_socket.exists()
    nodes = InitNodes(paths.init_socket) if in_lab else MachineNodes()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            open_initiator(link, nodes) as adapter,
            open_host(paths, adapter, ArrayStorage(link), machine=options.machine) as agent,
            open_service(
                agent,
                state=paths.state,
                identity=await _identity(agent, adapter),
                start_provider=socket_activation(paths.run, _environment(paths)),
                limits=limits,
                faults=FaultPoints(paths.faults, "service"),
            ) as service,
            trio.open_nursery() as nursery,
        ):
            interfaces = {
                **service.interfaces(),
                disks: Disks(agent),
                device_objects: agent.device_objects,
            }
            await nursery.start(_serve, paths.run / "vss.sock", interfaces)
            logger.info("serving", run=str(paths.run), machine=agent.machine())
            tell_ready(options.ready_fd)
            async for number in signals:
                logger.info("ending", signal=signal.Signals(number).name)
                await service.end_sessions()
                nursery.cancel_scope.cancel()
                break
    await link.aclose()


async def _serve(
    path: Path,
    interfaces: Mapping[Interface, object],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    await serve_unix(
        path,
        interfaces,
        vendor="vssemu",
        product="vssd",
        version=version("vssemu"),
        url="https://learn.microsoft.com/windows/win32/vss/",
        encode_error=encode_error,
        authorize=authorize,
        unexpected=unexpected,
        task_status=task_status,
    )


async def _identity(agent: HostAgent, adapter: LoopInitiator) -> HostIdentity:
    """Return what providers are told of this host; without the array, its machine name."""
    try:
        initiators = tuple(await adapter.names())
    except _EXPECTED as error:
        logger.warning("array_does_not_answer", error=str(error))
        initiators = ()
    return HostIdentity(machine=agent.machine(), initiators=initiators)


def _environment(paths: HostPaths) -> dict[str, str]:
    return {
        "VSSEMU_RUN": str(paths.run),
        "VSSEMU_OUTSIDE": str(paths.outside),
        "VSSEMU_ARRAY_SOCKET": str(paths.outside / "array.sock"),
        "VSSEMU_FAULTS": str(paths.faults),
    }


if __name__ == "__main__":
    sys.exit(main())
