"""The kill table: who is killed where, and what must be seen of it afterwards.

A cell is a victim and a point. The service stands still at the point, the victim is killed
(all its processes on the host that acts, by SIGKILL; `host` is a power-off; arrayd is the one
of all hosts), and the service goes on. arrayd, holdguard and devicefs are back before that,
except while writes are held: there nobody can wait, but for arrayd when it took the copies.
lunfs is all shards of the cow engine, in a lab that has it; they come back at once, and nobody
misses them, in the hold neither.

A creation (of a set that another host may import; in row 19 of one that comes up here) runs on
systemOne, with a writer that has a component. Import, deletion and break run on systemTwo: an
import of a set whose creator still holds it, deletion and break of a persistent one.

Whatever the cell, and so not in the table: no volume stays frozen or marked, mounts and loop
devices are those of before, and the next operation of the same kind goes well.
"""

from dataclasses import dataclass
from enum import Enum

from vssemu.vss import steps
from vssemu.vss.steps import ArrivalStep, BreakStep, CreationStep, DeletionStep, ImportStep, Step


class Victim(Enum):
    """Who is killed."""

    REQUESTER = "requester"
    VSSD = "vssd"
    PROVIDER = "provider"
    DEVICEFS = "devicefs"
    HOST = "host"
    ARRAYD = "arrayd"
    HOLDGUARD = "holdguard"
    LUNFS = "lunfs"


GONE, FREE, FAILED, HERE = "gone", "committed", "import-failed", "claimed"
PLAIN, WRITABLE, BEGUN = "independent", "independent, writable", "prepared"
DELETING = "deleting"
"""What the array has of the set in the end: nothing; a copy that anybody may import who has
its document; one that waits for the clean-up verb; one that is on its host as before; one that
belongs to the administrator; one that was only begun, which its provider drops at the next
BeginPrepareSnapshot: it hears of no abort before DoSnapshotSet; one whose deletion has begun, and
ends when it is deleted again."""

OK, NOBODY, BROKEN = "ok", "the requester is dead", "connection lost"
VETO, UNEXPECTED = "VSS_E_PROVIDER_VETO", "VSS_E_UNEXPECTED_PROVIDER_ERROR"
NO_HOLD = "VSS_E_HOLD_WRITES_TIMEOUT"


@dataclass(frozen=True)
class Point:
    """A row of a sequence, at its begin or at its end; points of a sequence have an order."""

    sequence: str
    step: Step
    is_end: bool = False

    @property
    def name(self) -> str:
        return steps.point(self.sequence, self.step, done=self.is_end)

    def __gt__(self, other: Step) -> bool:
        """Tell whether a row is over at this point."""
        return self.place > 2 * steps.ROWS[self.sequence].index(other)

    @property
    def place(self) -> int:
        return 2 * steps.ROWS[self.sequence].index(self.step) + self.is_end


@dataclass(frozen=True)
class Seen:
    """What must be seen.

    code: what the requester hears. writer: its Thaw and Abort events, and its BackupShutdown.
    copies: what the array has of the set when the requester has released it.
    """

    code: str
    copies: str
    writer: tuple[str, ...] = ()


def seen(victim: Victim, at: Point) -> Seen:
    """Return what must be seen of a cell."""
    service_dies = victim in (Victim.VSSD, Victim.HOST)
    code = BROKEN if service_dies else NOBODY if victim is Victim.REQUESTER else OK
    match at.sequence:
        case steps.CREATION:
            return _creation(victim, at, code)
        case steps.IMPORT:
            # A requester's death undoes an import, and so does the service's before it is in
            # the catalog; a LUN that has arrived stays for the clean-up verb. Who else dies is
            # not missed.
            cut_off = code == NOBODY or (code == BROKEN and not at > ImportStep.FINISH)
            arrived = at > ArrivalStep.LOCATE_LUNS
            return Seen(code, GONE if not cut_off else FAILED if arrived else FREE)
        case steps.DELETE:
            return Seen(code, GONE)  # once begun it is finished, whoever dies
    if at.step in (BreakStep.TAKE_OFF, BreakStep.MASK, BreakStep.FORGET_MASKED):
        return Seen(code, FREE)  # as a deletion
    # The set is broken for good before its volumes are made writable.
    asked = at.step in (BreakStep.MAKE_READ_WRITE, BreakStep.NOTIFY_READ_WRITE)
    written = asked and (at > BreakStep.MAKE_READ_WRITE or not service_dies)
    return Seen(code, WRITABLE if written else PLAIN)


def _creation(victim: Victim, at: Point, code: str) -> Seen:
    begun, saved = at > CreationStep.BEGIN_PREPARE, at > CreationStep.POST_COMMIT
    held = at > CreationStep.HOLD and not at > CreationStep.RELEASE
    if victim is Victim.PROVIDER and begun and not saved:
        code = UNEXPECTED  # what it was making died with it
    if victim is Victim.ARRAYD and begun and not at > CreationStep.COMMIT:
        code = VETO  # a copy that was not taken is not taken after a restart
    if victim is Victim.HOLDGUARD and held:
        code = NO_HOLD
    before = at.place < _place(CreationStep.END_PREPARE)
    left = (code == BROKEN and before) or (code == NOBODY and not at > CreationStep.END_PREPARE)
    return Seen(code, BEGUN if begun and left else GONE, _writer(at, code))


