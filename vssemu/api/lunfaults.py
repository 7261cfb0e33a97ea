"""io.vssemu.array.Faults: faults, power losses and write logs of LUNs.

Served by the array on its administrator's socket, for LUNs of the engine cow, and by each
lunfs beside io.vssemu.array.Shard, for its own. What is set is kept with the LUN, so that it
outlives the death of the program that serves it. Every call may be repeated when its answer
was lost. Raises VssError: BadState, InvalidArgument, ObjectNotFound.
"""

from dataclasses import dataclass

from vssemu.faults.luns import LunFault, LunFaultStatus
from vssemu.rpc.interface import Declared, Interface
from vssemu.vss.identity import LunId

lun_faults = Interface("io.vssemu.array.Faults", __doc__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerStatus:
    """How the power of a LUN stands, which it shares with its snapshots, or its origin.

    origin: of the chain. is_volatile: what is written is lost by a power loss until it is
    flushed. is_off: every request is answered with EIO. back_at: seconds since 1970 when the
    power comes back by itself. pending: bytes that a power loss could take back now.
    losses: how many there were since the program that serves the LUN started.
    """

    origin: LunId
    is_volatile: bool
    is_off: bool
    back_at: float | None
    pending: int
    losses: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """What a power loss took: 4 KiB blocks written and not flushed, and those not as last written.

    seed: with it, and the same writes, the same blocks are lost.
    """

    seed: int
    blocks: int
    lost: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteLogStatus:
    """A recording. entries: in the log now. failed: why it ended by itself; None: it goes on."""

    lun: LunId
    log: str
    entries: int
    failed: str | None


@lun_faults.method(returns="fault")
def set_lun_fault(lun: LunId, fault: LunFault) -> LunFault:
    """Set a fault of a LUN beside those it has; return it with its seed.

    An equal one that is set already stays, unless it met all that it was to meet.
    """
    raise Declared


@lun_faults.method(returns="faults")
def list_lun_faults() -> list[LunFaultStatus]:
    """Return the faults that are set, by LUN, in the order in which they were set."""
    raise Declared


@lun_faults.method(returns="count")
def clear_lun_faults(lun: LunId | None = None) -> int:
    """Take the faults of a LUN back, or all, and let stuck requests go; return how many."""
    raise Declared


@lun_faults.method(returns="count")
def release_lun(lun: LunId) -> int:
    """Let requests go that are stuck at faults of a LUN; return how many."""
    raise Declared


@lun_faults.method()
def set_volatile(lun: LunId, volatile: bool) -> None:
    """Have what is written to a LUN and its snapshots be lost by a power loss, or not any more."""
    raise Declared


@lun_faults.method(returns="power")
def list_lun_power() -> list[PowerStatus]:
    """Return how the power stands of LUNs whose writes are volatile or whose power is off."""
    raise Declared


@lun_faults.method(returns="loss")
def power_loss(lun: LunId, seed: int | None = None, back_after: float | None = None) -> Loss:
    """Take a LUN's power, and a random part of what was not flushed.

    The LUN must be volatile. back_after: seconds after which the power comes back; None: with
    `power_on`. Without power already: nothing more is lost.
    """
    raise Declared


@lun_faults.method()
def power_on(lun: LunId) -> None:
    """Give a LUN its power back, at once; that it has it is no error."""
    raise Declared


@lun_faults.method()
def record_writes(lun: LunId, log: str) -> None:
    """Record what is written to a LUN in a new file, by its absolute path on the machine.

    That the LUN is being recorded there already is no error.
    """
    raise Declared


@lun_faults.method(returns="entries")
def stop_writes(lun: LunId) -> int:
    """End a recording; return how many entries the log has."""
    raise Declared


@lun_faults.method(returns="entry")
def mark_writes(lun: LunId, name: str) -> int:
    """Put a mark into a LUN's log; return the number of its entry."""
    raise Declared


@lun_faults.method(returns="recordings")
def list_recordings() -> list[WriteLogStatus]:
    """Return what is being recorded."""
    raise Declared
