"""What the tests of whole labs stand on: a lab, what runs in it, and what it left.

Everything is reached from outside: a host's socket and files through /proc/PID/root of its
PID 1, its processes through the lab's control group, programs through `vssemu lab exec`.
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import etree

import vssemu
from vssemu import Attribute, BackupComponents, BackupType, Context, Vss
from vssemu.api import array as array_api
from vssemu.api import disks as disks_api
from vssemu.api.plans import ExaminedWriter
from vssemu.array import leftovers
from vssemu.lab import config, enter, hosts, supervisor
from vssemu.lab.lab import Lab
from vssemu.lab.paths import LABS, RUN
from vssemu.lab.waiting import until
from vssemu.linux import cgroup, loop
from vssemu.vss.array import ArrayLun
from vssemu.vss.host import Volume
from vssemu.vss.identity import Initiator, LunId, SnapshotId, SnapshotSetId

ROOT = Path(__file__).parents[3]
GRAMMARS = ROOT / "tests/data/grammars"
VSSEMU = str(Path(sys.executable).with_name("vssemu"))
ONE, TWO, THREE = "systemOne", "systemTwo", "systemThree"
HOSTS = (ONE, TWO, THREE)
GLOBALROOT = "/run/vssemu/GLOBALROOT"
MIB = 1 << 20
TRANSPORTABLE = Context.BACKUP | Attribute.TRANSPORTABLE
PERSISTENT = Context.APP_ROLLBACK | Attribute.TRANSPORTABLE
ENGINE = os.environ.get("VSSEMU_ENGINE", "reflink")
"""The engine of all labs of this run but those of tests that name one."""
LUNFS = "vssemu_fuse.lunfs"


class Rig:
    """A lab under test."""

    def __init__(self, name: str, *, pool: Path | None = None, engine: str = ENGINE) -> None:
        self.name = name
        self.engine = engine
        self.lab = Lab(name)
        self.pool = pool or self.lab.paths.default_pool
        self._named_pool = pool
        self.seen_luns: set[LunId] = set()

    def up(self, *volumes: str, hosts: Sequence[str] = (ONE, TWO)) -> None:
        """Bring it up, volumes as the command line has them."""
        self.lab.up(
            config.LabConfig(
                name=self.name,
                hosts=tuple(hosts),
                volumes=tuple(v for text in volumes for v in config.parse_volumes(text)),
                pool=str(self._named_pool) if self._named_pool else None,
                engine=self.engine,
            )
        )

    def down(self) -> None:
        """Take it down, whatever state it is in, and remember whose loop devices it had."""
        self.seen_luns.update(leftovers.lun_ids(self.pool / "array"))
        self.lab.down()

    @property
    def group(self) -> Path:
        base = cgroup.find_cgroup2()
        assert base is not None
        return base / f"vssemu-{self.name}"

    # --- hosts

    def path(self, host: str, path: str) -> Path:
        """Return the path by which the machine reaches a path of a host."""
        return enter.inside(self.lab.paths, host, path)

    @contextmanager
    def vss(self, host: str) -> Iterator[Vss]:
        with vssemu.connect(self.path(host, "/run/vssemu/vss.sock")) as vss:
            yield vss

    @contextmanager
    def backup(self, host: str) -> Iterator[BackupComponents]:
        with self.vss(host) as vss, vss.backup_components() as components:
            yield components

    def exec(
        self, host: str, *argv: str, timeout: float = 60, **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program on a host through the command line and return what came of it."""
        options = {"capture_output": True, "text": True, "cwd": ROOT, **options}
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [VSSEMU, "lab", "exec", "--name", self.name, host, "--", *argv],
            timeout=timeout,
            check=False,
            **options,
        )
        return done

    def run(self, host: str, *argv: str, timeout: float = 60, **options: Any) -> str:
        """Run a program on a host that must succeed; return its standard output."""
        done = self.exec(host, *argv, timeout=timeout, **options)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def running(
        self, host: str, *argv: str, **options: Any
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a program on a host during the block; it gets SIGTERM, then SIGKILL."""
        options = {"cwd": ROOT, **options}
        command = [VSSEMU, "lab", "exec", "--name", self.name, host, "--", *argv]
        with subprocess.Popen(command, **options) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()

    # --- processes

    def pids(self, host: str | None, module: str) -> list[int]:
        """Return the processes of a host (None: outside the hosts) that run a module."""
        group = self.group / (host or "outside")
        found = []
        for pid in cgroup.pids(group) if group.exists() else ():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if pid and module.encode() in words:
                    found.append(pid)
        return found

    def kill(self, host: str | None, module: str) -> None:
        """SIGKILL every process of a host that runs a module; there must be one."""
        victims = self.pids(host, module)
        assert victims, f"{module} does not run on {host}"
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        # os.path.exists: a process that ends under the look (ESRCH) is gone as well.
        eventually(lambda: not any(os.path.exists(f"/proc/{p}/exe") for p in victims))

    def wait_service(self, host: str, name: str = hosts.VSSD) -> None:
        """Wait until a service of a host (again) says that it serves."""
        supervisor.wait_ready(self.path(host, "/run/vssemu/init.sock"), name, seconds=30)

    def restart_vssd(self, host: str) -> None:
        """SIGKILL vssd and wait for its successor."""
        self.kill(host, "vssemu.daemons.vssd")
        eventually(lambda: self.pids(host, "vssemu.daemons.vssd"))
        self.wait_service(host)

    def restart_arrayd(self) -> None:
        """SIGKILL arrayd and wait for its successor."""
        self.kill(None, "vssemu.daemons.arrayd")
        eventually(lambda: self.pids(None, "vssemu.daemons.arrayd"), seconds=30)
        supervisor.wait_ready(self.lab.paths.supervisor_socket, hosts.ARRAY, seconds=30)

    def wait_shards(self) -> None:
        """Wait until every shard of the cow engine serves (again)."""
        control = self.lab.paths.supervisor_socket
        shards = [name for name in supervisor.services(control) if hosts.is_shard(name)]
        for shard in shards:
            supervisor.wait_ready(control, shard, seconds=30)

    def restart_shards(self) -> None:
        """SIGKILL all shards of the cow engine at once and wait for their successors."""
        self.kill(None, LUNFS)
        eventually(lambda: self.pids(None, LUNFS))
        self.wait_shards()

    # --- what is there

    def inventory(self) -> list[ArrayLun]:
        with self.lab.array() as array:
            found: list[ArrayLun] = array.call(array_api.inventory)
        return found

    def lun_ids(self) -> set[LunId]:
        return {lun.id for lun in self.inventory()}

    def volumes(self, host: str) -> list[Volume]:
        with self.vss(host) as vss:
            return vss.client.call(disks_api.list_volumes)

    def rescan(self, host: str) -> None:
        with self.vss(host) as vss:
            vss.client.call(disks_api.rescan)

    def new_volume(self, host: str, letter: str, size: int = 64 * MIB) -> ArrayLun:
        """Make a LUN, unmask it to a host, and put a volume on it."""
        with self.lab.array() as array, self.vss(host) as vss:
            lun = array.call(array_api.create_lun, size)
            array.call(array_api.unmask_lun, lun.id, Initiator(host))
            vss.client.call(disks_api.rescan)
            vss.client.call(disks_api.create_volume, lun.id, "ext4", None, f"{letter}:\\")
        return lun

    def assert_writable(self, host: str, letter: str = "F", *, seconds: float = 10) -> None:
        """Fail unless a drive takes a write, and its fsync, within some seconds.

        A writer that a freeze stops ignores SIGKILL, so it is not waited for then.
        """
        target = self.path(host, f"/mnt/{letter}/.writable")
        process = subprocess.Popen(
            ["dd", "if=/dev/zero", f"of={target}", "bs=4096", "count=1", "conv=fsync"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _, error = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{letter}: on {host} takes no writes") from None
        assert process.returncode == 0, error.decode()

    def log(self, host: str, name: str = "vssd") -> str:
        return self.path(host, f"/var/lib/vssemu/logs/{name}.log").read_text(errors="replace")


@dataclass(frozen=True, kw_only=True)
class Created:
    """A created set as the creator knows it."""

    set_id: SnapshotSetId
    copies: dict[str, SnapshotId]
    writers: list[ExaminedWriter]

    @property
    def copy(self) -> SnapshotId:
        """The only copy."""
        (one,) = self.copies.values()
        return one


def prepared(
    backup: BackupComponents,
    *volumes: str,
    context: int = TRANSPORTABLE,
    components: bool = True,
    backup_type: BackupType = BackupType.FULL,
    provider: Any = None,
) -> Created:
    """Do everything of a backup up to PrepareForBackup; all components of all writers."""
    backup.initialize_for_backup()
    backup.set_context(context)
    backup.set_backup_state(components, False, backup_type)
    with_writers = not context & Attribute.NO_WRITERS
    writers = backup.gather_writer_metadata() if with_writers else []
    for writer in writers if components else ():
        for component in writer.components:
            backup.add_component(writer, component)
    set_id = backup.start_snapshot_set()
    copies = {v: backup.add_to_snapshot_set(v, provider) for v in volumes or ("F:\\",)}
    if with_writers:
        backup.prepare_for_backup()
    return Created(set_id=set_id, copies=copies, writers=writers)


def create(backup: BackupComponents, *volumes: str, **options: Any) -> Created:
    """Create a set of volumes (F: when none is named)."""
    made = prepared(backup, *volumes, **options)
    backup.do_snapshot_set()
    return made


def begin_import(backup: BackupComponents, document: str) -> None:
    """Do what stands before ImportSnapshots."""
    backup.initialize_for_backup(document)
    backup.set_context(Context.ALL)


def import_set(backup: BackupComponents, document: str) -> vssemu.Hresult:
    begin_import(backup, document)
    return backup.import_snapshots()


def complete(backup: BackupComponents, made: Created) -> None:
    """Report every component as backed up and end the backup."""
    for writer in made.writers:
        for component in writer.components:
            backup.set_backup_succeeded(writer, component, True)
    backup.backup_complete()


def eventually(condition: Callable[[], object], *, seconds: float = 10) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    assert until(lambda: bool(condition()), seconds=seconds), "it did not come to pass in time"


def fill(directory: Path, *, files: int = 40) -> None:
    """Write a small tree."""
    for number in range(files):
        below = directory / f"d{number % 4}"
        below.mkdir(parents=True, exist_ok=True)
        (below / f"f{number}").write_bytes(os.urandom(3000 + 977 * number))
    os.sync()


def digest(tree: Path) -> dict[str, str]:
    """Return name -> digest of everything below a directory, lost+found apart."""
    if not tree.is_dir():  # rglob takes what is not there for empty
        raise FileNotFoundError(tree)
    found = {}
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if path.is_file() and not name.startswith(("lost+found", ".writable")):
            found[name] = hashlib.blake2b(path.read_bytes()).hexdigest()
    return found


def grammar_errors(grammar: str, document: str) -> str:
    """Return what a RELAX NG grammar of the documents says against one; empty: it is valid."""
    schema = etree.RelaxNG(etree.parse(str(GRAMMARS / grammar)))
    return "" if schema.validate(etree.fromstring(document.encode())) else str(schema.error_log)


def left_of(name: str, luns: Sequence[str], pool: Path | None = None) -> list[str]:
    """Return what is left on the machine of a lab, a line a thing."""
    marks = [f"/labs/{name}/", *luns, *([str(pool)] if pool else [])]
    left = [
        f"loop{bound.number} is bound to {bound.backing_file}"
        for bound in loop.bound_loops()
        if any(mark in bound.backing_file for mark in marks)
    ]
    places = [f"/labs/{name}/", f"/lab/{name}/", *luns]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    left += [f"mounted: {line}" for line in mounts if any(place in line for place in places)]
    base = cgroup.find_cgroup2()
    assert base is not None
    left += [f"control group {d}" for d in base.glob(f"vssemu-{name}*")]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                in_group = f"/vssemu-{name}" in (entry / "cgroup").read_text()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                # A zombie waits for its parent, which may be this very process.
                is_mine = in_group or f"/labs/{name}/" in words or f"/lab/{name}/" in words
                if is_mine and state not in "ZX":
                    left.append(f"process {entry.name} ({state}): {words}")
    left += [f"directory {d / name}" for d in (LABS, RUN) if (d / name).exists()]
    return left


def assert_nothing_left(rig: Rig) -> None:
    """Fail with what is left of a lab, after a moment for what is just ending.

    A host's PID 1 has left everything behind, its control group too, while it still waits
    until the machine's own init has reaped the last program that ran inside.
    """
    luns = sorted(rig.seen_luns)
    until(lambda: not left_of(rig.name, luns, rig.pool), seconds=10)
    assert left_of(rig.name, luns, rig.pool) == []


def sigkill_everything(rig: Rig) -> None:
    """SIGKILL every process of a lab at once."""
    cgroup.kill(rig.group)
