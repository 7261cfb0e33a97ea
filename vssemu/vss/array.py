"""The storage array as its two kinds of callers see it.

An *initiator* (a host, known by its socket) sees the LUNs unmasked to it, the sets that it
makes, and the copies whose full record it holds: a record carries the random page 0x80
serial, so holding it is the right to the LUN. The *administrator* sees all. What each may
call is declared in `vssemu.api.array`; here are the facts that travel.
"""

from dataclasses import dataclass
from enum import Enum

from vssemu.vss.identity import Initiator, LunId, SnapshotSetId
from vssemu.vss.lun import LunInformation


class LunKind(Enum):
    """How a LUN came to be."""

    BASE = "base"
    DIFFERENTIAL = "differential"
    PLEX = "plex"


class LunState(Enum):
    """The life of a LUN in the journal; the table is `vssemu.vss.lifecycle.LUN_NEXT`.

    ready: a base LUN. prepared: a copy that is reserved, not yet taken. committed: taken,
    mapped nowhere. claimed: surfaced to one host, which alone may give it back: it is
    committed again then. import-failed: surfaced, but the import did not succeed; waits for
    the clean-up verb. independent: broken out of its set, belongs to the administrator.
    ended: its data are gone, for the pool had no room left for them; waits for its deletion.
    deleting: going.
    """

    READY = "ready"
    PREPARED = "prepared"
    COMMITTED = "committed"
    CLAIMED = "claimed"
    IMPORT_FAILED = "import-failed"
    INDEPENDENT = "independent"
    ENDED = "ended"
    DELETING = "deleting"


class View(Enum):
    """What of a LUN a descriptor opens: the LUN itself, or the scratch clone of a copy."""

    LUN = "lun"
    SCRATCH = "scratch"


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayLun:
    """A LUN in the array's inventory. size, allocated: bytes."""

    id: LunId
    serial: str
    size: int
    allocated: int
    kind: LunKind
    engine: str
    state: LunState
    origin: LunId | None
    set_id: SnapshotSetId | None
    masked_to: tuple[Initiator, ...]
    information: LunInformation


class PoolCondition(Enum):
    """How a pool stands.

    ample: it has the room that it needs. low: it has less; snapshots end, and none is made.
    starved: no snapshot is left to end, and the LUNs were promised more than is left: writes
    to them may fail.
    """

    AMPLE = "ample"
    LOW = "low"
    STARVED = "starved"


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolStatus:
    """The pool: where it lives, its file system, its figures in bytes.

    size: what it can hold. free: what is left of that. allocated: given to LUNs. needed: with
    less than that left, snapshots are ended. ballast: set aside, given up first.
    provisioned: what the LUNs could hold; more than `size` is a promise that can fail.
    luns, ended: how many there are, and how many of them ended for want of room.
    """

    directory: str
    image: str | None
    filesystem: str
    size: int
    free: int
    allocated: int
    needed: int
    ballast: int
    provisioned: int
    luns: int
    ended: int
    condition: PoolCondition


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenFile:
    """A file that the caller has open, for the array to use. name: for messages."""

    descriptor: int
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """How far the export of a snapshot is. done, total: bytes that are gone through.

    chunk_size: bytes. chunks: in the store. None until the end.
    """

    done: int
    total: int
    chunk_size: int | None = None
    chunks: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """How far the import of a snapshot is. done, total: bytes that are gone through.

    origin, snapshot: the LUNs. view_sha256: of the snapshot's bytes. None until the end.
    """

    done: int
    total: int
    origin: LunId | None = None
    snapshot: LunId | None = None
    view_sha256: str | None = None