def _place(step: CreationStep) -> int:
    return Point(steps.CREATION, step).place


def _writer(at: Point, code: str) -> tuple[str, ...]:
    told, frozen = at > CreationStep.PREPARE_BACKUP, at > CreationStep.FREEZE_FRONT_END
    thawed, made = at > CreationStep.THAW, at > CreationStep.FINISH
    if code == OK:
        return ("thaw", "backup shutdown")
    if code == BROKEN:  # it sees the service go
        shutdown = ("backup shutdown",) if at > CreationStep.BACKUP_SHUTDOWN else ()
        return ("thaw", *shutdown) if thawed else ("abort",) if frozen else ()
    if code == NOBODY:
        aborted = at.place >= _place(CreationStep.PREPARE_SNAPSHOT) and not made
        events = ("thaw",) * thawed + ("abort",) * aborted
        return (*events, "backup shutdown") if told else events
    return ("abort", "backup shutdown")


def points() -> list[Point]:
    """Return the begin of every row, and the end of the last one of each sequence."""
    rows = {**steps.ROWS, steps.BREAK: tuple(BreakStep)}
    found = [Point(sequence, step) for sequence, steps_ in rows.items() for step in steps_]
    ends = [Point(s, all_[-1], is_end=True) for s, all_ in rows.items() if s != steps.CREATION]
    return [*found, *ends]


WHOLE = [(victim, at) for at in points() for victim in Victim]

_C, _I, _D, _B = steps.CREATION, steps.IMPORT, steps.DELETE, steps.BREAK
DIAGONAL = [
    (Victim.REQUESTER, Point(_C, CreationStep.COMMIT)),
    (Victim.REQUESTER, Point(_I, ArrivalStep.SURFACE)),
    (Victim.REQUESTER, Point(_D, DeletionStep.ON_LUN_EMPTY)),
    (Victim.VSSD, Point(_C, CreationStep.SET_FLAGS)),
    (Victim.VSSD, Point(_C, CreationStep.COMMIT)),
    (Victim.VSSD, Point(_C, CreationStep.GET_TARGET_LUNS)),
    (Victim.VSSD, Point(_I, ArrivalStep.WAIT_ARRIVAL)),
    (Victim.VSSD, Point(_D, DeletionStep.REMOVE)),
    (Victim.VSSD, Point(_B, BreakStep.FORGET)),
    (Victim.VSSD, Point(_B, BreakStep.MASK)),
    (Victim.PROVIDER, Point(_C, CreationStep.END_PREPARE)),
    (Victim.PROVIDER, Point(_C, CreationStep.COMMIT)),
    (Victim.PROVIDER, Point(_I, ArrivalStep.LOCATE_LUNS)),
    (Victim.DEVICEFS, Point(_C, ArrivalStep.SURFACE)),
    (Victim.DEVICEFS, Point(_D, DeletionStep.RETIRE)),
    (Victim.HOST, Point(_C, CreationStep.RELEASE)),
    (Victim.HOST, Point(_I, ArrivalStep.FILL_IN_LUN_INFO)),
    (Victim.ARRAYD, Point(_C, CreationStep.COMMIT)),
    (Victim.ARRAYD, Point(_C, CreationStep.GET_TARGET_LUNS)),
    (Victim.ARRAYD, Point(_D, DeletionStep.ON_LUN_EMPTY)),
    (Victim.HOLDGUARD, Point(_C, CreationStep.PRE_COMMIT)),
    (Victim.HOLDGUARD, Point(_C, CreationStep.COMMIT)),
    (Victim.LUNFS, Point(_C, CreationStep.COMMIT)),
    (Victim.LUNFS, Point(_I, ArrivalStep.SURFACE)),
    (Victim.LUNFS, Point(_D, DeletionStep.ON_LUN_EMPTY)),
]
"""Every victim at telling points, every sequence: what `make test` has time for."""


_ABORTED = ("abort", "backup shutdown")
HANGS = {
    (Victim.PROVIDER, Point(_C, CreationStep.COMMIT)): Seen(NO_HOLD, GONE, _ABORTED),
    (Victim.PROVIDER, Point(_C, CreationStep.PRE_COMMIT)): Seen(UNEXPECTED, GONE, _ABORTED),
    (Victim.ARRAYD, Point(_C, CreationStep.COMMIT)): Seen(NO_HOLD, GONE, _ABORTED),
    (Victim.ARRAYD, Point(_D, DeletionStep.ON_LUN_EMPTY)): Seen(UNEXPECTED, HERE),
    (Victim.LUNFS, Point(_C, CreationStep.COMMIT)): Seen(NO_HOLD, GONE, _ABORTED),
    (Victim.LUNFS, Point(_D, DeletionStep.ON_LUN_EMPTY)): Seen(VETO, DELETING),
}
"""What is seen when the victim hangs (SIGSTOP) until the requester has its answer."""


def name_of(cell: tuple[Victim, Point]) -> str:
    """Return a cell's name, `victim-point`."""
    return f"{cell[0].value}-{cell[1].name}"
