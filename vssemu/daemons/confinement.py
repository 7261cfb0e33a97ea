"""What root on a namespace host may not do, lest it reach what the array masks from it."""

from vssemu.linux import capabilities
from vssemu.linux.capabilities import Capability

WITHHELD = (
    Capability.MKNOD,  # any loop device of the machine could be opened through an own node
    Capability.DAC_READ_SEARCH,  # open_by_handle_at reaches files, and the fence, by inode
    Capability.SYS_PTRACE,  # init and others outside the set hold what is withheld here
    Capability.SYS_MODULE,
    Capability.SYS_RAWIO,
    Capability.SYS_BOOT,
)


def confine() -> None:
    """Give the withheld capabilities up, for this process and all that it starts."""
    capabilities.drop(WITHHELD)
