"""Where a host keeps what, in one place, so that a host can live under any directory."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class HostPaths:
    """The directories of a host.

    run: sockets and the tree of device objects. state: what outlives a restart.
    mnt: drive letters. dev: parent of `by-id`. outside: sockets of what lives outside.
    """

    run: Path = Path("/run/vssemu")
    state: Path = Path("/var/lib/vssemu")
    mnt: Path = Path("/mnt")
    dev: Path = Path("/dev/vss")
    outside: Path = Path("/run/vssemu/outside")

    @property
    def catalog(self) -> Path:
        """The host's own database."""
        return self.state / "host.db"

    @property
    def faults(self) -> Path:
        """What tests armed, see `vssemu.faults`."""
        return self.state / "faults"

    @property
    def by_id(self) -> Path:
        """Links to the devices of this host's partitions."""
        return self.dev / "by-id"

    @property
    def global_root(self) -> Path:
        """The mount point of devicefs."""
        return self.run / "GLOBALROOT"

    @property
    def init_socket(self) -> Path:
        """Where PID 1 takes requests for device nodes."""
        return self.run / "init.sock"

    @property
    def guard_socket(self) -> Path:
        """Where holdguard listens."""
        return self.outside / "holdguard.sock"

    @property
    def array_socket(self) -> Path:
        """Where the array listens to this host."""
        return self.outside / "array.sock"
