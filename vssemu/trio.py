"""The trio client: `async with vssemu.trio.connect() as vss`."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from vssemu.api import trio_client
from vssemu.api.blocking import VSS_SOCKET
from vssemu.api.trio_client import Async, BackupComponents, Vss

__all__ = ["Async", "BackupComponents", "Vss", "connect"]


def connect(
    path: str | Path | None = None, *, lab: str | None = None, host: str | None = None
) -> AbstractAsyncContextManager[Vss]:
    """Connect to a VSS service for the block; arguments and errors as `vssemu.connect`."""
    if lab is None and host is None:
        return trio_client.connect(VSS_SOCKET if path is None else path)
    from vssemu.lab.reaching import vss_socket

    return trio_client.connect(vss_socket(lab, host, path))
