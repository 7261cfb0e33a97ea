"""A hardware provider as a process of its own, started by the VSS service.

    python -m vssemu.daemons.provider_runner MODULE:CLASS

The class implements `vssemu.vss.provider.HardwareProvider` and is made without arguments. The
service passes a listening unix socket as descriptor 3 (sd_listen_fds(3)) and the configuration
as variables VSSEMU_<KEY>, which reach on_load as keys. The process ends, after
OnUnload(force), on SIGTERM and SIGINT, when the process that made the socket listen has ended,
and when the socket is shut down. One that hangs is killed 20 s later.
Exit status 0 after an end in order, 1 when it could not run, 2 for a wrong command line.
"""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final

import structlog
import trio

from vssemu.daemons.classes import load_class
from vssemu.daemons.logs import configure_logs
from vssemu.linux.credentials import peer_credentials
from vssemu.providers.runner import ProviderService, check_provider, serve_provider, settings
from vssemu.rpc.listening import listen_fds
from vssemu.vss.errors import InvalidArgument, VssError

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

END_SECONDS: Final = 20
"""From the reason to end to the kill."""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options. Exits with 2 when the command line is wrong."""
    parser = argparse.ArgumentParser(
        prog="provider_runner", description="Run a VSS hardware provider."
    )
    parser.add_argument("provider", metavar="MODULE:CLASS", help="the class to run")
    return parser.parse_args(argv)


def make_service(name: str) -> ProviderService:
    """Return the provider of a class, ready to be served. Raises InvalidArgument."""
    try:
        provider = load_class(name)()
    except TypeError as error:
        raise InvalidArgument(f"{name!r}: {error}", item=name) from error
    missing = check_provider(provider)
    if missing:
        raise InvalidArgument(
            f"{name!r} is no hardware provider: it lacks {', '.join(missing)}",
            hint="implement vssemu.vss.provider.HardwareProvider",
            item=name,
        )
    return ProviderService(provider, settings(os.environ))


def inherited_socket() -> socket.socket:
    """Return the socket that the starter passed. Raises InvalidArgument without exactly one."""
    sockets = listen_fds()
    if len(sockets) != 1:
        raise InvalidArgument(
            f"{len(sockets)} sockets were passed, not one",
            hint="the VSS service starts providers, see sd_listen_fds(3)",
        )
    return sockets[0]


async def _run(service: ProviderService, listening: socket.socket) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_with_listener, listening, nursery.cancel_scope)
            nursery.start_soon(_serve, service, listening, nursery.cancel_scope)
            async for number in signals:
                _end(nursery.cancel_scope, signal.Signals(number).name)
                break
    with trio.CancelScope(shield=True):
        if service.is_loaded:
            await service.unload(force=True)


async def _serve(
    service: ProviderService, listening: socket.socket, scope: trio.CancelScope
) -> None:
    await serve_provider(service, listening)
    _end(scope, "the socket was shut down")


async def _end_with_listener(listening: socket.socket, scope: trio.CancelScope) -> None:
    # Not PR_SET_PDEATHSIG: it goes by the thread that started us, and a service starts
    # programs in threads that it lets go of. Nor getppid: the service may be gone already.
    listener = peer_credentials(listening).pid
    if listener == 0:
        return  # in a pid namespace that cannot be seen from here
    try:
        pidfd = os.pidfd_open(listener)
    except ProcessLookupError:
        _end(scope, "the service is gone")
        return
    try:
        await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    _end(scope, "the service is gone")


def _end(scope: trio.CancelScope, why: str) -> None:
    logger.info("ending", why=why)
    # A plain method runs in a thread, and nothing but the end stops a thread.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(END_SECONDS)
    scope.cancel()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a provider until its service has no more need of it; return the exit status."""
    options = parse_arguments(argv)
    configure_logs()
    try:
        listening = inherited_socket()
        service = make_service(options.provider)
    except (VssError, ValueError, OSError) as error:
        logger.error("provider_refused", error=str(error))
        return 2
    trio.run(_run, service, listening)
    return 0


if __name__ == "__main__":
    sys.exit(main())
