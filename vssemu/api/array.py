"""The array's two interfaces: io.vssemu.array.Initiator and io.vssemu.array.Admin.

The initiator interface is served on a socket of its own for each host: the socket is the
identity. Rights and states: `vssemu.vss.array`.
"""

from vssemu.rpc.interface import Declared, Interface
from vssemu.vss.array import (
    ArrayLun,
    Exported,
    Imported,
    LunKind,
    OpenFile,
    PoolStatus,
    View,
)
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId
from vssemu.vss.lun import LunInformation

initiator = Interface("io.vssemu.array.Initiator", "What a host may ask of the array.")
admin = Interface("io.vssemu.array.Admin", "What the array's administrator may ask.")


@initiator.method(returns="names")
def initiator_names() -> list[Initiator]:
    """Return the names by which the array knows this host."""
    raise Declared


@initiator.method(returns="luns")
def luns() -> list[ArrayLun]:
    """Return the LUNs unmasked to this host."""
    raise Declared


@initiator.method(returns="possible")
def can_copy(luns: list[LunId], kind: LunKind) -> bool:
    """Tell whether copies of these LUNs could be made now; no side effect."""
    raise Declared


@initiator.method()
def prepare(
    set_id: SnapshotSetId, luns: list[LunId], kind: LunKind, auto_release: bool = False
) -> None:
    """Begin a copy of LUNs for a set; more LUNs may be added by further calls.

    auto_release: the set ends with its requester; when the pool fills up it goes first.
    """
    raise Declared


@initiator.method()
def finish_prepare(set_id: SnapshotSetId) -> None:
    """Wait until the set's copies are ready to be committed."""
    raise Declared


@initiator.method(returns="copies")
def commit(set_id: SnapshotSetId) -> list[LunInformation]:
    """Take the copies, all at one instant, and return their records in order of prepare."""
    raise Declared


@initiator.method()
def settle(set_id: SnapshotSetId) -> None:
    """Make committed copies durable; called when writes flow again."""
    raise Declared


@initiator.method()
def abort(set_id: SnapshotSetId) -> None:
    """Drop the copies of a set that was not handed out; idempotent."""
    raise Declared


@initiator.method(returns="copies")
def copies_of(set_id: SnapshotSetId, sources: list[LunId]) -> list[LunInformation]:
    """Return the committed copies' records of a set this host made, by source."""
    raise Declared


@initiator.method()
def surface(records: list[LunInformation]) -> None:
    """Claim copies and unmask them to this host. Refused for a copy claimed before."""
    raise Declared


@initiator.method()
def retract(records: list[LunInformation]) -> None:
    """Mask LUNs from this host; they must be detached from it.

    A copy that this host claimed, and that was not broken, may be surfaced anew after that.
    """
    raise Declared


@initiator.method()
def share(record: LunInformation, initiator: Initiator) -> None:
    """Unmask a LUN whose record this host holds, broken out of its set, to a host."""
    raise Declared


@initiator.method()
def set_independent(records: list[LunInformation]) -> None:
    """The set was broken: its LUNs belong to the administrator from now on."""
    raise Declared


@initiator.method()
def set_import_failed(records: list[LunInformation]) -> None:
    """The import of these LUNs failed; they stay until they are reclaimed."""
    raise Declared


@initiator.method()
def reclaim(record: LunInformation) -> None:
    """Delete a copy for good and free its space; idempotent."""
    raise Declared


@initiator.method(returns="size", sends_descriptor=True)
def attach(lun: LunId, view: View, writable: bool) -> int:
    """Return a descriptor of a LUN's bytes and its size in bytes.

    Loop fabric only. Bindings that a crash left behind are drained first.
    """
    raise Declared


@initiator.method()
def discard_scratch(lun: LunId) -> None:
    """Remove the scratch clone of a copy."""
    raise Declared


@initiator.method(returns="flags")
def lun_flags(lun: LunId) -> int:
    """Return the attribute bits (GptFlags) that are kept with a LUN.

    They are those of a file system on the whole LUN, which has no partition table for them.
    """
    raise Declared


@initiator.method()
def set_lun_flags(lun: LunId, flags: int) -> None:
    """Replace the attribute bits (GptFlags) of a LUN. Its copies get those of their instant."""
    raise Declared


@initiator.method(returns="number")
def reserve_device() -> int:
    """Return the number of a free loop device and admit this host to it. Loop fabric only."""
    raise Declared


@initiator.method(more=True)
def watch() -> None:
    """Stream a prompt to look whenever what this host may see has changed."""
    raise Declared


@admin.method(returns="lun")
def create_lun(size: int) -> ArrayLun:
    """Create a thin LUN of `size` bytes, a multiple of 1 MiB."""
    raise Declared


@admin.method()
def delete_lun(lun: LunId) -> None:
    """Delete a LUN that is mapped nowhere and the parent of no copy."""
    raise Declared


@admin.method(returns="lun")
def extend_lun(lun: LunId, size: int) -> ArrayLun:
    """Grow a LUN to `size` bytes; its hosts see the new size after a rescan."""
    raise Declared


@admin.method()
def mask_lun(lun: LunId, initiator: Initiator, surprise: bool = False) -> None:
    """Mask a LUN from a host: refused while it is in use there, unless by surprise."""
    raise Declared


@admin.method()
def unmask_lun(lun: LunId, initiator: Initiator, shared: bool = False) -> None:
    """Unmask a LUN to a host, which must rescan.

    Refused while another host sees it, unless they are said to share it, as a cluster does.
    """
    raise Declared


@admin.method(more=True)
def export_cow(lun: LunId, store: OpenFile, origin: OpenFile | None = None) -> Exported:
    """Write a snapshot as an exception store of its own; the last element has the result.

    It fits the bytes that its origin has at this moment, which are written as well if a file
    is given for them; without, no host may use the origin. Ends with its caller.
    Engine cow only.
    """
    raise Declared


@admin.method(more=True)
def import_cow(origin: OpenFile, store: OpenFile) -> Imported:
    """Make an origin and a snapshot of an image and its exception store, which are copied.

    The last element has the result. Ends with its caller, and nothing is left then.
    Engine cow only.
    """
    raise Declared


@admin.method(returns="luns")
def inventory() -> list[ArrayLun]:
    """Return every LUN."""
    raise Declared


@admin.method()
def pool_status() -> PoolStatus:
    """Return the pool's figures."""
    raise Declared


@admin.method()
def add_initiator(initiator: Initiator) -> None:
    """Admit a host: make its socket."""
    raise Declared


@admin.method()
def remove_initiator(initiator: Initiator) -> None:
    """Expel a host: withdraw its LUNs by surprise, close its socket."""
    raise Declared
