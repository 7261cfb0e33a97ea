"""A full pool as hosts see it: a device object that ends, a creation that is told why."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.array.fullrig import disk
from tests.rig.lab.conftest import Labs
from tests.rig.lab.labrig import (
    MIB,
    ONE,
    PERSISTENT,
    TWO,
    Rig,
    create,
    eventually,
    import_set,
    prepared,
)
from vssemu import Context, ObjectType
from vssemu.vss.array import LunState
from vssemu.vss.errors import InsufficientStorage


@pytest.fixture
def small_lab(labs: Labs) -> Iterator[Rig]:
    """A lab whose pool has about 400 MiB; systemOne has F:."""
    rig = labs.new(pool=True)
    assert isinstance(rig.pool, Path)
    rig.pool.rmdir()
    with disk(rig.pool, 512 * MIB, "mkfs.xfs", "-q"):
        try:
            rig.up("F:=400M")
            yield rig
        finally:
            rig.down()
            for path in rig.pool.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def overwrite(path: Path, size: int) -> None:
    """Write a file anew, in place, to the disk; no write may fail."""
    block = os.urandom(MIB)
    with path.open("r+b" if path.exists() else "xb") as file:
        for _ in range(size // MIB):
            file.write(block)
            file.flush()
        os.fsync(file.fileno())


def states(rig: Rig) -> list[LunState]:
    return [lun.state for lun in rig.inventory()]


def test_a_full_pool_as_its_hosts_see_it(small_lab: Rig) -> None:
    rig = small_lab
    file = rig.path(ONE, "/mnt/F/file")
    overwrite(file, 150 * MIB)
    with rig.backup(ONE) as creator:
        made = create(creator, context=PERSISTENT)
        document = creator.save_as_xml()
    with rig.backup(TWO) as importer:
        import_set(importer, document)
        device = importer.get_snapshot_properties(made.copy).device_object
    overwrite(file, 150 * MIB)
    eventually(lambda: LunState.ENDED in states(rig), seconds=30)
    read = rig.exec(TWO, "dd", f"if={device}/file", "of=/dev/null", "bs=1M", timeout=30)
    assert read.returncode != 0
    assert "Input/output error" in read.stderr
    with rig.backup(TWO) as remover:
        remover.initialize_for_backup()
        remover.set_context(Context.ALL)
        gone = remover.delete_snapshots(made.copy, ObjectType.SNAPSHOT, False)
    assert gone.deleted == 1
    eventually(lambda: states(rig) == [LunState.READY])
    rig.assert_writable(ONE)
    overwrite(file, 280 * MIB)
    with rig.backup(ONE) as creator:
        prepared(creator, context=PERSISTENT)
        with pytest.raises(InsufficientStorage, match=r"bytes free|no room left"):
            creator.do_snapshot_set()
    assert states(rig) == [LunState.READY]
    rig.assert_writable(ONE)
