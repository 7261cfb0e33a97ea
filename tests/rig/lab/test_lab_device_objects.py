"""Device objects while the programs behind them are killed, again and again.

A reader on the host asks for a file of a persistent copy, in some rounds at once after the
kill and in others once the successors serve, with the tree mounted or not.
VSSEMU_RESTART_ROUNDS: kills of each kind, by default few.
"""

import errno
import hashlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.rig.lab.conftest import Labs
from tests.rig.lab.labrig import ONE, PERSISTENT, TWO, Rig, create, eventually, import_set
from vssemu import Context, ObjectType
from vssemu.lab import hosts, supervisor
from vssemu.linux import fuse
from vssemu.vss.identity import SnapshotId

ROUNDS = int(os.environ.get("VSSEMU_RESTART_ROUNDS", "6"))
READ_LIMIT = 30.0
"""Seconds in which one read ends, whatever comes of it; it may wait for what was killed."""
AWAY_LIMIT = 20.0
"""Seconds in which killed programs serve again, on a machine under load."""
DISTURBED = {errno.ENOTCONN, errno.ENOENT, errno.ESTALE}
"""What a read may get while devicefs is away, on a kernel that does not send again."""
PROGRAMS = {hosts.VSSD: "vssemu.daemons.vssd", hosts.DEVICEFS: "vssemu_fuse.devicefs"}


class Reader:
    """The program on systemTwo that reads."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def ask(self, verb: str, path: str) -> dict[str, Any]:
        """Return what came of a request. Fails when it takes longer than the limit."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([verb, path]).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], READ_LIMIT)
        assert ready, f"{verb} {path} hangs"
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@dataclass(frozen=True)
class Imported:
    """A persistent copy on systemTwo."""

    rig: Rig
    reader: Reader
    copy: SnapshotId
    device: str
    digest: str

    @property
    def file(self) -> str:
        return f"{self.device}/file"


@pytest.fixture(scope="module")
def imported(labs: Labs) -> Iterator[Imported]:
    rig = labs.new()
    try:
        rig.up("F:=64M")
        data = os.urandom(100_000)
        rig.path(ONE, "/mnt/F/file").write_bytes(data)
        with rig.backup(ONE) as creator:
            made = create(creator, context=PERSISTENT)
            document = creator.save_as_xml()
        with rig.backup(TWO) as importer:
            import_set(importer, document)
            device = importer.get_snapshot_properties(made.copy).device_object
        with reading(rig) as reader:
            yield Imported(rig, reader, made.copy, device, hashlib.blake2b(data).hexdigest())
        with rig.backup(TWO) as administrator:
            administrator.initialize_for_backup()
            administrator.set_context(Context.ALL)
            gone = administrator.delete_snapshots(made.copy, ObjectType.SNAPSHOT, False)
            assert gone.deleted == 1
        with pytest.raises(FileNotFoundError):
            os.stat(rig.path(TWO, device))
    finally:
        rig.down()


@contextmanager
def reading(rig: Rig) -> Iterator[Reader]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with rig.running(TWO, sys.executable, "-m", "tests.rig.lab.treereader", **pipes) as process:
        yield Reader(process)


def kill(rig: Rig, *names: str) -> None:
    """SIGKILL programs of systemTwo at once and have them started anew without a pause."""
    control = rig.path(TWO, "/run/vssemu/init.sock")
    for name in names:
        rig.kill(TWO, PROGRAMS[name])
    for name in names:
        # Only what init has buried is started at once.
        eventually(lambda name=name: not supervisor.services(control)[name]["ready"])  # type: ignore[misc]
        supervisor.request(control, {"op": "start", "name": name})


def serve(rig: Rig, *names: str) -> bool:
    """Return whether programs of systemTwo say that they serve."""
    found = supervisor.services(rig.path(TWO, "/run/vssemu/init.sock"))
    return all(found[name]["ready"] for name in names)


def wait_served(rig: Rig, *names: str) -> None:
    for name in names:
        rig.wait_service(TWO, name)


def read_through(imported: Imported, *names: str) -> float:
    """Read until it works and return the seconds until then.

    names: programs that may be away. No read may fail that began when they served.
    """
    started = time.monotonic()
    while True:
        served = serve(imported.rig, *names)
        answer = imported.reader.ask("read", imported.file)
        took = time.monotonic() - started
        if answer["errno"] == 0:
            assert answer["digest"] == imported.digest
            return took
        name = errno.errorcode.get(answer["errno"], str(answer["errno"]))
        assert answer["errno"] in DISTURBED, f"{name} after {took:.2f} s"
        assert not served, f"{name} although {names} serve"
        assert took < AWAY_LIMIT, f"{name} still after {took:.2f} s"


def raw_device(imported: Imported) -> int:
    """Return the number of the copy's block device."""
    path = imported.device.replace("/Device/", "/RawDevice/")
    return imported.rig.path(TWO, path).stat().st_rdev


@pytest.mark.parametrize(
    "names",
    [(hosts.VSSD,), (hosts.DEVICEFS,), (hosts.VSSD, hosts.DEVICEFS)],
    ids=["vssd", "devicefs", "both"],
)
def test_a_copy_reads_on_after_each_of_many_kills(
    imported: Imported, names: tuple[str, ...]
) -> None:
    """Walkers wait and nothing fails; on an older kernel, nothing once the programs serve."""
    may_fail = not fuse.kernel_resends()
    reader, rig = imported.reader, imported.rig
    assert reader.ask("read", imported.file)["errno"] == 0
    device = raw_device(imported)
    for number in range(ROUNDS):
        is_mounted, is_at_once = bool(number & 1), bool(number & 2)
        if is_mounted:
            assert reader.ask("read", imported.file)["errno"] == 0
        else:
            # EINVAL: the last read met the tree of the devicefs that was killed.
            assert reader.ask("unmount", imported.device)["errno"] in {0, errno.EINVAL}
        kill(rig, *names)
        if not is_at_once:
            wait_served(rig, *names)
        absent = [name for name in names if name == hosts.DEVICEFS and may_fail]
        took = read_through(imported, *absent)
        print(f"{is_mounted=} {is_at_once=}: read after {took:.3f} s")
        wait_served(rig, *names)
        if names == (hosts.VSSD,):
            assert raw_device(imported) == device
