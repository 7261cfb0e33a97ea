"""What is set against a LUN, kept beside its bytes so that it outlives lunfs.

    luns/naa.LUN/faults        JSON; not there: nothing is set
    luns/naa.LUN/faults.new    one that is being written

Replaced as a whole, and not flushed: it is for tests, which outlive no loss of real power.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from vssemu import logs
from vssemu.faults.luns import FaultState, LunFault
from vssemu.vss.errors import InvalidArgument
from vssemu_fuse.lunfs.faults.faulty import SetFault

NAME: Final = "faults"
_UNFINISHED: Final = "faults.new"

_log = logs.get_logger(__name__)


class KeptFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault, and how often it was looked at and drawn; see `FaultState`."""

    fault: LunFault
    seen: int = 0
    drawn: int = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is set against a LUN.

    log: where its writes are recorded. volatile, off, back_at: of an origin, for its chain: its
    disks lose what was not flushed; its power is off; until then, seconds since 1970.
    """

    faults: tuple[KeptFault, ...] = ()
    log: str | None = None
    volatile: bool = False
    off: bool = False
    back_at: float | None = None


NOTHING: Final = Plan()


def read(directory: Path) -> Plan:
    """Return the plan in a LUN's directory. Raises OSError; one that is damaged is none."""
    try:
        text = (directory / NAME).read_bytes()
        return msgspec.json.decode(text, type=Plan)
    except FileNotFoundError:
        return NOTHING
    except (msgspec.DecodeError, InvalidArgument) as error:
        _log.error("faults_damaged", path=str(directory / NAME), error=str(error))
        return NOTHING


def write(directory: Path, plan: Plan) -> None:
    """Put a plan into a LUN's directory. Raises OSError."""
    if plan == NOTHING:
        (directory / NAME).unlink(missing_ok=True)
        return
    (directory / _UNFINISHED).write_bytes(msgspec.json.encode(plan))
    (directory / _UNFINISHED).rename(directory / NAME)


def set_fault(kept: KeptFault) -> SetFault:
    """Return a fault that goes on where it was."""
    return SetFault(FaultState(kept.fault, kept.seen, kept.drawn))


def kept_fault(one: SetFault) -> KeptFault:
    """Return what is kept of a fault."""
    seen, drawn = one.kept
    return KeptFault(fault=one.state.fault, seen=seen, drawn=drawn)
