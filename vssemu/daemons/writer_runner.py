"""A writer as a process of its own.

    python -m vssemu.daemons.writer_runner MODULE:CLASS [--config FILE.toml] [--socket PATH]
        [--ready-fd N]

The class is a `vssemu.writers.base.Writer`; it is made by `CLASS.from_config` with the TOML
file as a table. SIGTERM and SIGINT end it in order: a writer that is stopped for a backup gets
OnAbort first, then OnStop. One that hangs in a callback is killed 45 s later.
Exit status 0 after a signal, 1 when it could not run, 2 for a wrong command line.
"""

import argparse
import signal
import sys
import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import trio

from vssemu.api.blocking import VSS_SOCKET
from vssemu.daemons.classes import load_class
from vssemu.daemons.logs import configure_logs
from vssemu.linux.readiness import tell_ready
from vssemu.vss.errors import InvalidArgument, VssError
from vssemu.writers.base import Writer
from vssemu.writers.runner import run_writer

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

END_SECONDS: Final = 45
"""From the signal to the kill; longer than on_abort may take."""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options. Exits with 2 when the command line is wrong."""
    parser = argparse.ArgumentParser(prog="writer_runner", description="Run a VSS writer.")
    parser.add_argument("writer", metavar="MODULE:CLASS", help="the class to run")
    parser.add_argument("--config", type=Path, help="TOML file: the arguments of the class")
    parser.add_argument("--socket", type=Path, default=VSS_SOCKET, help="socket of the service")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets READY once subscribed")
    return parser.parse_args(argv)


def make_writer(name: str, config: Path | None) -> Writer:
    """Return the writer of a class and its configuration.

    Raises InvalidArgument for a name that is no writer, or a table that does not fit.
    """
    cls = load_class(name)
    if not issubclass(cls, Writer):
        raise InvalidArgument(
            f"{name!r} is no writer", hint="subclass vssemu.writers.base.Writer", item=name
        )
    try:
        table = {} if config is None else tomllib.loads(config.read_text("utf-8"))
        return cls.from_config(table)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidArgument(
            f"{config or name}: {type(error).__name__}: {error}",
            hint=f"give the keys that {name} takes",
            item=str(config or name),
        ) from error


async def _run(writer: Writer, socket: Path, ready_fd: int | None) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def run_and_tell() -> None:
                await nursery.start(partial(run_writer, writer, socket_path=socket))
                tell_ready(ready_fd)

            nursery.start_soon(run_and_tell)
            async for number in signals:
                logger.info("ending", signal=signal.Signals(number).name)
                # A plain callback runs in a thread, and nothing but the end stops a thread.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(END_SECONDS)
                nursery.cancel_scope.cancel()
                break


def main(argv: Sequence[str] | None = None) -> int:
    """Run a writer until it is told to end; return the exit status."""
    options = parse_arguments(argv)
    configure_logs()
    try:
        writer = make_writer(options.writer, options.config)
        writer.identity()
    except VssError as error:
        logger.error("writer_refused", error=str(error))
        return 2
    status = 0
    try:
        trio.run(_run, writer, options.socket, options.ready_fd)
    except* VssError as group:
        logger.error("writer_failed", error="; ".join(str(e) for e in group.exceptions))
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
