"""The steps of one operation, timed: what the event log has of it, and where faults are put.

Owns names, times and outcomes of steps; refuses to write anything (see `events`). Each step is
also a phase in the trace of the requester for whom it runs (see `recording`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import trio

from vssemu.service.record import Phase
from vssemu.service.recording import noted
from vssemu.vss.errors import VssError
from vssemu.vss.steps import Step as Row
from vssemu.vss.steps import point


class Points(Protocol):
    """Where faults may be put: `faults.points.FaultPoints`."""

    async def reach(self, name: str) -> None:
        """Do what is armed at a point; with nothing armed return at once."""


class NoPoints:
    """Points at which nothing is ever armed."""

    async def reach(self, name: str) -> None:
        """Return at once."""


@dataclass(kw_only=True, slots=True)
class Step:
    """One step of an operation.

    start: seconds since the trace began; seconds: how long it took; outcome: `ok`, the name of
    the HRESULT it failed with, or `cancelled`.
    """

    name: str
    start: float
    seconds: float = 0.0
    outcome: str = "running"
    detail: str | None = None


@dataclass(kw_only=True, slots=True)
class Trace:
    """All steps of one operation. hold_seconds: how long writes were held, None without.

    name: a sequence of `vss.steps`; set_id: empty while there is no set.
    """

    name: str
    set_id: str = ""
    faults: Points = field(default_factory=NoPoints)
    began: float = field(default_factory=trio.current_time)
    steps: list[Step] = field(default_factory=list)
    hold_seconds: float | None = None

    @asynccontextmanager
    async def step(self, row: Row, detail: str | None = None) -> AsyncIterator[Step]:
        """Time the block as one step between its two fault points; what it raises passes."""
        begin = trio.current_time()
        step = Step(name=row.value, start=begin - self.began, detail=detail)
        self.steps.append(step)
        try:
            with noted(Phase(sequence=self.name, name=row.value, row=row.number)) as phase:
                await self.faults.reach(point(self.name, row))
                yield step
                await self.faults.reach(point(self.name, row, done=True))
                phase.detail = step.detail
        except VssError as error:
            step.outcome = error.hresult.name
            raise
        except trio.Cancelled:
            step.outcome = "cancelled"
            raise
        except BaseException as error:
            step.outcome = type(error).__name__
            raise
        else:
            step.outcome = "ok"
        finally:
            step.seconds = trio.current_time() - begin

    @property
    def seconds(self) -> float:
        """Time since the trace began."""
        return trio.current_time() - self.began
