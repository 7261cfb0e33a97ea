"""What every operation of the service works with, handed around as one object."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from vssemu.service.catalog import Catalog
from vssemu.service.events import EventLog
from vssemu.service.limits import Limits
from vssemu.service.providers import ProviderHub
from vssemu.service.trace import NoPoints, Points
from vssemu.service.tracefiles import TraceFiles
from vssemu.service.writers import WriterHub
from vssemu.vss.host import HostPort
from vssemu.vss.identity import SnapshotSetId


@dataclass(kw_only=True)
class Parts:
    """The host, the hubs, the catalog, the log and the limits of one service.

    importing: one import at a time on a host. faults: what is armed at the rows of `vss.steps`.
    """

    host: HostPort
    providers: ProviderHub
    writers: WriterHub
    catalog: Catalog
    log: EventLog
    limits: Limits
    traces: TraceFiles
    importing: trio.Lock = field(default_factory=trio.Lock)
    faults: Points = field(default_factory=NoPoints)
    _in_work: set[SnapshotSetId] = field(default_factory=set)

    @contextmanager
    def working_on(self, set_id: SnapshotSetId) -> Iterator[None]:
        """Keep others from taking up during the block what is left of a set."""
        self._in_work.add(set_id)
        try:
            yield
        finally:
            self._in_work.discard(set_id)

    def is_in_work(self, set_id: SnapshotSetId) -> bool:
        """Tell whether somebody is just deleting, breaking or undoing a set."""
        return set_id in self._in_work
