"""What a careless or hostile administrator does to lunfs: it refuses in words, and goes on."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig.lunfs.faultrig import FaultRig, fault_rig, read, write
from tests.rig.lunfs.lunfsrig import BLOCK, MIB, PATIENCE, run, wait_until
from vssemu.api import shard as api
from vssemu.api.errors import decode_error
from vssemu.linux.aio import Context
from vssemu.rpc.client import connect
from vssemu.vss.engine import CopyPair
from vssemu.vss.errors import BadState, InvalidArgument
from vssemu.vss.identity import LunId

TIB = 1 << 40


@pytest.fixture(scope="module")
def one(module_directory: Path) -> Iterator[FaultRig]:
    with fault_rig(module_directory) as made:
        yield made


@pytest.fixture
def own(directory: Path) -> Iterator[FaultRig]:
    """A rig that is not used any more afterwards."""
    with fault_rig(directory) as made:
        yield made


def name(number: int) -> LunId:
    return LunId(f"naa.6{number:031x}")


def lunfs(*words: str | Path, limit: int = 1000) -> list[str]:
    """Return the command of a lunfs with so many descriptors."""
    program = [sys.executable, "-m", "vssemu_fuse.lunfs", *map(str, words)]
    return ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *program]


@contextmanager
def second_lunfs(socket: Path) -> Iterator[None]:
    process = subprocess.Popen(
        lunfs("--number", "0", "--socket", socket), stderr=subprocess.DEVNULL
    )
    try:
        wait_until(socket.exists, "the second lunfs listens")
        yield
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_a_pool_has_one_lunfs_of_a_number(own: FaultRig, directory: Path) -> None:
    lun = own.lun()
    socket = directory / "second.sock"
    luns = os.open(own.pool, os.O_RDONLY | os.O_DIRECTORY)
    with second_lunfs(socket), connect(socket, decode_error=decode_error) as second:
        for _ in range(2):
            with pytest.raises(BadState, match="another lunfs with the number 0") as refusal:
                second.call(api.serve, os.getpid(), luns, 1)
            assert "end it" in (refusal.value.hint or "")
            # Nor may it come in between.
            own.rig.restart()
        assert own.call(api.usage, lun).size == 16 * MIB
        own.rig.kill_for_good()
        assert second.call(api.serve, os.getpid(), luns, 1) == [lun]
    os.close(luns)


@pytest.mark.parametrize(("limit", "words"), [(1000, "listening there already"), (12, "open f")])
def test_what_keeps_lunfs_from_starting_is_one_line(one: FaultRig, limit: int, words: str) -> None:
    starts = one.rig.facts()["starts"]
    command = lunfs("--number", "0", "--socket", one.rig.socket(0), limit=limit)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if "lunfs_failed" in line]
    assert words in line
    assert "Traceback" not in ended.stderr
    assert one.rig.facts()["starts"] == starts


def test_more_requests_than_the_machine_has_room_for_are_refused_with_a_remedy() -> None:
    most = int(Path("/proc/sys/fs/aio-max-nr").read_text())
    with pytest.raises(OSError, match="aio-max-nr"):
        Context(most + 1)


def test_without_descriptors_data_is_served_and_calls_fail_until_there_are_some(
    one: FaultRig,
) -> None:
    lun = one.lun()
    starts, pid = one.rig.facts()["starts"], one.rig.pid()
    with one.rig.loop(lun) as device:
        write(device, 0, b"a" * BLOCK)
        one.snapshot(lun)
        for spare in (1, 2, 3, 4):
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            used = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + spare, limits[1]))
            try:
                one.snapshot(lun)
            except Exception as error:  # noqa: BLE001
                print(f"{spare}: {error!r}")
            write(device, spare, b"b" * BLOCK)
            assert read(device, spare) == b"b" * BLOCK
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        snapshot = one.snapshot(lun)
        write(device, 0, b"c" * BLOCK)
    assert one.rig.facts()["starts"] == starts
    descriptor = one.rig.open(snapshot, flags=os.O_RDONLY)
    assert os.pread(descriptor, 2 * BLOCK, 0) == b"a" * BLOCK + b"b" * BLOCK
    os.close(descriptor)


@pytest.mark.parametrize("size", [0, -4096, 4096, MIB + 4096, 1 << 63])
def test_a_size_that_chunks_do_not_divide_is_refused(one: FaultRig, size: int) -> None:
    with pytest.raises(InvalidArgument, match=f"cannot have {size} bytes") as refusal:
        one.call(api.create, name(77), size)
    assert "multiple of 1 MiB" in (refusal.value.hint or "")


def test_names_that_leave_the_pool_and_copies_that_are_two_are_refused(one: FaultRig) -> None:
    lun = one.lun(MIB)
    for bad in ("../../x", "", ".", "a/b"):
        with pytest.raises(InvalidArgument, match="not the name"):
            one.call(api.create, LunId(bad), MIB)
        with pytest.raises(InvalidArgument, match="not the name"):
            one.call(api.prepare, [CopyPair(source=lun, target=LunId(bad))])
    twice = [CopyPair(source=lun, target=name(78))] * 2
    with pytest.raises(InvalidArgument, match="two copies"):
        one.call(api.prepare, twice)
    with pytest.raises(InvalidArgument, match="two copies"):
        one.call(api.commit, twice)


def test_a_lun_whose_record_is_damaged_is_not_made_anew(one: FaultRig) -> None:
    lun = one.lun(MIB)
    with one.rig.loop(lun) as device:
        write(device, 0, b"a" * BLOCK)
    with one.rig.dead():
        (one.pool / lun / "chain").write_text("nonsense")
    with pytest.raises(BadState, match="is there already"):
        one.call(api.create, lun, MIB)
    assert (one.pool / lun / "image").read_bytes()[:BLOCK] == b"a" * BLOCK


def test_a_store_without_room_ends_its_snapshot_alone(one: FaultRig) -> None:
    pairs, elders = [], []
    for limit in (0, 1, 100_000, 256 << 10):
        lun = one.lun(MIB)
        with one.rig.loop(lun) as device:
            write(device, 0, b"a" * BLOCK)
        elders.append(one.snapshot(lun))
        pairs.append(CopyPair(source=lun, target=name(1000 + limit)))
        one.call(api.prepare, pairs[-1:], limit)
        one.call(api.commit, pairs[-1:])
    one.rig.restart()
    for pair in pairs:
        with one.rig.loop(pair.source) as device:
            for block in range(0, 256, 16):
                write(device, block, b"b" * BLOCK)
    one.rig.restart()
    invalid = one.call(api.invalid)
    for pair, elder in zip(pairs, elders, strict=True):
        assert (pair.target in invalid, elder in invalid) == (True, False)
        descriptor = one.rig.open(elder, flags=os.O_RDONLY)
        assert os.pread(descriptor, MIB, 0) == b"a" * BLOCK + bytes(MIB - BLOCK)
        os.close(descriptor)


def test_a_lun_of_64_tib_costs_what_is_written_to_it(one: FaultRig) -> None:
    lun = one.lun(64 * TIB)
    elder = one.snapshot(lun)
    last = 64 * TIB // BLOCK - 1
    with one.rig.loop(lun) as device:
        write(device, last, b"z" * BLOCK)
        one.snapshot(lun)
        write(device, last, b"y" * BLOCK)
        one.rig.restart()
        run("blkdiscard", device.path)
        assert read(device, last) == bytes(BLOCK)
    with one.rig.loop(elder, writable=False) as device:
        assert read(device, last) == bytes(BLOCK)
    assert one.call(api.usage, elder).allocated < 4 * MIB
