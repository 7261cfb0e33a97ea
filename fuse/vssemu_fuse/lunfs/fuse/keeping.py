"""The connection and the mount of a lunfs, which outlive it.

The mount is attached nowhere: it hangs on its descriptor, and on the files that are open in
it. The starter of lunfs keeps that descriptor and the connection's. So when lunfs is killed
the kernel goes on queueing requests, and the next lunfs has them sent again (kernel 6.9). When
lunfs is not to come back the starter closes both, and requests fail.

A mount that was ended cannot be used any more, nor one whose connection was not kept: then
there is a new one, and files of the old one fail.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from vssemu import logs
from vssemu.linux import fuse, mount
from vssemu.linux.fdstore import Store
from vssemu_fuse.lunfs.fuse.connection import LARGEST

CONNECTION: Final = "fuse"
MOUNT: Final = "mount"
_ATTRIBUTES: Final = mount.MountAttribute.NOSUID | mount.MountAttribute.NODEV

_log = logs.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """The descriptors, which belong to the holder. is_taken_over: requests may be unanswered."""

    connection: int
    mounted: int
    is_taken_over: bool


def connect(store: Store, kept: dict[str, int], *, name: str) -> Link:
    """Return the kept connection and mount if they can go on, else new ones, which are kept.

    kept: what the starter kept; the two are taken out of it. name: the mount's source.
    Raises OSError: FileNotFoundError without /dev/fuse, EPERM; when the starter keeps nothing.
    """
    connection, mounted = kept.pop(CONNECTION, None), kept.pop(MOUNT, None)
    if connection is not None and mounted is not None and fuse.is_connected(connection):
        return Link(connection=connection, mounted=mounted, is_taken_over=True)
    for each in (connection, mounted):
        if each is not None:
            os.close(each)
    return _make(store, name)


def _make(store: Store, name: str) -> Link:
    connection = fuse.open_connection()
    try:
        mounted = _mount(connection, name)
    except OSError:
        os.close(connection)
        raise
    # INIT is answered later: if lunfs is killed before that, the next one gets it.
    store.keep(MOUNT, mounted)
    if not fuse.kernel_resends():
        _log.warning("when lunfs is killed its LUNs fail: this kernel is older than 6.9")
        store.forget(CONNECTION)
    elif not store.is_there:
        _log.warning("when lunfs is killed its LUNs fail: its starter keeps no descriptors")
    else:
        store.keep(CONNECTION, connection)
    store.settle()
    return Link(connection=connection, mounted=mounted, is_taken_over=False)


def _mount(connection: int, name: str) -> int:
    options = {
        "fd": str(connection),
        "rootmode": "40000",
        "user_id": "0",
        "group_id": "0",
        "allow_other": None,
        "max_read": str(LARGEST),
        "subtype": "lunfs",
    }
    return mount.detached_mount("fuse", name, options, read_only=False, attributes=_ATTRIBUTES)
