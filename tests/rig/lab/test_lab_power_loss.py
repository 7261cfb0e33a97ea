"""SIGKILL of every process of a lab at once, under a write load; then `lab down`."""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.rig.lab.faultrig import FAULTY_ID, register, stopped_at
from tests.rig.lab.labrig import (
    ONE,
    PERSISTENT,
    TWO,
    VSSEMU,
    Rig,
    assert_nothing_left,
    create,
    digest,
    eventually,
    import_set,
    prepared,
    sigkill_everything,
)
from vssemu.array import leftovers
from vssemu.linux import gpt
from vssemu.rpc.errors import RpcBroken, RpcClosed
from vssemu.vss.identity import LunId

SEED = random.randrange(1 << 32)

LOAD = """
import os, sys
number = 0
while True:
    number += 1
    with open(f'/mnt/F/load-{number % 50}', 'wb') as file:
        file.write(os.urandom(20000))
        if number % 7 == 0:
            os.fsync(file.fileno())
    os.rename(f'/mnt/F/load-{number % 50}', f'/mnt/F/moved-{number % 50}')
    if number == 20:
        print('loaded', flush=True)
"""

LOOP = """
import vssemu
from tests.rig.lab.labrig import create
with vssemu.connect() as vss:
    while True:
        with vss.backup_components() as backup:
            create(backup)
            print('created', flush=True)
"""


@contextmanager
def loaded(rig: Rig) -> Iterator[None]:
    """Have another process write to F: during the block."""
    with rig.running(ONE, sys.executable, "-c", LOAD, stdout=subprocess.PIPE) as load:
        assert load.stdout is not None
        assert load.stdout.readline() == b"loaded\n"
        yield


def assert_down_and_clean(rig: Rig) -> None:
    """Take a lab down by the command; nothing is left, and the image is clean."""
    rig.seen_luns.update(_luns(rig))
    done = subprocess.run(
        [VSSEMU, "lab", "down", "--name", rig.name],
        timeout=90,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert_nothing_left(rig)
    assert_origin_clean(rig)


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True)


def _luns(rig: Rig) -> list[LunId]:
    return leftovers.lun_ids(rig.pool / "array")


def assert_origin_clean(rig: Rig) -> None:
    """Mount the origin's partition once, which replays its log; then e2fsck finds nothing."""
    with ExitStack() as stack:
        root = rig.pool / "root"
        image = rig.pool / "pool.img"
        if image.exists():
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=rig.pool)))
            subprocess.run(["mount", "-o", "loop", image, root], check=True)
            stack.callback(_run, "umount", root)
        (origin,) = [
            file
            for file in (root / "luns").rglob("*")
            if file.is_file() and file.stat().st_size == 96 << 20 and _is_base(rig, file)
        ]
        with origin.open("rb") as file:
            (partition,) = gpt.read_table(file.fileno()).partitions
        first, blocks = partition.first_lba, partition.last_lba + 1 - partition.first_lba
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=rig.pool)))
        device = subprocess.run(
            [
                *("losetup", "--find", "--show", "--sector-size", "4096"),
                *("--offset", str(first * 4096), "--sizelimit", str(blocks * 4096)),
                origin,
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        try:
            subprocess.run(["mount", "-t", "ext4", device, place], check=True)
            subprocess.run(["umount", place], check=True)
            checked = subprocess.run(
                ["e2fsck", "-fn", device], check=False, capture_output=True, text=True
            )
        finally:
            subprocess.run(["losetup", "-d", device], check=True)
        assert checked.returncode == 0, checked.stdout


def _is_base(rig: Rig, file: Path) -> bool:
    """Tell whether a file is of the one LUN that the lab was brought up with."""
    first = min(_luns(rig), key=lambda lun: lun[-10:])
    return first in str(file)


@pytest.mark.parametrize("round_", range(3))
def test_a_power_loss_at_a_random_moment_of_a_creation_leaves_nothing(
    own_lab: Callable[..., Rig], round_: int
) -> None:
    moment = random.Random(SEED + round_)
    rig = own_lab("F:=96M", pool=True)
    with loaded(rig), rig.running(ONE, sys.executable, "-c", LOOP, stdout=subprocess.PIPE) as loop:
        assert loop.stdout is not None
        created = moment.randrange(1, 4)
        for _ in range(created):
            assert loop.stdout.readline() == b"created\n"
        # The moment: between one creation and the next, any of their steps may be under way.
        after = moment.uniform(0.0, 0.25)
        with pytest.raises(subprocess.TimeoutExpired):
            loop.wait(after)
        sigkill_everything(rig)
    print(f"seed {SEED}, after {created} creations and {after:.3f} s")
    assert_down_and_clean(rig)


def test_a_power_loss_in_the_hold_leaves_nothing_frozen(
    own_lab: Callable[..., Rig],
) -> None:
    """The worst moment: the volume is frozen, its writer waits and ignores SIGKILL."""
    rig = own_lab("F:=96M", pool=True)
    with rig.vss(ONE) as vss:
        register(vss.client)
    with loaded(rig), rig.vss(ONE) as vss, stopped_at(rig, "commit_snapshots") as wait_reached:
        backup = vss.backup_components()
        prepared(backup, provider=FAULTY_ID)
        operation = backup.do_snapshot_set.begin()
        wait_reached()
        sigkill_everything(rig)
        with pytest.raises((RpcBroken, RpcClosed, OSError)):
            operation.wait(10)
        assert_down_and_clean(rig)


def test_after_a_power_loss_persistent_copies_are_there_and_nonpersistent_ones_gone(
    own_lab: Callable[..., Rig],
) -> None:
    """`lab up` of the same lab after everything was killed is the restart of the machine."""
    rig = own_lab("F:=96M", pool=True)
    data = rig.path(ONE, "/mnt/F/data")
    data.mkdir()
    (data / "file").write_bytes(os.urandom(100_000))
    os.sync()
    frozen = digest(data)
    with rig.backup(ONE) as creator:
        kept = create(creator, context=PERSISTENT)
        document = creator.save_as_xml()
    with rig.backup(TWO) as importer:
        import_set(importer, document)
    with rig.vss(ONE) as vss:
        held = create(vss.backup_components(), context=0)
        luns = len(rig.lun_ids())
        sigkill_everything(rig)
    eventually(lambda: not rig.lab.status().running)
    rig.up("F:=96M")
    assert luns == 3
    eventually(lambda: len(rig.lun_ids()) == 2)
    for host, expected in ((ONE, []), (TWO, [kept.copy])):
        with rig.backup(host) as administrator:
            administrator.initialize_for_backup()
            administrator.set_context(0xFFFFFFFF)
            found = administrator.query()
            assert [p.snapshot_id for p in found] == expected, f"{held.copy} is nonpersistent"
    tree = rig.path(TWO, found[0].device_object) / "data"
    eventually(tree.is_dir)
    assert digest(tree) == frozen
    assert digest(rig.path(ONE, "/mnt/F/data")) == frozen
    rig.assert_writable(ONE)
