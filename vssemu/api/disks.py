r"""io.vssemu.Disks: what the Virtual Disk Service is to a requester.

LUNs, disks and volumes of this host, with requester rights: read/write, letters, masking,
and the clean-up after a failed import. Source: breaking-shadow-copies; IVdsVolume, IVdsLun.
"""

from vssemu.rpc.interface import Declared, Interface
from vssemu.vss.host import Disk, Volume
from vssemu.vss.identity import Initiator, LunId, SnapshotSetId

disks = Interface("io.vssemu.Disks", __doc__)


@disks.method(returns="disks")
def list_disks() -> list[Disk]:
    """Return the LUNs on this host, those of failed imports among them."""
    raise Declared


@disks.method(returns="volumes")
def list_volumes() -> list[Volume]:
    """Return the volumes on this host, hidden ones among them."""
    raise Declared


@disks.method()
def rescan() -> None:
    """Look for LUNs that were unmasked to this host or masked from it."""
    raise Declared


@disks.method(returns="volume")
def create_volume(
    lun: LunId,
    filesystem: str,
    label: str | None,
    path: str | None,
    size: int | None = None,
    whole: bool = False,
) -> str:
    r"""Make a volume on a LUN, format it, and mount it at a letter (`X:\`) or folder.

    It is a partition (GPT) of `size` bytes, a multiple of 1 MiB, beside those that are there;
    None takes the largest room. whole: the file system takes all of the LUN, without a table.
    Returns the volume's GUID name. Refused for a LUN without room, or, if whole, that is not
    empty; it is then as it was.
    """
    raise Declared


@disks.method()
def make_read_write(volume: str) -> None:
    """Clear the volume's attribute bits, so that it can be mounted writable.

    Refused (VSS_E_BAD_STATE) for a shadow copy that VSS still manages.
    """
    raise Declared


@disks.method(returns="mounted_at")
def add_access_path(volume: str, path: str) -> str:
    r"""Give a volume a letter (`X:\`) or a folder and mount it there."""
    raise Declared


@disks.method()
def remove_access_path(path: str) -> None:
    r"""Dismount a volume from a letter (`X:\`) or a folder."""
    raise Declared


@disks.method()
def mask(lun: LunId) -> None:
    """Dismount what is on a LUN, detach it, and mask it from this host."""
    raise Declared


@disks.method()
def unmask(lun: LunId, initiator: Initiator) -> None:
    """Unmask a LUN that this host holds the record of to a host; that host must rescan."""
    raise Declared


@disks.method(returns="removed")
def clean_up(snapshot_set_id: SnapshotSetId) -> list[LunId]:
    """Give the LUNs of a failed import back to the array, which removes them."""
    raise Declared
