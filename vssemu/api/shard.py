"""io.vssemu.array.Shard: what the array asks of one lunfs.

A *chain* is an origin with all its snapshots; each of them is a node, served as a file of the
shard's mount under its name: the LUN's id, or the id with a suffix for what belongs to a LUN
(`naa.….scratch`). Every call is idempotent and may be repeated when its answer was lost.
Only root reaches the socket. Raises VssError: BadState, InvalidArgument, ObjectNotFound,
InsufficientStorage, Fail.
"""

from dataclasses import dataclass

from vssemu.rpc.interface import Declared, Interface
from vssemu.vss.engine import CopyPair, Usage
from vssemu.vss.identity import LunId

shard = Interface("io.vssemu.array.Shard", __doc__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainFacts:
    """What is known of a node and its chain. Sizes: bytes.

    origin: of the chain; the node itself for an origin. chain: eldest first, the origin last.
    chunk_size: 0 while the chain never had a snapshot. exceptions: entries of the node's own.
    store_used, store_total: of the node's store; 0 for an origin. is_valid: False for a
    snapshot whose store was full or was emptied.
    """

    origin: LunId
    chain: tuple[LunId, ...]
    size: int
    chunk_size: int
    exceptions: int
    store_used: int
    store_total: int
    is_valid: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Bytes of a view, from `offset` on."""

    offset: int
    length: int


RUNS = 20_000
"""As many runs are in one answer at most."""


@shard.method(returns="number", sends_descriptor=True)
def mount() -> int:
    """Return the shard's number, and a descriptor of its mount, which is mounted nowhere."""
    raise Declared


@shard.method(returns="luns")
def serve(pid: int, descriptor: int, shards: int | None = None) -> list[LunId]:
    """Serve the chains in a directory that have this shard's number; return all their nodes.

    pid, descriptor: where the directory of the LUNs' directories is open. shards: how many
    there are; what belongs to a number beyond is divided among them. The same directory again
    changes nothing; another one is refused.
    """
    raise Declared


@shard.method()
def create(lun: LunId, size: int) -> None:
    """Make an origin of `size` bytes, all zero, durably; one that is there stays."""
    raise Declared


@shard.method()
def adopt(origin: LunId, snapshot: LunId) -> None:
    """Serve an origin and a snapshot of it whose image and store were put where they belong.

    The chunk size is what the store says. One that is served stays as it is.
    """
    raise Declared


@shard.method()
def extend(lun: LunId, size: int) -> None:
    """Grow an origin to `size` bytes, durably; one that is as large stays. Its file grows."""
    raise Declared


@shard.method()
def remove(lun: LunId) -> None:
    """Remove an origin without snapshots, or a snapshot, whose elders stay as they are.

    One that is not there is no error. Its file must not be in use.
    """
    raise Declared


@shard.method()
def prepare(pairs: list[CopyPair], limit: int | None = None) -> None:
    """Make the stores of snapshots that are to be taken; they are in no chain yet.

    limit: bytes that the store may use; a snapshot that wants more becomes invalid.
    """
    raise Declared


@shard.method(returns="sizes")
def commit(pairs: list[CopyPair]) -> list[int]:
    """Take the snapshots, all at one instant, and return their sizes in bytes.

    Each target becomes its source's elder neighbour. Writes to the sources are held
    meanwhile, unless `hold` holds them already. Safe from a crash, not from a loss of power.
    """
    raise Declared


@shard.method()
def settle(targets: list[LunId]) -> None:
    """Make committed snapshots durable."""
    raise Declared


@shard.method()
def abort(targets: list[LunId]) -> None:
    """Remove snapshots that were prepared, committed or not."""
    raise Declared


@shard.method()
def hold(luns: list[LunId], seconds: float) -> None:
    """Hold the writes to nodes; returns when those that were submitted are done.

    seconds: the hold ends by itself after so long.
    """
    raise Declared


@shard.method(returns="held")
def release(luns: list[LunId]) -> bool:
    """End a hold; tell whether it lasted until now. None being there is False."""
    raise Declared


@shard.method()
def empty(lun: LunId) -> None:
    """Make a snapshot invalid and free its bytes. Its elders stay as they are if room allows."""
    raise Declared


@shard.method()
def usage(lun: LunId) -> Usage:
    """Return a node's size, and what its image or store has on the disk.

    The size is 0 for a snapshot that is invalid.
    """
    raise Declared


@shard.method(returns="luns")
def invalid() -> list[LunId]:
    """Return the snapshots whose data are gone, for want of room or emptied."""
    raise Declared


@shard.method()
def facts(lun: LunId) -> ChainFacts:
    """Return what is known of a node and its chain."""
    raise Declared


@shard.method(returns="runs")
def changed(lun: LunId, start: int = 0, own: bool = False) -> list[Run]:
    """Return where a node's view may differ from its origin's, in order, from `start` on.

    start: bytes. own: only where the node's own store has entries. At most RUNS at a time:
    asked again from the end of the last one, until the answer is empty.
    """
    raise Declared
