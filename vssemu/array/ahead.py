"""Work of sets in the making that goes on between two calls.

Full copies are begun at Begin, and `finish_prepare` waits for them; copies that are ready are
kept close to their sources until `commit` ends that. Whatever removes a set ends its work.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
import trio

from vssemu.vss.identity import SnapshotSetId

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(kw_only=True, eq=False)
class _Work:
    """error: what ended it before its time."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    over: trio.Event = field(default_factory=trio.Event)
    error: Exception | None = None


class Ahead:
    """The tasks that work ahead, by set; they live in the nursery of `run`."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._works: dict[SnapshotSetId, list[_Work]] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be the home of the tasks, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def start(self, set_id: SnapshotSetId, work: Callable[[], Awaitable[None]]) -> None:
        """Have work done for a set."""
        assert self._nursery is not None
        new = _Work()
        self._works.setdefault(set_id, []).append(new)
        self._nursery.start_soon(_do, new, work, set_id)

    async def finish(self, set_id: SnapshotSetId) -> None:
        """Wait until all work of a set is done. Raises what it ended with."""
        for work in self._works.get(set_id, ()):
            await work.over.wait()
            if work.error is not None:
                raise work.error

    async def end(self, set_id: SnapshotSetId) -> None:
        """End what is still under way for a set, and wait until nothing of it goes on."""
        works = self._works.get(set_id, ())
        for work in works:
            work.scope.cancel()
        for work in works:
            await work.over.wait()
        self._works.pop(set_id, None)


async def _do(work: _Work, task: Callable[[], Awaitable[None]], set_id: SnapshotSetId) -> None:
    try:
        with work.scope:
            await task()
    except Exception as error:  # noqa: BLE001  # whoever waits for it gets it
        logger.warning("work_ahead_failed", set=str(set_id), error=str(error))
        work.error = error
    finally:
        work.over.set()
