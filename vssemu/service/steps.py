"""The rows of the service's sequences: each is a step of a trace and two fault points.

The row ROW of the sequence SEQ is the step `ROW` of its trace, and the points `SEQ.ROW` at its
begin and `SEQ.ROW.done` at its end. Rows that bring LUNs to this host are the same in a
creation that is not transportable, in an import, and where a break puts back what it could not
mask. What requesters do between their calls is no row.

number: the row's place in the order of events; parts of one row share it.
Source: shadow-copy-creation-for-providers and the sequence diagram there;
importing-transportable-shadow-copied-volumes; breaking-shadow-copies; OnLunEmpty.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class Step(Enum):
    """A row of a sequence; the value is its name."""

    number: int

    def __new__(cls, name: str, number: int) -> "Step":
        """Make a row of a name and a number."""
        row = object.__new__(cls)
        row._value_ = name
        row.number = number
        return row


class CreationStep(Step):
    """A backup from GatherWriterMetadata to the end of its session."""

    IDENTIFY = "identify", 1
    START_SNAPSHOT_SET = "start_snapshot_set", 3
    ARE_LUNS_SUPPORTED = "are_luns_supported", 4
    BEGIN_PREPARE = "begin_prepare_snapshot", 4
    PREPARE_BACKUP = "prepare_backup", 5
    END_PREPARE = "end_prepare_snapshots", 7
    SET_FLAGS = "set_flags", 8
    PREPARE_SNAPSHOT = "prepare_snapshot", 9
    FREEZE_FRONT_END = "freeze_front_end", 10
    FREEZE_BACK_END = "freeze_back_end", 10
    FREEZE_SYSTEM = "freeze_system", 10
    PRE_COMMIT = "pre_commit_snapshots", 11
    HOLD = "hold", 12
    COMMIT = "commit_snapshots", 13
    RELEASE = "release", 14
    CLEAR_FLAGS = "clear_flags", 15
    POST_COMMIT = "post_commit_snapshots", 16
    THAW = "thaw", 17
    GET_TARGET_LUNS = "get_target_luns", 18
    PRE_FINAL_COMMIT = "pre_final_commit_snapshots", 20
    POST_SNAPSHOT = "post_snapshot", 20
    POST_FINAL_COMMIT = "post_final_commit_snapshots", 20
    FINISH = "finish", 21
    BACKUP_COMPLETE = "backup_complete", 23
    BACKUP_SHUTDOWN = "backup_shutdown", 24


class ArrivalStep(Step):
    """LUNs come to this host: row 19 of a creation, and the middle of an import."""

    LOCATE_LUNS = "locate_luns", 19
    RESCAN = "rescan", 19
    WAIT_ARRIVAL = "wait_arrival", 19
    FILL_IN_LUN_INFO = "fill_in_lun_info", 19
    GIVE_NEW_IDENTITY = "give_new_identity", 19
    SURFACE = "surface", 19


class ImportStep(Step):
    """ImportSnapshots, what stands before and after the arrival."""

    CHECK = "check", 1
    NOTE = "note", 2
    FINISH = "finish", 20


class DeletionStep(Step):
    """The end of one shadow copy: by DeleteSnapshots, a release, or a restart."""

    RETIRE = "retire", 1
    REMOVE = "remove", 2
    FILL_IN_LUN_INFO = "fill_in_lun_info", 3
    ON_LUN_EMPTY = "on_lun_empty", 4
    FORGET = "forget", 5


class BreakStep(Step):
    """BreakSnapshotSet and BreakSnapshotSetEx; `mask` stands alone, the others do not need it."""

    RELEASE = "release", 1
    FORGET = "forget", 2
    MAKE_READ_WRITE = "make_read_write", 3
    NOTIFY_READ_WRITE = "notify_read_write", 4
    TAKE_OFF = "take_off", 5
    MASK = "mask", 6
    FORGET_MASKED = "forget_masked", 7


CREATION: Final = "creation"
IMPORT: Final = "import"
DELETE: Final = "delete"
BREAK: Final = "break"

ROWS: Final[Mapping[str, tuple[Step, ...]]] = MappingProxyType(
    {
        CREATION: tuple(sorted((*CreationStep, *ArrivalStep), key=lambda step: step.number)),
        IMPORT: tuple(sorted((*ImportStep, *ArrivalStep), key=lambda step: step.number)),
        DELETE: tuple(DeletionStep),
        BREAK: tuple(BreakStep),
    }
)
"""Sequence -> its rows in the order in which they come."""


def point(sequence: str, step: Step, *, done: bool = False) -> str:
    """Return the name of the fault point at a row's begin, or at its end."""
    return f"{sequence}.{step.value}{'.done' if done else ''}"


def points() -> Iterator[str]:
    """Yield every fault point of the service, in the order of the sequences."""
    for sequence, rows in ROWS.items():
        for step in rows:
            yield point(sequence, step)
            yield point(sequence, step, done=True)
