"""Namespaces, capabilities, control groups: each in a child that is thrown away."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vssemu.linux import capabilities, cgroup, namespaces, processes, run


def child(code: str, *arguments: str) -> Any:
    """Run statements in a new interpreter; they leave their findings in `found`."""
    text = f"import json, os, sys\nfound = None\n{code}\nprint(json.dumps(found))"
    argv = [sys.executable, "-c", text, *arguments]
    return json.loads(run.run(argv, env={"PYTHONPATH": os.getcwd()}, timeout=30).stdout)


def test_a_dropped_capability_is_in_no_set_and_stays_away_after_exec() -> None:
    found = child(
        """
from vssemu.linux import capabilities, run
from vssemu.linux.capabilities import Capability
capabilities.drop([Capability.MKNOD, Capability.SYS_PTRACE, Capability.BPF])
status = run.run(["cat", "/proc/self/status"], timeout=10).stdout.splitlines()
sets = capabilities.capability_sets()
try:
    os.mknod(sys.argv[1], 0o60600, os.makedev(7, 0))
except PermissionError:
    refused = True
found = {
    "refused": refused,
    "status": {k: int(v, 16) for k, v in (l.split(":") for l in status if l.startswith("Cap"))},
    "left": sorted(sets.effective), "bounding": sorted(capabilities.bounding_set()),
}
""",
        f"/tmp/vssemu-node-{os.getpid()}",
    )
    dropped = {27, 19, 39}
    mask = sum(1 << number for number in dropped)
    assert found["refused"]
    assert all(value & mask == 0 for value in found["status"].values())
    assert found["status"]["CapPrm"] != 0
    before = capabilities.capability_sets()
    assert set(found["left"]) == before.effective - dropped
    assert set(found["bounding"]) == capabilities.bounding_set() - dropped


def test_a_capability_that_is_gone_can_be_dropped_again() -> None:
    assert child("""
from vssemu.linux import capabilities
from vssemu.linux.capabilities import Capability
capabilities.drop([Capability.SYS_BOOT])
capabilities.drop([Capability.SYS_BOOT])
found = Capability.SYS_BOOT in capabilities.bounding_set()
""") is False  # fmt: skip


def test_a_host_of_its_own_has_a_name_an_interface_and_a_root(scratch: Path) -> None:
    """This test will build a root tree on a tmpfs and turn to it."""
    found = child(
        """
from pathlib import Path
from vssemu.linux import mount, namespaces
from vssemu.linux.namespaces import Namespace
namespaces.unshare(Namespace.MOUNT | Namespace.UTS | Namespace.NET | Namespace.IPC)
namespaces.set_host_name("systemTwo")
def up():
    return int(Path("/sys/class/net/lo/flags").read_text(), 16) & 1
mount.set_propagation("/", mount.Propagation.PRIVATE, recursive=True)
mount.mount("sysfs", "/sys", "sysfs")
before = up()
namespaces.interface_up("lo")
after = up()
root = Path(sys.argv[1])
mount.mount("tmpfs", root, "tmpfs")
(root / "only").touch()
os.chdir(root)
namespaces.pivot_root(".", ".")
mount.unmount(".", mount.UnmountFlag.DETACH)
os.chdir("/")
found = [os.uname().nodename, before, after, os.listdir("/")]
""",
        str(scratch),
    )
    assert found == ["systemTwo", 0, 1, ["only"]]
    assert os.uname().nodename != "systemTwo"


def test_a_pidfd_lets_another_process_into_the_namespaces_of_a_host() -> None:
    host = run.spawn(["unshare", "--uts", "--net", "sh", "-c",
                      "hostname inside-host; echo ready; exec sleep 100"],
                     stdout=run.PIPE)  # fmt: skip
    assert host.stdout is not None
    try:
        assert host.stdout.readline() == b"ready\n"
        found = child(
            """
from vssemu.linux import namespaces
from vssemu.linux.namespaces import Namespace
fd = namespaces.pidfd_open(int(sys.argv[1]))
namespaces.enter(fd, Namespace.UTS | Namespace.NET)
found = [os.uname().nodename, os.stat("/proc/self/ns/net").st_ino]
""",
            str(host.pid),
        )
        assert found == ["inside-host", os.stat(f"/proc/{host.pid}/ns/net").st_ino]
    finally:
        fd = namespaces.pidfd_open(host.pid)
        namespaces.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)
        assert host.wait(10) == -signal.SIGKILL
        host.stdout.close()


def test_an_unknown_interface_is_named() -> None:
    with pytest.raises(OSError, match="No such device") as caught:
        namespaces.interface_up("none0")
    assert caught.value.filename == "none0"


def test_a_parent_death_signal_ends_the_child(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from vssemu.linux import capabilities
if os.fork() == 0:
    capabilities.set_parent_death_signal(signal.SIGKILL)
    print(os.getpid(), flush=True)
    signal.pause()
signal.pause()
"""
    parent = run.spawn(
        [sys.executable, "-c", code], env={"PYTHONPATH": os.getcwd()}, stdout=run.PIPE
    )
    assert parent.stdout is not None
    identity = processes.identity_of(int(parent.stdout.readline()))
    parent.kill()
    parent.wait(10)
    parent.stdout.close()
    assert processes.wait_gone([identity], time.monotonic() + 10) == ()


@pytest.fixture
def group() -> Iterator[Any]:
    root = cgroup.find_cgroup2()
    if root is None:
        pytest.skip("no cgroup version 2 is mounted")
    made = root / f"vssemu-test-groups-{os.getpid()}"
    cgroup.create(made / "a" / "b")
    yield made
    cgroup.kill(made)
    assert cgroup.wait_empty(made, time.monotonic() + 10)
    cgroup.remove(made)


@pytest.mark.parametrize("killer", [cgroup.kill, cgroup._kill_one_by_one])
def test_a_group_is_killed_with_all_below_it(group: Path, killer: Callable[[Path], None]) -> None:
    sleepers = [run.spawn(["sleep", "100"]) for _ in range(3)]
    try:
        for sleeper, place in zip(sleepers, ["a/b", "a/b", "a"], strict=True):
            cgroup.move(group / place, sleeper.pid)
        assert sorted(cgroup.pids(group)) == sorted(sleeper.pid for sleeper in sleepers)
        assert not cgroup.wait_empty(group, time.monotonic() + 0.05)
        with pytest.raises(OSError, match="busy"):
            cgroup.remove(group)
        killer(group)
        assert cgroup.wait_empty(group, time.monotonic() + 10)
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait(10)


def test_a_group_that_is_gone_is_empty_dead_and_removed(group: Path) -> None:
    gone = group / "gone"
    cgroup.kill(gone)
    cgroup.remove(gone)
    assert cgroup.wait_empty(gone, time.monotonic())
    assert cgroup.pids(gone) == ()
    with pytest.raises(FileNotFoundError):
        cgroup.move(gone, 0)
