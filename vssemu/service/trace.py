"""The phases of one creation or import, timed: what the event log has of it.

Owns names, times and outcomes of steps; refuses to write anything (see `events`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from vssemu.vss.errors import VssError


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
    """All steps of one operation. hold_seconds: how long writes were held, None without."""

    name: str
    set_id: str
    began: float = field(default_factory=trio.current_time)
    steps: list[Step] = field(default_factory=list)
    hold_seconds: float | None = None

    @contextmanager
    def step(self, name: str, detail: str | None = None) -> Iterator[Step]:
        """Time the block as one step; what it raises passes through."""
        begin = trio.current_time()
        step = Step(name=name, start=begin - self.began, detail=detail)
        self.steps.append(step)
        try:
            yield step
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
