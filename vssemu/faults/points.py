"""The points of a process: where a fault that was armed happens."""

import os
import signal
from pathlib import Path
from typing import Final, NoReturn

import trio

from vssemu import logs
from vssemu.faults.plan import Fault
from vssemu.faults.store import FaultStore, Ticket
from vssemu.vss.errors import error_for

logger = logs.get_logger(__name__)

_PAUSE: Final = 0.01


class InjectedFault(Exception):
    """The exception of the action `raise`, which no contract knows."""


class FaultPoints:
    """The named points of one process at which faults can be armed.

    directory: see `store`; None: nothing can be armed. where: `service`, `array`, `provider`,
    `writer`, the latter two perhaps with `:LABEL`.
    """

    def __init__(self, directory: Path | None, where: str) -> None:
        self._where = where
        self._store = None if directory is None else FaultStore(directory)

    async def reach(self, name: str) -> None:
        """Do what is armed at a point of this name; nothing, and at once, without.

        Raises VssError (the action `code`) or InjectedFault (`raise`). OSError when the
        directory cannot be read.
        """
        store = self._store
        if store is None or not os.access(store.path_of(self._where, name), os.F_OK):
            return
        taken = await trio.to_thread.run_sync(store.take, self._where, name)
        if taken is not None:
            fault, ticket = taken
            logger.warning("fault", where=self._where, point=name, action=fault.describe())
            await _happen(fault, ticket)


async def _happen(fault: Fault, ticket: Ticket | None) -> None:
    try:
        match fault.action:
            case "code":
                raise error_for(
                    fault.hresult,
                    f"a fault was set at {fault.where} {fault.name}",
                    hint="vssemu fault list shows what is still armed",
                    item=fault.name,
                )
            case "raise":
                raise InjectedFault(fault.value or f"at {fault.where} {fault.name}")
            case "delay":
                await trio.sleep(fault.seconds)
            case "crash":
                _die()
            case "stop" | "hang":
                with trio.CancelScope(shield=fault.action == "hang"):
                    # Who releases is another process, which leaves nothing but files.
                    while ticket is not None and not ticket.is_released:  # noqa: ASYNC110
                        await trio.sleep(_PAUSE)
    finally:
        if ticket is not None:
            ticket.close()


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL was survived")
