"""Taking a creation back: after a failure or Ctrl-C nothing of it is left.

A set that is on this host is deleted. One that is not, because it is transportable, is held
for its creator and ends with the object, unless it is persistent: that one is imported for
the purpose, for there is no other way to its LUNs.
"""

from contextlib import suppress

from vssemu.api.blocking import BackupComponents
from vssemu.rpc.errors import RpcError
from vssemu.tools.diskshadow.failures import Failed
from vssemu.tools.diskshadow.requester import Requester, finish, release
from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.enums import ObjectType
from vssemu.vss.errors import ObjectNotFound, VssError
from vssemu.vss.identity import SnapshotId, SnapshotSetId

_ANY = (VssError, RpcError, OSError)


def take_back(
    requester: Requester,
    vss_object: BackupComponents,
    set_id: SnapshotSetId | None,
    mask: int,
) -> None:
    """End a creation, whatever it has come to, and release its object.

    set_id: None before StartSnapshotSet. mask: its context. Never raises for a service that
    refuses or is gone: the caller is on its way out with the first failure.
    """
    document = None
    if mask & Attribute.TRANSPORTABLE and mask & Attribute.PERSISTENT and set_id is not None:
        with suppress(*_ANY):
            document = vss_object.save_as_xml()
    with suppress(*_ANY):
        vss_object.abort_backup()
    if set_id is not None:
        with suppress(*_ANY):
            _delete(vss_object, set_id)
    release(vss_object)
    if document is not None and set_id is not None:
        with suppress(Failed, *_ANY), requester.backup(int(Context.ALL), document) as importer:
            finish(importer.import_snapshots)
            _delete(importer, set_id)


def _delete(vss_object: BackupComponents, set_id: SnapshotSetId) -> None:
    with suppress(ObjectNotFound):
        vss_object.delete_snapshots(SnapshotId(set_id), ObjectType.SNAPSHOT_SET, True)
