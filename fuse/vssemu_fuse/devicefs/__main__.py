r"""The devicefs program.

    python -m vssemu_fuse.devicefs --mountpoint /run/vssemu/GLOBALROOT \
        --socket /run/vssemu/vss.sock

It makes the mount point if need be, and stays in the foreground. Below a starter that keeps
descriptors (PID 1 of a host; systemd with FileDescriptorStoreMax=) it may be killed, and nobody
who reads through it notices (kernel 6.9). Exit status: 0 after
SIGTERM or SIGINT; 1 when it could not mount, or somebody else unmounted it (whoever runs it
starts it again); 2 for a wrong command line.
"""

from __future__ import annotations

import contextlib
import grp
import sys
from functools import partial
from pathlib import Path
from typing import Never

import click
import structlog
import trio

from vssemu.linux.readiness import tell_ready
from vssemu_fuse.devicefs.serving import serve_until_signal
from vssemu_fuse.devicefs.surfacing import SURFACE_LIMIT

_log = structlog.get_logger(__name__)


@click.command()
@click.option(
    "--mountpoint",
    # Not click.Path, which looks at what it is given: see below.
    type=Path,
    default="/run/vssemu/GLOBALROOT",
    show_default=True,
    help="Directory of the device objects.",
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default="/run/vssemu/vss.sock",
    show_default=True,
    help="Socket of the VSS service.",
)
@click.option(
    "--group",
    default="vss-operators",
    show_default=True,
    help="Group, name or number, that may use the names; if there is none, only root may.",
)
@click.option(
    "--surface-limit",
    type=click.FloatRange(min=0.1),
    default=SURFACE_LIMIT,
    show_default=True,
    help="Seconds that a look-up waits for a tree.",
)
@click.option(
    "--ready-fd",
    type=click.IntRange(min=0),
    help="Descriptor that gets READY when the device objects can be used.",
)
def main(
    mountpoint: Path, socket: Path, group: str, surface_limit: float, ready_fd: int | None
) -> None:
    """Show the shadow copies of this host as device objects."""
    _configure_log()
    try:
        # A dead mount at the place is there for mkdir, and not for anything that stats it.
        with contextlib.suppress(FileExistsError):
            mountpoint.mkdir(parents=True)
        serve = partial(
            serve_until_signal,
            # Its own name is not followed: what is mounted there waits for this very process.
            mountpoint.parent.resolve() / mountpoint.name,
            socket,
            operators_gid=_gid_of(group),
            surface_limit=surface_limit,
            on_ready=partial(tell_ready, ready_fd),
        )
        by_signal = trio.run(serve)
    except ExceptionGroup as group_of_errors:
        failures, bugs = group_of_errors.split(OSError)
        if bugs is not None or failures is None:
            raise
        _die(*_leaves(failures))
    except OSError as error:
        _die(error)
    sys.exit(0 if by_signal else 1)


def _die(*errors: OSError) -> Never:
    click.echo(f"devicefs: {'; '.join(map(str, errors))}", err=True)
    sys.exit(1)


def _gid_of(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        _log.warning("no such group: only root may use the device objects", group=group)
        return 0


def _leaves(group: ExceptionGroup[OSError]) -> list[OSError]:
    found: list[OSError] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, ExceptionGroup) else [each]
    return found


def _configure_log() -> None:
    last = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            last,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main()
