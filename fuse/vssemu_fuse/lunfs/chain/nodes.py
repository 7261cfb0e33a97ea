"""A node of a chain: an origin or a snapshot, what it has of its own, and who is at it.

    eldest snapshot … younger snapshots … origin        (`elder` to the left, `younger` right)

A view of a node shows, chunk by chunk, the node's own entry, else what the next younger node
shows; the origin has every chunk. Chunks are numbered from 0; places are bytes in a file.
Owns the look-ups. What changes a node is in `copying`, `handing`, `holding` and `chain`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from vssemu.stores.format import capacity, exceptions_per_area, next_data_chunk
from vssemu_fuse.lunfs.io.view import BLOCK
from vssemu_fuse.lunfs.io.work import Gate, Tally

if TYPE_CHECKING:
    from vssemu.vss.identity import LunId
    from vssemu_fuse.lunfs.chain.holding import Hold
    from vssemu_fuse.lunfs.io.disk import Disk


class Ticket(Gate):
    """What waits for entries that are being made. It opens when none of them is left.

    failed: some of them were not made, their node is invalid now.
    """

    __slots__ = ("failed", "left")

    def __init__(self) -> None:
        super().__init__()
        self.left = 0
        self.failed = False

    def settle_one(self, *, failed: bool = False) -> None:
        """One entry was made, or will never be."""
        self.failed |= failed
        self.left -= 1
        if not self.left:
            self.open()


class Wanted:
    """An entry that is to be made.

    data: what is written to the chunk, from byte `within` of it on; all the rest is copied
    from the old view. None: all is copied. is_hole: the chunk is to be zero.
    """

    __slots__ = ("chunk", "data", "is_hole", "ticket", "within")

    def __init__(
        self,
        chunk: int,
        ticket: Ticket,
        data: memoryview | None = None,
        within: int = 0,
        *,
        is_hole: bool = False,
    ) -> None:
        self.chunk = chunk
        self.ticket = ticket
        self.data = data
        self.within = within
        self.is_hole = is_hole


class Run:
    """Neighbouring chunks that lie as neighbours with one node: `length` bytes from `place` on.

    first, last: the chunks.
    """

    __slots__ = ("first", "last", "length", "owner", "place")

    def __init__(self, owner: Node, place: int, length: int, chunk: int) -> None:
        self.owner = owner
        self.place = place
        self.length = length
        self.first = chunk
        self.last = chunk


class Node:
    """An origin (`younger` is None) or a snapshot.

    disk: image or store. table: own entries, chunk → chunk of the store, only such as may be
    seen. ending: the gate to wait at while the snapshot is being made invalid.
    pending: chunks whose entries are being made. gathered: those of the next commit.
    expected: so many are wanted in the next commit, which waits for them until `patience`, a
    time of the monotonic clock. ahead: bytes of the store up to which it was written once.
    through: reads of other nodes' views that are under way at this one's bytes.
    writes, reads: under way at the node's own view. holds: what keeps its writes back.
    """

    __slots__ = (
        "ahead",
        "block",
        "capacity",
        "chunks",
        "committed",
        "count",
        "disk",
        "elder",
        "ending",
        "enough",
        "expected",
        "gathered",
        "holds",
        "is_committing",
        "is_settled",
        "lun",
        "next_chunk",
        "patience",
        "pending",
        "reads",
        "released",
        "size",
        "table",
        "through",
        "through_left",
        "valid",
        "writes",
        "younger",
    )  # fmt: skip

    def __init__(self, lun: LunId, disk: Disk, size: int) -> None:
        self.lun = lun
        self.disk = disk
        self.size = size
        self.chunks = 0
        self.elder: Node | None = None
        self.younger: Node | None = None
        self.valid = True
        self.ending: Gate | None = None

        self.table: dict[int, int] = {}
        self.count = 0
        self.capacity = 0
        self.next_chunk = 0
        self.ahead = 0
        self.block = bytes(BLOCK)
        self.is_settled = False

        self.pending: dict[int, Ticket] = {}
        self.gathered: deque[Wanted] = deque()
        self.enough = Gate()
        self.expected = 0
        self.patience = 0.0
        self.is_committing = False
        self.committed = Gate()

        self.through: set[Run] = set()
        self.through_left = Gate()
        self.writes = Tally()
        self.reads = Tally()
        self.holds: set[Hold] = set()
        self.released = Gate()

    def measure(self, chunk_size: int) -> None:
        """Take the sizes in chunks over; for a snapshot, an empty store."""
        self.chunks = self.size // chunk_size
        if self.younger is not None:
            self.ahead = 0
            self.capacity = capacity(self.disk.size, chunk_size)
            self.next_chunk = next_data_chunk(0, exceptions_per_area(chunk_size))

    def reading_through(self, first: int, last: int) -> bool:
        """Tell whether reads of other views are under way at some of the chunks."""
        return any(run.first <= last and first <= run.last for run in self.through)


def owner_of(node: Node, chunk: int) -> tuple[Node, int]:
    """Return whose bytes a view shows in a chunk, and which chunk of its file they are."""
    while True:
        new = node.table.get(chunk)
        if new is not None:
            return node, new
        if node.younger is None:
            return node, chunk
        node = node.younger


def runs_of(node: Node, offset: int, length: int, chunk_size: int) -> list[Run]:
    """Return where the bytes of a view lie, in order."""
    runs: list[Run] = []
    end = offset + length
    run: Run | None = None
    while offset < end:
        chunk, within = divmod(offset, chunk_size)
        taken = min(chunk_size - within, end - offset)
        owner, at = owner_of(node, chunk)
        place = at * chunk_size + within
        if run is not None and run.owner is owner and run.place + run.length == place:
            run.length += taken
            run.last = chunk
        else:
            run = Run(owner, place, taken, chunk)
            runs.append(run)
        offset += taken
    return runs


def enter(runs: list[Run]) -> None:
    """Note that reads at the runs begin."""
    for run in runs:
        run.owner.through.add(run)


def leave(runs: list[Run]) -> None:
    """Note that the reads at the runs are done."""
    for run in runs:
        run.owner.through.discard(run)
        run.owner.through_left.open()
