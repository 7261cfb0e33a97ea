"""vssemu: the Volume Shadow Copy Service on real Linux block devices.

    with vssemu.connect() as vss, vss.backup_components() as backup:
        backup.initialize_for_backup()
        ...

`vssemu.trio` holds the same client for trio programs.
"""

from vssemu.api.blocking import Async, BackupComponents, Vss, connect
from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.enums import (
    BackupType,
    ComponentType,
    HardwareOptions,
    ObjectType,
    SnapshotState,
    WriterState,
)
from vssemu.vss.errors import VssError
from vssemu.vss.hresult import Hresult

__all__ = [
    "Async",
    "Attribute",
    "BackupComponents",
    "BackupType",
    "ComponentType",
    "Context",
    "HardwareOptions",
    "Hresult",
    "ObjectType",
    "SnapshotState",
    "Vss",
    "VssError",
    "WriterState",
    "connect",
]
