"""The rows of VSS's sequences: each is a step of a trace and two fault points of the service.

The row ROW of the sequence SEQ is the step `ROW` of its trace, and the points `SEQ.ROW` at its
begin and `SEQ.ROW.done` at its end. Rows that bring LUNs to a host are the same in a creation
that is not transportable, in an import, and where a break puts back what it could not mask.
What requesters do between their calls is no row.

number: the row's place in the order of events; parts of one row share it. text: what happens.
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
    text: str

    def __new__(cls, name: str, number: int, text: str) -> "Step":
        """Make a row of its name, number and text."""
        row = object.__new__(cls)
        row._value_ = name
        row.number = number
        row.text = text
        return row


class CreationStep(Step):
    """A backup from GatherWriterMetadata to the end of its session."""

    IDENTIFY = "identify", 1, "Identify to the writers"
    START_SNAPSHOT_SET = "start_snapshot_set", 3, "the creation slot is taken"
    ARE_LUNS_SUPPORTED = "are_luns_supported", 4, "the choice of a volume's provider"
    BEGIN_PREPARE = "begin_prepare_snapshot", 4, "BeginPrepareSnapshot"
    PREPARE_BACKUP = "prepare_backup", 5, "PrepareBackup to the writers"
    END_PREPARE = "end_prepare_snapshots", 7, "EndPrepareSnapshots"
    SET_FLAGS = "set_flags", 8, "the attribute bits of the source volumes are set"
    PREPARE_SNAPSHOT = "prepare_snapshot", 9, "PrepareSnapshot to the writers"
    FREEZE_FRONT_END = "freeze_front_end", 10, "Freeze to the front-end writers"
    FREEZE_BACK_END = "freeze_back_end", 10, "Freeze to the back-end writers"
    FREEZE_SYSTEM = "freeze_system", 10, "Freeze to the system's writers"
    PRE_COMMIT = "pre_commit_snapshots", 11, "PreCommitSnapshots, applications being frozen"
    HOLD = "hold", 12, "the volumes are flushed and held"
    COMMIT = "commit_snapshots", 13, "CommitSnapshots, writes being held"
    RELEASE = "release", 14, "writes go on"
    CLEAR_FLAGS = "clear_flags", 15, "the source volumes get their attribute bits back"
    POST_COMMIT = "post_commit_snapshots", 16, "PostCommitSnapshots"
    THAW = "thaw", 17, "Thaw to the writers"
    GET_TARGET_LUNS = "get_target_luns", 18, "GetTargetLuns"
    PRE_FINAL_COMMIT = "pre_final_commit_snapshots", 20, "PreFinalCommitSnapshots"
    POST_SNAPSHOT = "post_snapshot", 20, "PostSnapshot to the writers"
    POST_FINAL_COMMIT = "post_final_commit_snapshots", 20, "PostFinalCommitSnapshots"
    FINISH = "finish", 21, "the set goes into the document or the catalog"
    BACKUP_COMPLETE = "backup_complete", 23, "BackupComplete to the writers"
    BACKUP_SHUTDOWN = "backup_shutdown", 24, "BackupShutdown to the writers"


class ArrivalStep(Step):
    """LUNs come to a host: row 19 of a creation, and the middle of an import."""

    LOCATE_LUNS = "locate_luns", 19, "LocateLuns"
    RESCAN = "rescan", 19, "the host looks for new LUNs"
    WAIT_ARRIVAL = "wait_arrival", 19, "the host waits until the LUNs are there"
    FILL_IN_LUN_INFO = "fill_in_lun_info", 19, "FillInLunInfo, and the match with the records"
    GIVE_NEW_IDENTITY = "give_new_identity", 19, "the LUNs get disk and partition ids of their own"
    SURFACE = "surface", 19, "the device objects come up"


class ImportStep(Step):
    """ImportSnapshots: what stands before and after the arrival."""

    CHECK = "check", 1, "the host is asked whether the set is here already"
    NOTE = "note", 2, "the import is noted in the catalog"
    FINISH = "finish", 20, "what came is kept, what did not is marked"


class DeletionStep(Step):
    """The end of one shadow copy: by DeleteSnapshots, a release, or a restart."""

    RETIRE = "retire", 1, "the device object and its mounts go"
    REMOVE = "remove", 2, "the LUNs are taken off the host"
    FILL_IN_LUN_INFO = "fill_in_lun_info", 3, "FillInLunInfo for an emptied LUN"
    ON_LUN_EMPTY = "on_lun_empty", 4, "OnLunEmpty"
    FORGET = "forget", 5, "the catalog forgets the shadow copy"


class BreakStep(Step):
    """BreakSnapshotSet and BreakSnapshotSetEx; from TAKE_OFF on the rows of a masking."""

    RELEASE = "release", 1, "the device object becomes that of a plain volume"
    FORGET = "forget", 2, "the catalog forgets the shadow copy"
    MAKE_READ_WRITE = "make_read_write", 3, "the LUNs become writable"
    NOTIFY_READ_WRITE = "notify_read_write", 4, "OnLunStateChange: they can be written"
    TAKE_OFF = "take_off", 5, "the LUNs are taken off the host"
    MASK = "mask", 6, "OnLunStateChange: they are to be masked"
    FORGET_MASKED = "forget_masked", 7, "host and catalog forget the set"


CREATION: Final = "creation"
IMPORT: Final = "import"
DELETE: Final = "delete"
BREAK: Final = "break"

ROWS: Final[Mapping[str, tuple[Step, ...]]] = MappingProxyType(
    {
        CREATION: tuple(sorted((*CreationStep, *ArrivalStep), key=lambda step: step.number)),
        IMPORT: tuple(sorted((*ImportStep, *ArrivalStep), key=lambda step: step.number)),
        DELETE: tuple(DeletionStep),
        BREAK: (*BreakStep, *ArrivalStep),
    }
)
"""Sequence -> its rows in the order in which they come."""


def point(sequence: str, step: Step, *, done: bool = False) -> str:
    """Return the name of the fault point at a row's begin, or at its end."""
    return f"{sequence}.{step.value}{'.done' if done else ''}"


def points() -> Iterator[tuple[str, str]]:
    """Yield the name of every fault point and what it is, in the order of the sequences."""
    for sequence, rows in ROWS.items():
        for step in rows:
            yield point(sequence, step), f"before {step.text}"
            yield point(sequence, step, done=True), f"after {step.text}"
