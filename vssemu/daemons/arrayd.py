"""The storage array as a process of its own: journal, pool, engine, fabric and sockets.

    python -m vssemu.daemons.arrayd --state DIR --run DIR --pool DIR
        [--pool-size BYTES] [--engine reflink|cow] [--shards DIR]
        [--fence CGROUPDIR] [--faults DIR] [--ready-fd N]

It runs outside the hosts, in a mount namespace of its own: nobody else sees the pool. SIGTERM
ends it in order; after SIGKILL the next start finishes or undoes what was under way. The cow
engine works through lunfs processes, which listen below DIR as `lunfs-0.sock`, `lunfs-1.sock`
and so on before arrayd starts, and live through its restarts. Exit
status 0 after SIGTERM or SIGINT, 1 when it could not run, 2 for a wrong command line.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
import trio

from vssemu.array.array import open_array
from vssemu.array.engines.opening import ENGINES
from vssemu.array.server import Sockets
from vssemu.daemons.foreign import let_go
from vssemu.daemons.logs import configure_logs
from vssemu.faults import FaultPoints
from vssemu.linux import mount, namespaces
from vssemu.linux.readiness import tell_ready
from vssemu.vss.errors import VssError

PRIORITY: Final = -15
"""Niceness; of an array that must be in time although its hosts leave it no processor."""

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options. Exits with 2 when the command line is wrong."""
    parser = argparse.ArgumentParser(prog="arrayd", description="The storage array of vssemu.")
    parser.add_argument("--state", type=_path, required=True, help="directory of the journal")
    parser.add_argument("--run", type=_path, required=True, help="directory of the sockets")
    parser.add_argument("--pool", type=_path, required=True, help="directory of the LUNs")
    parser.add_argument("--pool-size", type=int, help="bytes of a pool image, should one be made")
    parser.add_argument(
        "--engine", choices=ENGINES, default=ENGINES[0], help="how copies are made"
    )
    parser.add_argument("--shards", type=_path, help="directory of the sockets of lunfs, for cow")
    parser.add_argument("--fence", type=_path, help="control group above those of the hosts")
    parser.add_argument("--faults", type=_path, help="directory of what tests arm")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets READY when serving")
    return parser.parse_args(argv)


def _path(text: str) -> Path:
    return Path(text).resolve()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the array until it is told to end; return the exit status."""
    options = parse_arguments(argv)
    configure_logs()
    try:
        # Before any thread: a process with several cannot leave its mount namespace.
        namespaces.unshare(namespaces.Namespace.MOUNT)
        mount.set_propagation("/", mount.Propagation.SLAVE, recursive=True)
        kept = [options.state, options.run, options.pool, options.faults, Path(sys.prefix)]
        kept.append(options.shards)
        _come_first()
        let_go(Path("/"), keep=[path for path in kept if path is not None])
        trio.run(_run, options)
    except (VssError, OSError) as error:
        logger.error("arrayd_failed", error=str(error), exc_info=error)
        return 1
    except BaseExceptionGroup as group:
        expected, rest = group.split((VssError, OSError))
        if expected is not None:
            logger.error("arrayd_failed", error=str(_first(expected)), exc_info=expected)
        if rest is not None:
            raise rest from None
        return 1
    return 0


def _come_first() -> None:
    """Let nobody who writes to LUNs keep the array from making room for what he writes."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    except OSError as error:
        logger.warning("priority_not_had", error=str(error))


async def _run(options: argparse.Namespace) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            open_array(
                state=options.state,
                pool=options.pool,
                pool_size=options.pool_size,
                engine=options.engine,
                shards=options.shards,
                fence_root=options.fence,
                faults=FaultPoints(options.faults, "array"),
            ) as array,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(Sockets(array, options.run).serve)
            logger.info("serving", run=str(options.run), identity=array.core.journal.identity)
            tell_ready(options.ready_fd)
            async for number in signals:
                logger.info("ending", signal=signal.Signals(number).name)
                nursery.cancel_scope.cancel()
                break


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
