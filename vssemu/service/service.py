"""The VSS service of one host, put together: what `daemons.vssd` serves on its socket.

    async with open_service(host, paths, ...) as service:
        await serve_unix(path, service.interfaces(), ...)

The block begins with the recovery of the catalog and ends with the end of all sessions.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from vssemu.api.registry import registry
from vssemu.api.requester import requester
from vssemu.api.writer import writer
from vssemu.rpc.interface import Interface
from vssemu.service.catalog import Catalog
from vssemu.service.events import EventLog
from vssemu.service.limits import Limits
from vssemu.service.parts import Parts
from vssemu.service.providers import ProviderHub, Start
from vssemu.service.recovery import finish_what_is_left, recover
from vssemu.service.registry import RegistryService, WriterService
from vssemu.service.requester import RequesterService
from vssemu.service.trace import NoPoints, Points
from vssemu.service.tracefiles import TraceFiles
from vssemu.service.writers import WriterHub
from vssemu.vss.host import HostPort
from vssemu.vss.provider import HostIdentity

CATALOG = "vss.db"
EVENTS = "events.jsonl"


class Service:
    """A running service. parts: for those that join it with others, and for tests."""

    def __init__(self, parts: Parts, nursery: trio.Nursery) -> None:
        self.parts = parts
        self._requester = RequesterService(parts, nursery)

    def interfaces(self) -> dict[Interface, object]:
        """Return the interfaces with their implementations."""
        return {
            requester: self._requester,
            writer: WriterService(self.parts),
            registry: RegistryService(self.parts),
        }

    async def end_sessions(self) -> None:
        """End all sessions as their release would; nonpersistent sets go with them.

        To be called while the service still listens, so that writers hear BackupShutdown; the
        block's end does it for sessions that are left.
        """
        with trio.move_on_after(self.parts.limits.stop, shield=True):
            await self._requester.end_all("service stop")


@asynccontextmanager
async def open_service(
    host: HostPort,
    *,
    state: Path,
    identity: HostIdentity,
    start_provider: Start,
    limits: Limits | None = None,
    faults: Points | None = None,
) -> AsyncIterator[Service]:
    """Give the service for the block.

    state: the directory of catalog and event log. identity: what providers are told of the
    host. start_provider: see `providers.socket_activation`. faults: what is armed where.
    Raises VssError or sqlite3.Error when the catalog cannot be opened.
    """
    limits = limits or Limits()
    log = EventLog(state / EVENTS)
    catalog = Catalog(state / CATALOG)
    try:
        async with trio.open_nursery() as nursery:
            parts = Parts(
                host=host,
                providers=ProviderHub(
                    catalog,
                    host=identity,
                    start=start_provider,
                    limits=limits.provider,
                    log=log,
                    nursery=nursery,
                ),
                writers=WriterHub(log),
                catalog=catalog,
                log=log,
                limits=limits,
                traces=TraceFiles(state),
                faults=faults or NoPoints(),
            )
            service = Service(parts, nursery)
            await recover(parts)
            parts.providers.preload()
            nursery.start_soon(finish_what_is_left, parts)
            try:
                yield service
            finally:
                await service.end_sessions()
                with trio.move_on_after(limits.stop, shield=True):
                    await parts.providers.close()
                nursery.cancel_scope.cancel()
    finally:
        catalog.close()
