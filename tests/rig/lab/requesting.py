"""What a requester does in a cell of the kill table: in a thread, or as a program to be killed.

python -m tests.rig.lab.requesting ACT SOCKET [SET | FILE | CONTEXT]
"""

import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import vssemu
from tests.rig.lab.labrig import begin_import, complete, prepared
from vssemu import BackupComponents, Context, HardwareOptions, ObjectType, Vss
from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import VssError, error_for
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import SnapshotId, SnapshotSetId


def create(vss: Vss, context: str) -> None:
    """Make a set of F:, tell the writers that it was backed up, and release it."""
    with vss.backup_components() as backup:
        made = prepared(backup, context=int(context))
        backup.do_snapshot_set()
        complete(backup, made)


def import_set(vss: Vss, document: str) -> None:
    """Import the set of the document in a file, and release it."""
    with vss.backup_components() as backup:
        begin_import(backup, Path(document).read_text())
        backup.import_snapshots()
        assert [copy.device_object for copy in backup.query()] != [""]


def delete(vss: Vss, set_id: str) -> None:
    """Delete a set."""
    with _administering(vss) as backup:
        deleted = backup.delete_snapshots(SnapshotId(UUID(set_id)), ObjectType.SNAPSHOT_SET, False)
        if deleted.hresult != Hresult.S_OK:
            raise error_for(deleted.hresult, deleted.fact)
        assert deleted.deleted == 1


def break_set(vss: Vss, set_id: str) -> None:
    """Break a set."""
    with _administering(vss) as backup:
        backup.break_snapshot_set(SnapshotSetId(UUID(set_id)))


def break_for_writing(vss: Vss, set_id: str) -> None:
    """Break a set and make its volumes writable."""
    _break_ex(vss, set_id, HardwareOptions.MAKE_READ_WRITE)


def mask(vss: Vss, set_id: str) -> None:
    """Break a set and mask its LUNs."""
    _break_ex(vss, set_id, HardwareOptions.MASK_LUNS)


def _break_ex(vss: Vss, set_id: str, flags: HardwareOptions) -> None:
    with _administering(vss) as backup:
        backup.break_snapshot_set_ex(SnapshotSetId(UUID(set_id)), flags)


def _administering(vss: Vss) -> BackupComponents:
    backup = vss.backup_components()
    backup.initialize_for_backup()
    backup.set_context(Context.ALL)
    return backup


ACTS: dict[str, Callable[[Vss, str], None]] = {
    act.__name__: act for act in (create, import_set, delete, break_set, break_for_writing, mask)
}


def outcome(act: str, socket: Path, argument: str) -> str:
    """Do an act and return what the requester heard, as the kill table has it."""
    try:
        with vssemu.connect(socket) as vss:
            ACTS[act](vss, argument)
    except VssError as error:
        return error.hresult.name
    except RpcError:
        return "connection lost"
    return "ok"


if __name__ == "__main__":
    print(outcome(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
