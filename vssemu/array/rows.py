"""What the journal holds, as values: LUNs, sets, operations under way."""

from dataclasses import dataclass
from enum import Enum

from vssemu.array.naming import information
from vssemu.vss.array import ArrayLun, LunKind, LunState
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId
from vssemu.vss.lun import LunInformation


class SetState(Enum):
    """The life of a snapshot set in the array, in this order.

    preparing: takes LUNs. prepared: its copies can be committed. committed: taken, not yet
    safe from a loss of power. settled: durable. handed-out: its records were asked for, so
    somebody besides the array knows the copies, and abort has no say any more.
    """

    PREPARING = "preparing"
    PREPARED = "prepared"
    COMMITTED = "committed"
    SETTLED = "settled"
    HANDED_OUT = "handed-out"


class OperationKind(Enum):
    """Operations that the state of LUNs and sets does not tell by itself."""

    CREATE = "create"
    EXTEND = "extend"
    WITHDRAW = "withdraw"


@dataclass(frozen=True, kw_only=True, slots=True)
class LunRow:
    """A LUN. size: bytes. position: its place in its set. claimed_by: who imported it."""

    id: LunId
    serial: str
    size: int
    kind: LunKind
    engine: str
    state: LunState
    origin: LunId | None = None
    set_id: SnapshotSetId | None = None
    position: int | None = None
    claimed_by: Initiator | None = None
    masked_to: tuple[Initiator, ...] = ()

    @property
    def information(self) -> LunInformation:
        """The LUN's record."""
        return information(self.id, self.serial)

    @property
    def is_copy(self) -> bool:
        """True for a snapshot or clone of another LUN, broken out of its set or not."""
        return self.kind is not LunKind.BASE

    def listed(self, allocated: int) -> ArrayLun:
        """Return the LUN as lists show it; allocated: bytes."""
        return ArrayLun(
            id=self.id,
            serial=self.serial,
            size=self.size,
            allocated=allocated,
            kind=self.kind,
            engine=self.engine,
            state=self.state,
            origin=self.origin,
            set_id=self.set_id,
            masked_to=self.masked_to,
            information=self.information,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SetRow:
    """A snapshot set.

    boot: the machine's boot in which it was committed. auto_release: ends with its requester.
    """

    id: SnapshotSetId
    owner: Initiator
    kind: LunKind
    state: SetState
    boot: str | None = None
    auto_release: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class OperationRow:
    """An operation under way. size: bytes, of create and extend."""

    number: int
    kind: OperationKind
    lun: LunId
    initiator: Initiator | None = None
    size: int | None = None
