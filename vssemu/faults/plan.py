"""A fault: what goes wrong, where, and how often. Pure: no files, no time."""

import math
import re
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from vssemu.faults.names import kind_of
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.hresult import Hresult
from vssemu.vss.writer import WRITER_FAILURES

Action = Literal["code", "raise", "delay", "hang", "crash", "stop"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

_WHERE: Final = re.compile(r"[a-z]+(:[A-Za-z0-9_-]+)?")
_NAME: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a point.

    where: `service`, `array`, `provider`, `writer`; the latter two with `:LABEL` mean the one
    that was given this label alone. name: the point.
    action, and its value:
        code   the point fails with the VssError of an HRESULT, given by name; a provider
               answers with that code, a writer sets it as its failure
        raise  an exception that nobody documented; value: its text
        delay  it takes longer; value: seconds
        hang   it is deaf: neither cancellation nor a time limit ends it, only release, clear
               and the death of the process
        crash  the process kills itself with SIGKILL
        stop   it waits until it is released, so that a test can act meanwhile; cancellation
               and time limits work as ever
    times: how often; 0 is always. skip: how often the point is passed before.
    Raises InvalidArgument.
    """

    where: str
    name: str
    action: Action
    value: str | float | None = None
    times: int = 1
    skip: int = 0

    def __post_init__(self) -> None:
        if not _WHERE.fullmatch(self.where) or not _NAME.fullmatch(self.name):
            raise self._refused("is no name of a point", "write it as `vssemu fault points` does")
        if self.times < 0 or self.skip < 0:
            raise self._refused(f"times {self.times}, skip {self.skip}", "neither is below 0")
        self._check_action()

    def passed(self) -> "tuple[bool, Fault | None]":
        """Return whether the fault happens now, and what is left of it when it did, or not."""
        if self.skip:
            return False, replace(self, skip=self.skip - 1)
        if self.times == 1:
            return True, None
        return True, replace(self, times=max(0, self.times - 1))

    @property
    def waits(self) -> bool:
        """Whether it stands at the point until it is released."""
        return self.action in ("hang", "stop")

    @property
    def hresult(self) -> Hresult:
        """The code of the action `code`."""
        return Hresult[str(self.value)]

    @property
    def seconds(self) -> float:
        """The time of the action `delay`."""
        assert isinstance(self.value, int | float)
        return self.value

    def describe(self) -> str:
        """Return what happens, in one line, without where."""
        value = f" {self.value}" if self.value is not None else ""
        unit = " s" if self.action == "delay" else ""
        how_often = {0: ", always", 1: ""}.get(self.times, f", {self.times} times")
        return f"{self.action}{value}{unit}{how_often}" + (
            f", after {self.skip} times" if self.skip else ""
        )

    def _check_action(self) -> None:
        match self.action:
            case "code":
                self._check_code()
            case "delay":
                value = self.value
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if not is_number or not math.isfinite(float(value or 0)) or float(value or 0) < 0:
                    raise self._refused(f"delay {value!r}", "give seconds")
            case "raise":
                if not isinstance(self.value, str | None):
                    raise self._refused(f"raise {self.value!r}", "give a text")
            case "hang" | "crash" | "stop":
                if self.value is not None:
                    raise self._refused(f"{self.action} {self.value!r}", "it takes no value")
            case _:
                raise self._refused(f"no action {self.action!r}", f"known: {', '.join(ACTIONS)}")

    def _check_code(self) -> None:
        code = Hresult.__members__.get(str(self.value))
        if code is None or not code.is_failure:
            raise self._refused(f"{self.value!r} is no HRESULT of a failure", "give its VSS name")
        if kind_of(self.where) == "writer" and code not in WRITER_FAILURES:
            codes = ", ".join(sorted(each.name for each in WRITER_FAILURES))
            raise self._refused(f"a writer cannot set {code.name}", f"known: {codes}")

    def _refused(self, why: str, hint: str) -> InvalidArgument:
        return InvalidArgument(f"{self.where} {self.name}: {why}", hint=hint, item=self.name)
