"""io.vssemu.Writer: how a writer process takes part.

Subscribe streams events; answers come on a second connection. A writer whose subscription's
connection ends is gone.
"""

from vssemu.rpc.interface import Declared, Interface
from vssemu.vss.writer import WriterEvent, WriterFailure, WriterIdentity

writer = Interface("io.vssemu.Writer", __doc__)


@writer.method(more=True, returns="event")
def subscribe(writer: WriterIdentity) -> WriterEvent:
    """Stream this writer's events. The first one has no event_id and tells the instance id."""
    raise Declared


@writer.method()
def answer(
    event: str,
    ok: bool,
    failure: WriterFailure | None = None,
    document: str | None = None,
) -> None:
    """Answer an event.

    document: the Writer Metadata Document for Identify, else the writer's changed part of the
    Backup Components Document.
    """
    raise Declared
