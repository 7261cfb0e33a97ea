"""Where a lab keeps what it keeps.

/var/lib/vssemu/labs/NAME/      state, survives a restart of the machine
    lab.json                    what the lab consists of
    boot                        which start of the machine it was brought up in last
    supervisor.json             the table of the lab's supervisor
    pool/                       the array's pool, unless another directory was named
    faults/                     armed at points of the array, by tests
    logs/                       of arrayd, the guards and the hosts' supervisors
    hosts/HOST/var/             the host's /var/lib/vssemu
    hosts/HOST/root/            mount point on which the host's root tree is built
/run/vssemu/lab/NAME/           gone after a restart of the machine
    supervisor.sock, supervisor.pid, lock, whole
    array.sock                  the array's administration
    lunfs/                      control sockets of the cow engine's shards
    HOST.pid                    PID 1 of the host, as the machine numbers it
    hosts/HOST/                 seen by the host as /run/vssemu/outside
"""

from dataclasses import dataclass
from pathlib import Path

LABS = Path("/var/lib/vssemu/labs")
RUN = Path("/run/vssemu/lab")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabPaths:
    """The paths of one lab."""

    name: str

    @property
    def state(self) -> Path:
        """The state directory."""
        return LABS / self.name

    @property
    def run(self) -> Path:
        """The run-time directory."""
        return RUN / self.name

    @property
    def config(self) -> Path:
        """What the lab consists of."""
        return self.state / "lab.json"

    @property
    def boot(self) -> Path:
        """The id of the machine's start in which the lab was brought up last."""
        return self.state / "boot"

    @property
    def table(self) -> Path:
        """The supervisor's table."""
        return self.state / "supervisor.json"

    @property
    def logs(self) -> Path:
        """Logs of what runs outside the hosts."""
        return self.state / "logs"

    @property
    def faults(self) -> Path:
        """What tests armed at points of the array, see `vssemu.faults`."""
        return self.state / "faults"

    @property
    def default_pool(self) -> Path:
        """The pool when none was named."""
        return self.state / "pool"

    @property
    def lock(self) -> Path:
        """Held while the lab is brought up or down."""
        return self.run / "lock"

    @property
    def whole(self) -> Path:
        """There once the lab was brought up to the end."""
        return self.run / "whole"

    @property
    def supervisor_socket(self) -> Path:
        """The supervisor's control socket."""
        return self.run / "supervisor.sock"

    @property
    def supervisor_pid(self) -> Path:
        """The supervisor's process identity."""
        return self.run / "supervisor.pid"

    @property
    def array_socket(self) -> Path:
        """The array's administration."""
        return self.run / "array.sock"

    @property
    def shards(self) -> Path:
        """The control sockets of the cow engine's shards, lunfs-N.sock."""
        return self.run / "lunfs"

    def host_state(self, host: str) -> Path:
        """Return the state directory of a host."""
        return self.state / "hosts" / host

    def host_outside(self, host: str) -> Path:
        """Return the directory that the host sees as /run/vssemu/outside."""
        return self.run / "hosts" / host

    def host_pid(self, host: str) -> Path:
        """Return the file with the identity of the host's PID 1."""
        return self.run / f"{host}.pid"


def all_labs() -> list[str]:
    """Return the names of the labs that left anything on this machine, sorted."""
    return sorted(
        {d.name for base in (LABS, RUN) if base.is_dir() for d in base.iterdir() if d.is_dir()}
    )
