"""The service killed at chosen moments on a real host: what the next one finds and mends."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.rig.lab.labrig import ONE, Rig, eventually
from vssemu import BackupComponents, Context, ObjectType, VssError
from vssemu.rpc.errors import RpcError
from vssemu.vss.snapshot import SnapshotProperties

VSSD, RUNNER = "vssemu.daemons.vssd", "vssemu.daemons.provider_runner"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    made = Rig("rig-service")
    made.up("F:=256M:ext4", hosts=(ONE,))
    yield made
    made.down()


def begun(backup: BackupComponents) -> None:
    """Go on to just before DoSnapshotSet."""
    backup.initialize_for_backup()
    backup.set_context(Context.APP_ROLLBACK)
    backup.gather_writer_metadata()
    backup.start_snapshot_set()
    backup.add_to_snapshot_set("F:\\")


def copies(rig: Rig) -> list[SnapshotProperties]:
    with rig.backup(ONE) as backup:
        backup.initialize_for_backup()
        backup.set_context(Context.ALL)
        return list(backup.query())


def answers(rig: Rig) -> bool:
    with contextlib.suppress(OSError, RpcError, VssError):
        copies(rig)
        return True
    return False


def content(rig: Rig, path: str) -> str | None:
    """Return what a file of the host holds, None while it cannot be read."""
    try:
        return rig.path(ONE, path).read_text()
    except OSError:
        return None


def delete_all(rig: Rig) -> None:
    with rig.backup(ONE) as backup:
        backup.initialize_for_backup()
        backup.set_context(Context.ALL)
        for copy in backup.query():
            backup.delete_snapshots(copy.snapshot_id, ObjectType.SNAPSHOT, False)


def test_a_persistent_copy_is_there_again_and_no_provider_is_left_over(rig: Rig) -> None:
    rig.path(ONE, "/mnt/F/kept").write_text("kept")
    with rig.backup(ONE) as backup:
        begun(backup)
        backup.do_snapshot_set()
    (before,) = copies(rig)
    assert len(rig.pids(ONE, RUNNER)) == 1
    rig.kill(ONE, VSSD)
    eventually(lambda: not rig.pids(ONE, RUNNER))
    eventually(lambda: answers(rig))
    (after,) = copies(rig)
    assert after == before
    # devicefs finds its way back to the new service by itself, in its own time.
    eventually(lambda: content(rig, f"{after.device_object}/kept") == "kept")
    delete_all(rig)
    assert len(rig.lun_ids()) == 1
