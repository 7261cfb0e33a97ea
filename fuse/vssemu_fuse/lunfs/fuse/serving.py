"""A shard's data path: a mount, the loop that answers it, and what survives its death.

Owns the order of things at the start and what a process must be before it serves block
devices. Refuses to know what is served: whoever opens it fills `names`, then runs the loop.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from vssemu import logs
from vssemu.linux import memory
from vssemu.linux.fdstore import Store
from vssemu_fuse.lunfs.fuse import keeping
from vssemu_fuse.lunfs.fuse.connection import Connection
from vssemu_fuse.lunfs.fuse.keeping import Link
from vssemu_fuse.lunfs.fuse.names import Names
from vssemu_fuse.lunfs.fuse.turns import Turns
from vssemu_fuse.lunfs.io.work import Worker

PRIORITY: Final = -15
"""Niceness: as a disk, it is not to wait for a processor behind those who wait for it."""

_log = logs.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataPath:
    """What serves data. names: what is served, to be filled before `serve`."""

    names: Names
    worker: Worker
    turns: Turns
    connection: Connection
    link: Link

    @property
    def mounted(self) -> int:
        """The descriptor of the mount, which stays this object's."""
        return self.link.mounted

    async def serve(self) -> None:
        """Answer requests, a predecessor's first, until the file system is gone."""
        if self.link.is_taken_over:
            self.connection.take_over()
        # What is there now stays for ever: not to be looked at again and again, nor now, while
        # requests wait.
        gc.freeze()
        await self.turns.run()


def prepare_process() -> None:
    """Make this a process that may serve block devices; before any thread starts.

    It then never waits for memory that is to be had by writing to what it serves, nor for a
    processor behind others. What the kernel refuses is a line in the log.
    """
    for what, change in (
        ("io_flusher", memory.set_io_flusher),
        ("memory_lock", memory.lock_all),
        ("priority", partial(os.setpriority, os.PRIO_PROCESS, 0, PRIORITY)),
    ):
        try:
            change()
        except OSError as error:
            _log.warning("not_had", what=what, error=str(error))


@contextmanager
def data_path(store: Store, kept: dict[str, int], *, name: str) -> Iterator[DataPath]:
    """Give a data path, new or taken over; the mount lives on where the starter keeps it.

    kept: what the starter kept; what is used of it is taken out. name: the mount's source.
    Raises OSError as `keeping.connect` does.
    """
    link = keeping.connect(store, kept, name=name)
    with ExitStack() as stack:
        stack.callback(os.close, link.mounted)
        stack.callback(os.close, link.connection)
        worker = stack.enter_context(Worker())
        names = Names()
        connection = Connection(link.connection, names, worker)
        turns = stack.enter_context(Turns(connection, worker))
        _log.info("mounted", name=name, taken_over=link.is_taken_over)
        yield DataPath(names=names, worker=worker, turns=turns, connection=connection, link=link)
