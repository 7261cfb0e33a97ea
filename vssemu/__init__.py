"""vssemu: the Volume Shadow Copy Service on real Linux block devices.

    with vssemu.connect() as vss, vss.backup_components() as backup:
        backup.initialize_for_backup()
        ...

`vssemu.trio` holds the same client for trio programs. Names are loaded when they are first
used: a package that has vssemu beside it, as pytest has, pays nothing for that.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vssemu.api.blocking import Async, BackupComponents, Vss
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

_PLACES = {
    "vssemu.api.blocking": ("Async", "BackupComponents", "Vss"),
    "vssemu.vss.attributes": ("Attribute", "Context"),
    "vssemu.vss.enums": (
        "BackupType",
        "ComponentType",
        "HardwareOptions",
        "ObjectType",
        "SnapshotState",
        "WriterState",
    ),
    "vssemu.vss.errors": ("VssError",),
    "vssemu.vss.hresult": ("Hresult",),
}


def connect(
    path: str | Path | None = None, *, lab: str | None = None, host: str | None = None
) -> "Vss":
    """Connect to a VSS service: this host's, or that of a host of a lab, from outside.

    path: of the service's socket, when it is none of these. lab: a lab of this machine
    (default, when a host is named: `lab`). host: one of its hosts.
    Raises OSError with the path; VssError when there is no such lab or host, or it is off, and
    for anybody but root who names a lab.
    """
    from vssemu.api.blocking import VSS_SOCKET, connect

    if lab is None and host is None:
        return connect(VSS_SOCKET if path is None else path)
    from vssemu.lab.reaching import vss_socket

    return connect(vss_socket(lab, host, path))


def __getattr__(name: str) -> Any:
    for place, names in _PLACES.items():
        if name in names:
            return getattr(import_module(place), name)
    raise AttributeError(f"module 'vssemu' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
